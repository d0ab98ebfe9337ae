"""A relay that is frozen while its host answers: another one takes over, and the thawed one completes nothing."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from huleedu_service_libs.outbox.models import EventOutbox
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

from ..waiting import until
from .doubles import BatchingPublisher

pytestmark = pytest.mark.integration

# A relay of its own process. Its publisher says when a batch has left and takes a second for it; one line a batch and error.
CHILD = """
import asyncio, sys
from structlog.testing import capture_logs
from sqlalchemy.ext.asyncio import create_async_engine
from huleedu_service_libs.outbox.lanes import PostgreSQLBatchStore
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.protocols import DeliveryOutcome

class Repository(PostgreSQLOutboxRepository):
    def batch_store(self, **_):
        return PostgreSQLBatchStore(self.engine, service_name="svc", max_error_length=1000, idle_limit_s=2.0)

class Publisher:
    async def publish(self, **_): ...
    async def publish_batch(self, messages):
        print("sent", len(messages), flush=True)
        await asyncio.sleep(1.0)
        return [DeliveryOutcome() for _ in messages]

async def main():
    engine = create_async_engine(sys.argv[1])
    with capture_logs() as logs:
        await EventRelayWorker(Repository(engine, "svc"), Publisher(), OutboxSettings(), "svc").start()
        told = 0
        while True:
            await asyncio.sleep(0.05)
            for line in logs[told:]:
                print(line["event"], flush=True)
            told = len(logs)

asyncio.run(main())
"""


@asynccontextmanager
async def _child(database: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, database, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        await process.communicate()


async def _line(process: asyncio.subprocess.Process, wanted: str, seconds: float = 30.0) -> None:
    assert process.stdout is not None
    seen = []
    async with asyncio.timeout(seconds):
        while (line := (await process.stdout.readline()).decode().strip()) != wanted:
            seen.append(line)
            assert line, f"ended before {wanted!r}: {seen}, {await process.communicate()}"


async def _published(engine: AsyncEngine) -> list[object]:
    async with engine.connect() as connection:
        return list(await connection.scalars(select(EventOutbox.published_at).order_by(EventOutbox.id)))


async def test_a_frozen_relay_is_replaced_and_completes_nothing_when_it_thaws(
    engine: AsyncEngine,
) -> None:
    """Stopped between sending and marking: the server ends its session, another relay does the work, once thawed it fails."""
    repository = PostgreSQLOutboxRepository(engine, "svc")
    for _ in range(3):
        await repository.add_event(
            aggregate_id="a", aggregate_type="essay", event_type="e.v1", event_data={"data": {}}, topic="t"
        )
    async with _child(str(engine.url)) as frozen:
        await _line(frozen, "sent 3")
        os.kill(frozen.pid, signal.SIGSTOP)
        publisher = BatchingPublisher()
        settings = OutboxSettings(poll_interval_seconds=0.1)
        async with EventRelayWorker(repository, publisher, settings, "svc"):
            await until(lambda: publisher.batches, 30)
            async with asyncio.timeout(10):
                while None in await _published(engine):
                    await asyncio.sleep(0.05)
            marked = await _published(engine)
            await repository.add_event(
                aggregate_id="a", aggregate_type="essay", event_type="e.v1", event_data={"data": {}}, topic="t"
            )
            await until(lambda: len(publisher.batches) >= 2, 10)
            os.kill(frozen.pid, signal.SIGCONT)
            await _line(frozen, "outbox_storage_error")
            assert (await _published(engine))[:3] == marked
    async with engine.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(EventOutbox)) == 4
