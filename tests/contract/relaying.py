"""A repository of six methods, a publisher of one, and a relay over them. For the tests of section 6.5."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from huleedu_service_libs.outbox import EventRelayWorker, OutboxSettings

__all__ = ["NOT_SOON", "Publisher", "Repository", "Row", "relaying", "until"]

NOT_SOON = 60.0
"""A poll interval that no test waits for: what happens before was not waited for."""


class Row:
    """An event as services' tests make it: eleven attributes, and a payload that may be bare."""

    def __init__(self, number: int = 0, **fields: Any) -> None:
        self.id: UUID = uuid4()
        self.aggregate_id, self.aggregate_type, self.event_type = f"a-{number}", "essay", "e.v1"
        self.event_data: dict[str, Any] = {"data": {"n": number}}
        self.event_key: str | None = f"k-{number}"
        self.topic = "t"
        self.created_at = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
        self.published_at: datetime | None = None
        self.retry_count = 0
        self.last_error: str | None = None
        self.__dict__.update(fields)


class Repository:
    """The six methods by hand, and a record of what was called.

    Attributes:
        looks: Times at which unpublished events were asked for.
        calls: Method, positional and keyword arguments of each other call.
        failing: Errors that the next looks raise.
    """

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.looks: list[float] = []
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        self.failing: list[Exception] = []

    async def add_event(self, *args: Any, **kwargs: Any) -> UUID:
        raise NotImplementedError

    async def get_unpublished_events(self, limit: int = 100) -> list[Row]:
        self.looks.append(asyncio.get_running_loop().time())
        if self.failing:
            raise self.failing.pop(0)
        return [row for row in self.rows if row.published_at is None and row.last_error is None][:limit]

    async def mark_event_published(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("mark_event_published", args, kwargs))
        self._row(*args, **kwargs).published_at = datetime.now(UTC)

    async def mark_event_failed(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("mark_event_failed", args, kwargs))
        self._row(kwargs["event_id"]).last_error = kwargs["error"]

    async def increment_retry_count(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append(("increment_retry_count", args, kwargs))
        self._row(kwargs["event_id"]).retry_count += 1

    async def get_event_by_id(self, event_id: UUID) -> Row | None:
        return next((row for row in self.rows if row.id == event_id), None)

    def _row(self, event_id: UUID) -> Row:
        return next(row for row in self.rows if row.id == event_id)

    def called(self, method: str) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Arguments of each call of one method."""
        return [(args, kwargs) for name, args, kwargs in self.calls if name == method]


class Publisher:
    """Publishes into a list; raises what it is told to.

    Attributes:
        calls: Positional and keyword arguments of each call.
    """

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def publish(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append((args, kwargs))
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error

    @property
    def sent(self) -> list[dict[str, Any]]:
        """The keywords of each call."""
        return [keywords for _, keywords in self.calls]


async def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    """Wait for something that must not need any waiting, on a machine that others use too."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def relaying(
    repository: Any, publisher: Any, redis: Any = None, **settings: Any
) -> AsyncIterator[EventRelayWorker]:
    """A relay that runs inside the block."""
    settings = {"poll_interval_seconds": NOT_SOON, **settings}
    worker = EventRelayWorker(
        outbox_repository=repository,
        kafka_bus=publisher,
        settings=OutboxSettings(**settings),
        service_name="svc",
        redis_client=redis,
    )
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()
