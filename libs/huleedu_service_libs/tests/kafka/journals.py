"""Journals of tests: messages to keep, and what the next life would find."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from huleedu_service_libs.kafka.fallback_handler import QueuedMessage
from huleedu_service_libs.kafka.journal import FileJournal

from .publishers import envelope


def waiting_message(number: int, key: str | None = "k") -> QueuedMessage[Any]:
    """A message of that number, waiting since now."""
    return QueuedMessage("t", envelope(number), key, datetime.now(UTC), headers={"h": "å"})


def numbers_of(messages: list[QueuedMessage[Any]]) -> list[int]:
    """What its messages carry."""
    return [message.envelope.data["n"] for message in messages]


async def load_again(path: Path) -> list[QueuedMessage[Any]]:
    """What the next life finds."""
    journal = FileJournal(path)
    try:
        return await journal.load()
    finally:
        await journal.close()


async def left_behind(path: Path) -> list[int]:
    """What the next life would find, without touching it."""
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    return numbers_of(await load_again(copy))
