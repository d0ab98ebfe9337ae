"""Relays of tests: quick ones and slow ones."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings

from .doubles import Publisher, Repository

QUICK = OutboxSettings(poll_interval_seconds=0.02, error_retry_interval_seconds=0.05, enable_wake_notifications=False)

# What happens at once does not wait for any of these.
SLOW = OutboxSettings(poll_interval_seconds=60.0, error_retry_interval_seconds=60.0, enable_wake_notifications=False)


@asynccontextmanager
async def make_relay(
    repository: Repository, publisher: Publisher, settings: OutboxSettings = QUICK, **more: Any
) -> AsyncIterator[EventRelayWorker]:
    """A relay that runs inside the block."""
    worker = EventRelayWorker(
        outbox_repository=repository, kafka_bus=publisher, settings=settings, service_name="svc", **more
    )
    await worker.start()
    yield worker
    await worker.stop()
