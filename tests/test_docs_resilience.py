"""The page on resilience is as true as the code: its snippets run as they stand."""

import asyncio
import re
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from common_core import EventEnvelope
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.kafka import FileJournal, FileSpill
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.resilience import CircuitBreakerError, CircuitBreakerRegistry, Pipeline

PAGE = Path(__file__).resolve().parent.parent / "docs" / "concepts" / "resilience.md"


def _snippet(number: int) -> dict[str, Any]:
    found = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(found[number], PAGE.name, "exec"), names)  # noqa: S102  # the page of this repository
    return names


async def test_the_pipeline_of_the_page_answers_and_falls_back() -> None:
    """It asks, answers with the fallback when everything has failed, and its breaker is the one that is named."""
    names = _snippet(0)
    pipeline: Pipeline = names["llm"]
    asked: list[str] = []

    async def ask(text: str) -> str:
        asked.append(text)
        return f"good {text}"

    async def fail(_text: str) -> str:
        await asyncio.sleep(0)
        raise CircuitBreakerError("open")

    assert await names["feedback"](ask, "essay") == "good essay"
    assert asked == ["essay"]
    assert await names["feedback"](fail, "essay") == "no feedback at the moment"
    assert "llm" in repr(vars(pipeline))


async def test_the_journal_of_the_page(tmp_path: Path) -> None:
    """A provider of the page has the journal; its place may be text, as settings have it, and is used."""
    settings = SimpleNamespace(
        KAFKA_BOOTSTRAP_SERVERS="nowhere:1", PRODUCER_CLIENT_ID="p", CIRCUIT_BREAKER_ENABLED=True
    )
    provider = _snippet(1)["kafka_provider"](settings)
    assert provider._spill.path == Path("/var/lib/essays/kafka-journal")
    for spill in (FileJournal(str(tmp_path / "journal")), FileSpill(str(tmp_path / "spill"))):
        message: QueuedMessage[Any] = QueuedMessage(
            queued_at=datetime.now(UTC),
            topic="t",
            envelope=EventEnvelope(event_type="t", source_service="s", data={}),
            key="k",
        )
        await spill.save([message])
        assert [each.topic for each in await spill.load()] == ["t"]
        assert spill.path.exists()
        if isinstance(spill, FileJournal):
            await spill.close()


async def test_the_http_client_of_the_page() -> None:
    """It fetches; what is not found opens nothing; three calls that fail do, and then nobody asks the server any more."""
    names, asked = _snippet(2), []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.match_info["essay"])
        return web.Response(text="good", status={"gone": 404, "broken": 503}.get(asked[-1], 200))

    app = web.Application()
    app.router.add_get("/rubrics/{essay}", answer)
    registry = CircuitBreakerRegistry()
    async with TestServer(app) as server, names["rubric_client"](registry) as client:
        ask = partial(names["rubric"], client, f"http://{server.host}:{server.port}")
        assert await ask("e-1") == "good"
        for _ in range(5):
            with pytest.raises(HuleEduError, match="RESOURCE_NOT_FOUND"):
                await ask("gone")
        for _ in range(3):
            with pytest.raises(HuleEduError, match="SERVICE_UNAVAILABLE"):
                await ask("broken")
        assert asked.count("broken") == 6  # each once more
        with pytest.raises(CircuitBreakerError):
            await ask("e-1")
        assert asked.count("e-1") == 1
    breaker = registry.get("rubrics")
    assert breaker is not None
    assert breaker.state.value == "open"
