"""How much one look of the relay brings, whatever the events weigh."""

import random

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

pytestmark = pytest.mark.integration


async def test_a_batch_is_bounded_by_its_bytes(engine: AsyncEngine) -> None:
    """Of twenty events of a megabyte, compressible or not, a look brings 8 MB, and the next ones the rest, in order."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    for number in range(20):
        filling = "x" * 1_000_000 if number % 2 else random.Random(number).randbytes(500_000).hex()  # noqa: S311
        await repository.add_event(f"k{number}", "t", "e", {"data": filling}, "topic")
    store = repository.batch_store()
    found: list[str] = []
    sizes = []
    while events := await store.fetch(limit=100, max_retries=5, held_keys=[], held_topics=[]):
        found += [event.aggregate_id for event in events]
        sizes.append(len(events))
        await store.settle(published=events, failed=[], max_retries=5)
    await store.close()
    assert sizes == [8, 8, 4]
    assert found == [f"k{number}" for number in range(20)]
