"""The page on resilience is as true as the code: its snippets run as they stand."""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from common_core import EventEnvelope
from huleedu_service_libs.kafka import FileJournal, FileSpill
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.resilience import CircuitBreakerError, Pipeline

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
