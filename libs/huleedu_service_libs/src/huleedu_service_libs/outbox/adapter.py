"""Turns a repository of six methods into the relay's batch store.

Services' own repositories and test doubles have nothing else. Such a
repository cannot share work: one relay alone may use it.
"""

from collections.abc import Collection, Sequence
from uuid import UUID

from huleedu_service_libs.outbox.protocols import FailedEvent, OutboxEvent, OutboxRepositoryProtocol
from huleedu_service_libs.outbox.wire import key_of

__all__ = ["RepositoryBatchStore"]

PARKED_LIMIT = 10_000  # parked rows that are remembered; the repository goes on handing them out


class RepositoryBatchStore:
    """Batches through a repository's single-row methods; see `OutboxBatchStore`."""

    shared = False

    def __init__(self, repository: OutboxRepositoryProtocol) -> None:
        self._repository = repository
        self._parked: dict[UUID, None] = {}

    async def fetch(self, *, limit: int, max_retries: int, held_keys: Collection[str]) -> Sequence[OutboxEvent]:
        """The oldest events; those that have just reached ``max_retries`` are parked on the way."""
        # The repository knows neither parked nor held events, so ask for more than they can hide.
        rows = await self._repository.get_unpublished_events(limit=limit + len(self._parked) + len(held_keys))
        fresh = [row for row in rows if row.id not in self._parked]
        for row in fresh:
            if row.retry_count >= max_retries:
                await self._park(row, f"Exceeded max retries ({max_retries}): {row.last_error or 'no error stored'}")
        return [row for row in fresh if row.id not in self._parked and key_of(row) not in held_keys][:limit]

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

    async def _park(self, event: OutboxEvent, error: str) -> None:
        await self._repository.mark_event_failed(event_id=event.id, error=error)
        if len(self._parked) >= PARKED_LIMIT:
            self._parked.pop(next(iter(self._parked)))
        self._parked[event.id] = None
