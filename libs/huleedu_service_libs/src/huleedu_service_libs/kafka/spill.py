"""Where messages go that a publisher could not send before it was stopped.

`FileSpill` keeps them for the next start, ``journal.FileJournal`` keeps them from the moment on in which they wait;
``outbox.spill`` hands them to the outbox. Any object with the methods of `MessageSpill` will do.
"""

import asyncio
import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import _json
from huleedu_service_libs.kafka.fallback_handler import QueuedMessage

__all__ = ["FileSpill", "MessageSpill", "fields_of", "message_of"]


class MessageSpill(Protocol):
    """Keeps unsent messages beyond the life of a publisher.

    A class may do more: ``append(message)`` and ``remove(message)``, to survive a crash; ``take(message)`` and
    ``holds(topic, key)``, to send them itself; ``close()``. All of these are async.
    """

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """Keep exactly these, in this order, in place of what was kept; none empties it."""
        ...

    async def load(self) -> list[QueuedMessage[Any]]:
        """What is kept, in order. It stays kept until the next `save`, so that a crash loses nothing."""
        ...


class FileSpill:
    """Keeps messages as lines of JSON in a file, replaced as a whole.

    Args:
        path: The file; one publisher uses it.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    async def save(self, messages: Sequence[QueuedMessage[Any]]) -> None:
        """See `MessageSpill`."""
        await asyncio.to_thread(self._write, b"".join(_json.dumps(fields_of(message)) + b"\n" for message in messages))

    async def load(self) -> list[QueuedMessage[Any]]:
        """See `MessageSpill`."""
        return [message_of(json.loads(line)) for line in (await asyncio.to_thread(self._read)).splitlines()]

    def _write(self, content: bytes) -> None:
        if not content:
            self.path.unlink(missing_ok=True)
            return
        new = self.path.with_name(self.path.name + ".new")
        new.write_bytes(content)
        new.replace(self.path)

    def _read(self) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            return b""


def fields_of(message: QueuedMessage[Any]) -> dict[str, Any]:
    """A message as JSON data."""
    return {
        "topic": message.topic,
        "envelope": message.envelope.model_dump(mode="json"),
        "key": message.key,
        "queued_at": message.queued_at.isoformat(),
        "retry_count": message.retry_count,
        "headers": message.headers,
    }


def message_of(fields: dict[str, Any]) -> QueuedMessage[Any]:
    """The message that `fields_of` gave.

    Raises:
        KeyError: A field is missing.
        TypeError: There is one too many.
        ValueError: An envelope or a time makes no sense.
    """
    envelope = EventEnvelope[Any].model_validate(fields["envelope"])
    queued_at = datetime.fromisoformat(fields["queued_at"])
    return QueuedMessage(**{**fields, "envelope": envelope, "queued_at": queued_at})
