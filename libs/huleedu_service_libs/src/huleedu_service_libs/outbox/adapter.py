"""Turns a repository of six methods into the relay's batch store.

Services' own repositories and test doubles have nothing else. Such a
repository cannot share work: one relay alone may use it.
"""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.protocols import (
    FailedEvent,
    OutboxBatchStore,
    OutboxEvent,
    OutboxRepositoryProtocol,
)
from huleedu_service_libs.outbox.settings import OutboxSettings
from huleedu_service_libs.outbox.wire import key_of
from huleedu_service_libs.protocols import concrete_capability

__all__ = ["FencedAdapter", "RepositoryBatchStore", "store_of"]

_SINGLE_ROW_METHODS = ("mark_event_published", "mark_event_failed", "increment_retry_count")

PARKED_LIMIT = 10_000  # parked rows that are remembered; the repository goes on handing them out
WINDOW_LIMIT = 10_000  # rows that are looked through at most for one that may go

logger = create_service_logger("huleedu.outbox.relay")


class RepositoryBatchStore:
    """Batches through a repository's single-row methods; see `OutboxBatchStore`."""

    def __init__(self, repository: OutboxRepositoryProtocol) -> None:
        self._repository = repository
        self._parked: dict[UUID, None] = {}

    @property
    def shared(self) -> bool:
        """One relay owns everything."""
        return False

    async def fetch(
        self,
        *,
        limit: int,
        max_retries: int,
        held_keys: Collection[str],
        held_topics: Collection[str],
        in_flight: Sequence[OutboxEvent] = (),
    ) -> Sequence[OutboxEvent]:
        """The oldest events; those that have just reached ``max_retries`` are parked on the way."""
        # The repository knows neither parked nor held events: look further until something else is found.
        sending = {event.id for event in in_flight}
        window = limit + len(self._parked) + len(sending)
        while True:
            rows = await self._repository.get_unpublished_events(limit=window)
            ready = _ready(await self._unparked(rows, max_retries), sending, held_keys, held_topics)
            if ready or len(rows) < window or window >= WINDOW_LIMIT:
                return ready[:limit]
            window = min(WINDOW_LIMIT, 4 * window)

    async def settle(
        self, *, published: Sequence[OutboxEvent], failed: Sequence[FailedEvent], max_retries: int
    ) -> Sequence[OutboxEvent]:
        """Store the results one by one."""
        for event in published:
            await self._repository.mark_event_published(event.id)
        parked = []
        for one in failed:
            await self._repository.increment_retry_count(event_id=one.event.id, error=one.error)
            if one.event.retry_count + 1 >= max_retries:
                await self._park(one.event, f"Exceeded max retries ({max_retries}): {one.error}")
                parked.append(one.event)
        return parked

    async def depth(self, *, max_retries: int) -> int | None:  # noqa: ARG002  # the port's signature
        """Not offered by the six methods."""
        return None

    async def close(self) -> None:
        """Nothing is owned."""

    async def _unparked(self, rows: Sequence[OutboxEvent], max_retries: int) -> list[OutboxEvent]:
        """The rows that are still to be sent; one that has just used up its attempts is parked."""
        for row in rows:
            if row.retry_count >= max_retries and row.id not in self._parked:
                await self._park(row, f"Exceeded max retries ({max_retries}): {_last_error(row)}")
        return [row for row in rows if row.retry_count < max_retries and row.id not in self._parked]

    async def _park(self, event: OutboxEvent, error: str) -> None:
        await self._repository.mark_event_failed(event_id=event.id, error=error)
        if len(self._parked) >= PARKED_LIMIT:
            self._parked.pop(next(iter(self._parked)))
        self._parked[event.id] = None


class FencedAdapter(RepositoryBatchStore):
    """For a repository that shares its work, but some of whose single-row methods were overridden.

    Batches come from the shared store, so that no other relay sees them; results go through the
    methods that somebody wants called.

    Args:
        repository: Whose methods store the results.
        shared_store: Where batches come from.
    """

    def __init__(self, repository: OutboxRepositoryProtocol, shared_store: OutboxBatchStore) -> None:
        super().__init__(repository)
        self._shared_store = shared_store

    @property
    def shared(self) -> bool:
        """Whether other relays own a part."""
        return self._shared_store.shared

    async def fetch(
        self,
        *,
        limit: int,
        max_retries: int,
        held_keys: Collection[str],
        held_topics: Collection[str],
        in_flight: Sequence[OutboxEvent] = (),
    ) -> Sequence[OutboxEvent]:
        """The batch of the shared store."""
        return await self._shared_store.fetch(
            limit=limit,
            max_retries=max_retries,
            held_keys=held_keys,
            held_topics=held_topics,
            in_flight=in_flight,
        )

    async def depth(self, *, max_retries: int) -> int | None:
        """The depth of the shared store."""
        return await self._shared_store.depth(max_retries=max_retries)

    async def close(self) -> None:
        """Give up what the shared store owns."""
        await self._shared_store.close()


def _ready(
    rows: Sequence[OutboxEvent], sending: Collection[UUID], held_keys: Collection[str], held_topics: Collection[str]
) -> list[OutboxEvent]:
    """The rows that may go now: a key that has an event of a held topic waits behind it."""
    waiting = set(held_keys)
    ready = []
    for row in rows:
        key = key_of(row)
        if row.topic in held_topics:
            waiting.add(key)
        elif key not in waiting and row.id not in sending:
            ready.append(row)
    return ready


def _last_error(row: OutboxEvent) -> str:
    return getattr(row, "last_error", None) or "no error stored"  # rows of tests lack some attributes


def store_of(repository: Any, settings: OutboxSettings) -> OutboxBatchStore:
    """The batch store that a repository offers, or one made of its six methods."""
    if concrete_capability(repository, "batch_store") is None:
        return RepositoryBatchStore(repository)
    limit = settings.strict_order_limit_seconds
    store: OutboxBatchStore = (
        repository.batch_store(strict_order_limit_seconds=limit) if settings.strict_order else repository.batch_store()
    )
    if concrete_capability(repository, "batch_store", beside=_SINGLE_ROW_METHODS) is not None:
        return store
    logger.warning(
        "outbox_repository_methods_overridden",
        repository=type(repository).__name__,
        effect="results are stored row by row, through the overridden methods",
    )
    return FencedAdapter(repository, store)
