"""Publishers of tests: a bus whose broker can go away, and a resilient publisher around it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from aiokafka.errors import KafkaConnectionError, KafkaError
from hypothesis import strategies as st

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


_COURSE = [
    st.tuples(st.just("publish"), st.sampled_from("abc")),
    st.tuples(st.just("broker"), st.booleans()),
    st.tuples(st.just("time"), st.sampled_from([1, 10])),
    st.tuples(st.just("recover"), st.none()),
    st.tuples(st.just("restart"), st.none()),
]
Step = tuple[str, Any]


def courses(*more: str) -> st.SearchStrategy[list[Step]]:
    """Any course of messages of three keys, outages, time, recoveries, restarts, and ``more``."""
    return st.lists(st.one_of(*_COURSE, *(st.tuples(st.just(step), st.none()) for step in more)), max_size=40)


async def course_of(
    steps: list[Step],
    bus: Bus,
    make: Callable[[Time], Awaitable[ResilientKafkaPublisher]],
    *,
    crash: Callable[[ResilientKafkaPublisher], Awaitable[None]] | None = None,
) -> ResilientKafkaPublisher:
    """Carry out the steps, end the outage, stop; every message must have arrived once, each key in its order.

    Args:
        steps: From `courses`.
        bus: Of the publisher.
        make: Gives a started publisher on that bus, by that clock.
        crash: Ends a publisher as the death of its process would; the step's name is ``crash``.
    """
    time = Time()
    publisher = await make(time)
    published: dict[str, list[int]] = {key: [] for key in "abc"}
    for number, (step, value) in enumerate(steps):
        if step == "publish":
            published[value].append(number)
            with suppress(KafkaError):
                await publisher.publish("t", envelope(number), value)
        elif step == "broker":
            bus.down = None if value else KafkaConnectionError("gone")
        elif step == "time":
            time.passes(value)
        elif step == "recover":
            await publisher._process_queued_messages()
        elif step == "restart":
            await publisher.stop()
            await publisher.start()
        elif crash is not None:
            await crash(publisher)
            publisher = await make(time)
    bus.down = None
    time.passes(10)
    await publisher.stop()
    for key, numbers in published.items():
        assert [number for where, number in bus.arrived if where == key] == numbers
    return publisher
