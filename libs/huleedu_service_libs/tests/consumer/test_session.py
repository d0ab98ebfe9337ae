"""The consumer over a driver that is a double: faults of the driver, of a commit, of a step; start, stop, status."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import CommitFailedError, KafkaConnectionError
from prometheus_client import REGISTRY

from huleedu_service_libs.kafka.consumer import (
    ConsumerStatus,
    Delivery,
    RetryPolicy,
)
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.store_policy import DeferredError, StoreDownError

from ..waiting import until
from .conftest import EVENT_TYPE, Numbered, numbered
from .doubles import P0, P1, FakeDriver, Letters, consuming, record


async def test_a_refused_commit_is_survived() -> None:
    """When the group was rebalanced meanwhile, the loop goes on; a later commit covers it, and the status forgets it."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    driver.commit_errors = [CommitFailedError("rebalanced")] * 3

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        await until(lambda: driver.committed == {P0: 1})
        assert consumer.is_running
        assert consumer.status().last_error is None


async def test_a_driver_beyond_help_is_replaced_and_nothing_is_lost() -> None:
    """After polls that fail again and again a new driver is made, and what was not committed is read again."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(5)]})
    driver.poll_errors = [KafkaConnectionError("gone")] * 5
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle):
        await until(lambda: driver.committed == {P0: 5})
    assert seen == [0, 1, 2, 3, 4]
    assert driver.made == 2
    assert driver.stopped == 2


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("no"), GeneratorExit()])
async def test_what_a_handler_raises_never_ends_the_loop(error: BaseException) -> None:
    """Also a cancellation that comes from inside a handler is a failure of that event, which is tried again in order."""
    driver = FakeDriver({P0: [record(P0, 0), record(P0, 1)]})
    errors = iter([error])
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        for each in errors:
            raise each
        seen.append(delivery.data.number)

    async with consuming(driver, handle) as consumer:
        await until(lambda: driver.committed == {P0: 2})
        assert consumer.is_running
    assert seen == [0, 1]


async def test_without_a_publisher_nothing_is_skipped(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be processed and cannot be dead-lettered holds its key; other keys go on, status and log name it and the remedy."""
    bad = record(P0, 0, key=b"a", value=b"no event")
    driver = FakeDriver({P0: [bad, record(P0, 1, key=b"a"), record(P0, 2, key=b"b")]})
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, stuck_after_s=0.001) as consumer:
        await until(lambda: seen == [2] and bool(consumer.status().stuck))
        (stuck,) = consumer.status().stuck
        assert "no event envelope" in str(stuck)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "event_not_processed" in line]
    assert "waits_for='a publisher of dead letters; give the EventConsumer one" in line
    assert driver.committed == {}


async def test_outages_count_no_attempt() -> None:
    """Errors that the policy names as outages are tried in place for as long as they last, and nothing is dead-lettered."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    letters = Letters()
    failures = iter(range(20))
    attempts: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        attempts.append(delivery.attempt)
        if next(failures, None) is not None:
            raise ConnectionRefusedError("the database is away")

    async with consuming(driver, handle, publisher=letters, retry=RetryPolicy(attempts=2)):
        await until(lambda: driver.committed == {P0: 1})
    assert len(attempts) == 21
    assert set(attempts) == {1}
    assert letters.sent == []


class Refusing:
    """A step that refuses some times, then lets everything through."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error = error
        self.left = times

    async def process(self, delivery: Delivery[Any], proceed: Callable[..., Awaitable[None]]) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        await proceed(offered="from the step", unwanted=1)


@pytest.mark.parametrize(
    "error",
    [DeferredError("elsewhere"), StoreDownError(store="redis", operation="claim", policy="pause", reason="away")],
)
async def test_a_step_may_say_not_now(error: Exception) -> None:
    """The event waits, no attempt is counted, and the handler then gets what of the step's offers it has parameters for."""
    driver = FakeDriver({P0: [record(P0, 0), record(P0, 1)]})
    letters = Letters()
    seen: list[tuple[int, int, str]] = []

    async def handle(delivery: Delivery[Numbered], *, offered: str) -> None:
        seen.append((delivery.data.number, delivery.attempt, offered))

    policy = RetryPolicy(attempts=1)
    async with consuming(driver, handle, publisher=letters, steps=[Refusing(error, 5)], retry=policy):
        await until(lambda: driver.committed == {P0: 2})
    assert seen == [(0, 1, "from the step"), (1, 1, "from the step")]
    assert letters.sent == []


async def test_a_step_whose_store_is_down_may_have_events_dead_lettered() -> None:
    """With that policy the event goes to the dead-letter topic without a run of its handler."""
    driver = FakeDriver({P0: [record(P0, 0), record(P0, 1)]})
    letters = Letters()
    seen: list[int] = []
    down = StoreDownError(store="redis", operation="claim", policy="dead-letter", reason="away")

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, publisher=letters, steps=[Refusing(down, 1)]):
        await until(lambda: driver.committed == {P0: 2})
    (letter,) = letters.sent
    assert dict(letter.headers)["failure_reason"] == b"store_down"
    assert dict(letter.headers)["failure_attempts"] == b"0"
    assert seen == [1]


async def test_a_dead_letter_that_is_refused_for_its_size_is_sent_without_history() -> None:
    """The second attempt carries less about the failure, and still the original bytes."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    letters = Letters(ValueError("too large"))

    async def handle(delivery: Delivery[Numbered]) -> None:
        raise RuntimeError("x" * 5000)

    async with consuming(driver, handle, publisher=letters, retry=RetryPolicy(attempts=1)):
        await until(lambda: driver.committed == {P0: 1})
    (letter,) = letters.sent
    headers = dict(letter.headers)
    assert "failure_history" not in headers
    assert len(headers["failure_error"]) == 200
    assert letter.value == driver.log[P0][0].value


async def test_a_record_without_value_is_dead_lettered_as_such() -> None:
    """A tombstone is no event; its dead letter says that it had no value."""
    driver = FakeDriver({P0: [record(P0, 0, value=None)]})
    letters = Letters()

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle, publisher=letters):
        await until(lambda: driver.committed == {P0: 1})
    assert dict(letters.sent[0].headers)["failure_null_value"] == b"1"


@pytest.mark.parametrize(("policy", "letters_sent"), [("skip", 0), ("dead-letter", 1)])
async def test_events_without_a_handler_go_as_declared(policy: str, letters_sent: int) -> None:
    """They are passed over, or dead-lettered; either way the others of the topic go on."""
    other = numbered("t", 0).value.replace(EVENT_TYPE.encode(), b"huleedu.other.v1")
    driver = FakeDriver({P0: [record(P0, 0, value=other), record(P0, 1)]})
    letters = Letters()
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle, publisher=letters, unhandled=policy):
        await until(lambda: driver.committed == {P0: 2})
    assert seen == [1]
    assert len(letters.sent) == letters_sent


async def test_a_log_that_was_cut_back_is_read_from_there() -> None:
    """When offsets go backwards, what is held of the partition is forgotten, and the new records are processed."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(5)]})
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        seen.append(delivery.data.number)

    async with consuming(driver, handle):
        await until(lambda: len(seen) == 5)
        driver.positions[P0] = 3
        await until(lambda: len(seen) == 7)
    assert seen == [0, 1, 2, 3, 4, 3, 4]


async def test_a_handlers_first_failure_shows_where(capsys: pytest.CaptureFixture[str]) -> None:
    """The first line about an event that its handler fails at has the traceback; those that follow it do not repeat it."""
    driver = FakeDriver({P0: [record(P0, 0)]})

    async def handle(delivery: Delivery[Numbered]) -> None:
        {"a": 1}["where is this"]

    async with consuming(driver, handle, publisher=Letters(), retry=RetryPolicy(attempts=3)):
        await until(lambda: driver.committed == {P0: 1})
    out = capsys.readouterr().out
    assert out.count("event_not_processed") == 3
    assert out.count("Traceback (most recent call last)") == 1
    assert out.count('{"a": 1}["where is this"]') == 1


async def test_a_partition_that_finds_no_room_has_its_lag() -> None:
    """Records of a partition that was never read count, while the buffer is full of another's."""
    driver = FakeDriver({P0: [record(P0, n, key=b"%d" % n) for n in range(20)], P1: [record(P1, n) for n in range(7)]})
    driver.unread = {P1}

    async def handle(delivery: Delivery[Numbered]) -> None:
        await asyncio.sleep(1000)

    async with consuming(driver, handle, max_buffered=20, drain_timeout_s=0.01) as consumer:
        await until(lambda: consumer.status().lag == {"t": 27})


async def test_lag_of_what_is_gone_is_nobodys() -> None:
    """A topic that is not ours any more, and a consumer that has stopped, leave no old lag in the metrics."""
    metrics = ConsumerMetrics("lag-of-what-is-gone")
    metrics.lags({"t": 5, "t.retry-1": 3})
    metrics.lags({"t": 4})
    found = [
        REGISTRY.get_sample_value("huleedu_consumer_lag_records", {"group": "lag-of-what-is-gone", "topic": topic})
        for topic in ("t", "t.retry-1")
    ]
    assert found == [4, 0]


async def test_two_consumers_of_one_group_in_one_process_share_the_gauges() -> None:
    """Gauges are the sum over the members in the process; one that stops takes only its own share away."""
    group = "two-in-one-process"
    one, two = ConsumerMetrics(group), ConsumerMetrics(group)
    one.levels(in_flight=3, buffered=30, paused=1, stuck=0)
    two.levels(in_flight=4, buffered=40, paused=0, stuck=2)
    one.lags({"t": 5})
    two.lags({"t": 7})

    def value(name: str, **labels: str) -> float | None:
        return REGISTRY.get_sample_value(f"huleedu_consumer_{name}", {"group": group, **labels})

    assert (value("in_flight"), value("buffered_records"), value("stuck_partitions")) == (7, 70, 2)
    assert (value("paused_partitions"), value("lag_records", topic="t")) == (1, 12)
    two.levels(in_flight=0, buffered=0, paused=0, stuck=0)
    two.lags({})
    assert (value("in_flight"), value("lag_records", topic="t")) == (3, 5)


def test_waiting_for_others_is_no_reason_to_restart() -> None:
    """A member that waits for others to finish their handlers is alive, but not for ever."""
    waits = ConsumerStatus(running=True, last_poll_s=200.0, rebalancing_s=200.0, rebalance_limit_s=300.0)
    assert waits.alive()
    assert not replace(waits, rebalancing_s=301.0).alive()
    assert not replace(waits, rebalancing_s=None).alive()
