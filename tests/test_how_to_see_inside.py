"""The page about seeing inside a service is as true as the code: its snippets run, its metrics exist."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.snippets import names_of

PAGE = Path(__file__).resolve().parent.parent / "docs/how-to/see-inside-a-service.md"


@pytest.fixture(name="names", scope="module")
def _names() -> dict[str, Any]:
    """What the page's snippets define; no provider is set, so that nothing is exported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_SDK_DISABLED", "true")
        return names_of(PAGE)


async def _get(app: Any, path: str, **headers: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.get(path, headers=headers)


async def test_the_snippets_do_what_the_page_says(names: dict[str, Any]) -> None:
    """Both applications answer with ids, and the endpoint of the first shows both under their templates."""
    for app in (names["app"], names["api"]):
        answer = await _get(app, "/v1/essays/7")
        assert answer.json() == {"essay_id": "7"}
        assert {"x-correlation-id", "x-trace-id", "x-span-id", "traceparent"} <= set(answer.headers)
    text = (await _get(names["app"], "/metrics", Accept="application/openmetrics-text")).text
    assert 'endpoint="/v1/essays/<essay_id>"' in text
    assert 'endpoint="/v1/essays/{essay_id}"' in text
    assert text.endswith("# EOF\n")
    assert names["count_words"]("one two") == 2
    assert names["settings"].sample_ratio == 0.01


async def test_every_metric_of_the_page_exists(names: dict[str, Any]) -> None:
    """The table and the text name what the code registers, with those labels."""
    await _get(names["app"], "/v1/essays/7")
    text = (await _get(names["app"], "/metrics")).text
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(rows) > 5
    for row in rows:
        first, second = row.strip("|").split("|")
        for metric in re.findall(r"`(\w+)`", first):
            assert f"# TYPE {metric} " in text
            (found,) = re.findall(rf"^{metric}(?:_count)?{{(.*?)}}", text, flags=re.MULTILINE)[:1] or [None]
            if found is not None:
                assert set(re.findall(r"`(\w+)`", second)) - {"_count"} == set(re.findall(r"(\w+)=", found))
