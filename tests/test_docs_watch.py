"""The page on console and command line is as true as the code: its snippets run, and its exit codes are those."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from huleedu_service_libs.cli.errors import ExitCode
from huleedu_service_libs.console import Console

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "how-to" / "watch-and-mend.md").read_text(encoding="utf-8")
TOKEN = "a-token-of-some-length"


async def test_the_console_of_the_page_shows_its_sections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both snippets run as they stand, and what they build is on the page, behind the token."""
    monkeypatch.setenv("CONSOLE_TOKEN", TOKEN)
    names: dict[str, Any] = {}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(snippet, "watch-and-mend.md", "exec"), names)  # noqa: S102  # the page of this repository
    both = Console([names["CacheSection"]()])
    for app, text in ((names["console"], "kafka_producer"), (both, "97 % hits")):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://service", auth=("", TOKEN)) as client:
            answer = await client.get("/")
        assert (answer.status_code, text in answer.text) == (200, True)


def test_the_exit_codes_of_the_page() -> None:
    """The page names each code once."""
    said = PAGE.partition("Exit codes: ")[2]
    assert [int(number) for number in re.findall(r"\d", said)] == list(ExitCode)
