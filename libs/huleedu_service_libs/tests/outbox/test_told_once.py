"""What a relay and its wake-ups tell of an outage: a line when it begins, one when it is over, and a count of every failure."""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any
from unittest.mock import AsyncMock

from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from huleedu_service_libs.outbox.batch import Batch
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.reporting import Reporter
from huleedu_service_libs.outbox.wake_sending import WakeSender
from huleedu_service_libs.outbox.wakeup import WakeListener
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

from ..waiting import until
from .doubles import Event

Logs = Sequence[MutableMapping[str, Any]]


def _of(logs: Logs, event: str) -> list[tuple[Any, ...]]:
    """Failures, topic and seconds of its lines."""
    return [(line["failures"], line.get("topic"), line.get("seconds")) for line in logs if line["event"] == event]


def _errors(service: str, kind: str) -> float:
    labels = {"service": service, "error_type": kind}
    return REGISTRY.get_sample_value("outbox_relay_errors_total", labels) or 0.0


class _Relay:
    """Its reporter, and a clock that moves by hand."""

    def __init__(self, service: str) -> None:
        self.now = 0.0
        self.reporter = Reporter(service, OutboxMetrics(service), clock=lambda: self.now)

    def stored(self, batch: Batch, seconds: float) -> None:
        """A batch is stored, so long after the one before."""
        self.now += seconds
        self.reporter.batch(batch, [], dict.fromkeys(batch.outages, 1.0), seconds=0.1, waited=0.1)


def test_a_topic_out_of_reach_is_told_once_and_when_it_is_back() -> None:
    """Of three fruitless batches the first has a line; another topic's success ends nothing, its own first event does."""
    relay, away = _Relay("told-topic"), Batch(size=1, outages={"t": ConnectionError("no broker")})
    with capture_logs() as logs:
        for _ in range(3):
            relay.stored(away, 5.0)
        relay.stored(Batch(size=1, published=[Event(topic="other")]), 1.0)
        assert _of(logs, "outbox_broker_trouble_over") == []
        relay.stored(Batch(size=1, published=[Event(topic="t")]), 1.0)
        relay.stored(Batch(size=1, published=[Event(topic="t")]), 1.0)
    assert _of(logs, "outbox_broker_outage") == [(1, "t", None)]
    assert _of(logs, "outbox_broker_trouble_over") == [(3, "t", 12.0)]
    assert _errors("told-topic", "broker_outage") == 3


def test_a_part_of_a_topic_is_told_by_itself() -> None:
    """A partition without a leader is over when a batch has no event of the topic that waits."""
    relay, event = _Relay("told-part"), Event(topic="t")
    part = Batch(size=2, published=[event], part_outages={"t": ConnectionError("no leader")})
    with capture_logs() as logs:
        relay.stored(part, 1.0)
        relay.stored(part, 1.0)
        relay.stored(Batch(size=1, published=[event]), 1.0)
    assert _of(logs, "outbox_partition_outage") == [(1, "t", None)]
    assert _of(logs, "outbox_broker_trouble_over") == [(2, "t", 2.0)]
    assert _errors("told-part", "partition_outage") == 2


def test_trouble_with_the_storage_is_told_once_and_when_it_is_over() -> None:
    """A second failure is counted without a line, a reminder comes after a minute, the end says how long it was."""
    relay = _Relay("told-storage")
    with capture_logs() as logs:
        for _ in range(4):
            relay.reporter.storage_trouble(OSError("gone"), 1.0)
            relay.now += 25.0
        relay.reporter.storage_works()
        relay.reporter.storage_works()
    assert _of(logs, "outbox_storage_error") == [(1, None, None), (4, None, None)]
    assert _of(logs, "outbox_storage_trouble_over") == [(4, None, 100.0)]
    assert _errors("told-storage", "storage") == 4


async def test_wake_ups_that_cannot_be_sent_are_told_once() -> None:
    """A hundred commits while Redis is away are one line and a hundred counts; the first that gets through is another."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    redis.lpush.side_effect = [*[ConnectionError("away")] * 100, 1, 1]
    sender = WakeSender(redis, "told-sender")
    with capture_logs() as logs:
        for _ in range(102):
            await sender.send()
    assert [line["failures"] for line in logs if line["event"] == "outbox_wake_up_failed"] == [1]
    over = [(line["side"], line["failures"]) for line in logs if line["event"] == "outbox_wake_up_trouble_over"]
    assert over == [("sender", 100)]
    assert _errors("told-sender", "wake_up") == 100


async def test_a_listener_tells_once_that_it_hears_nothing() -> None:
    """Failed looks are one line, and the first that works is another."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    answers: list[Any] = [*[ConnectionError("away")] * 5]

    async def blpop(**_: Any) -> Any:
        if answers:
            raise answers.pop()
        await asyncio.sleep(0.01)

    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    redis.blpop.side_effect = blpop
    listener = WakeListener(redis, "outbox:wake:told", None, sleep=sleep)
    with capture_logs() as logs:
        listener.start()
        await until(lambda: any(line["event"] == "outbox_wake_up_trouble_over" for line in logs))
        await listener.stop()
    assert [line["failures"] for line in logs if line["event"] == "outbox_wake_up_unavailable"] == [1]
    over = [(line["side"], line["failures"]) for line in logs if line["event"] == "outbox_wake_up_trouble_over"]
    assert over == [("listener", 5)]
