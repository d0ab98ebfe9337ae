"""Publishers of tests: a bus whose broker can go away, and a resilient publisher around it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from aiokafka.errors import KafkaError

from common_core import EventEnvelope
from huleedu_service_libs.kafka import ResilientKafkaPublisher
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage
from huleedu_service_libs.resilience import CircuitBreaker

from ..resilience.times import Time


def envelope(number: int = 0) -> EventEnvelope[Any]:
    """An event that carries its number."""
    return EventEnvelope(event_type="t.v1", source_service="svc", data={"n": number})


class Bus:
    """A bus whose broker can go away; what arrived stands in ``arrived``."""

    client_id = "bus"
    bootstrap_servers = "nowhere:1"

    def __init__(self) -> None:
        self.down: Exception | None = None
        self.arrived: list[tuple[str | None, int]] = []
        self.attempts = 0
        self.life: list[str] = []

    async def start(self) -> None:
        self.life.append("start")

    async def stop(self) -> None:
        self.life.append("stop")

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.attempts += 1
        await asyncio.sleep(0)
        if self.down is not None:
            raise self.down
        self.arrived.append((key, envelope.data["n"]))


class BatchBus(Bus):
    """The same with batches."""

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        self.attempts += 1
        if self.down is None:
            return [DeliveryOutcome() for _ in messages]
        first = DeliveryOutcome(error=self.down, transient=is_outage(self.down))
        held = DeliveryOutcome(error=RuntimeError("held"), transient=True, attempted=False)
        return [first, *[held for _ in messages[1:]]]


def guarded(
    bus: Any, time: Time | None = None, threshold: int = 2, interval: float = 30, **options: Any
) -> ResilientKafkaPublisher:
    """A publisher whose breaker opens for ten seconds of test time."""
    time = time or Time()
    breaker = CircuitBreaker(
        failure_threshold=threshold,
        recovery_timeout=timedelta(seconds=10),
        success_threshold=1,
        expected_exception=KafkaError,
        name="svc.kafka_producer",
        clock=time,
        now=time.now,
    )
    return ResilientKafkaPublisher(bus, breaker, retry_interval=interval, **options)
