"""Joining, leaving and handing over: starts, stops, rebalances, and a driver that gives up."""

import asyncio

import pytest
from aiokafka.errors import KafkaConnectionError
from structlog.testing import capture_logs

from huleedu_service_libs.kafka.consumer import (
    Delivery,
)

from ..waiting import until
from .conftest import Numbered
from .doubles import P0, P1, FakeDriver, consuming, record


async def test_partitions_are_handed_over_after_handlers_and_commit() -> None:
    """A revocation waits for what runs, commits it, and drops what waits; a retry in its pause is not waited for."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(3)], P1: [record(P1, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.record.partition == 1:
            raise ConnectionError("for long")
        begun.set()
        await may_end.wait()
        seen.append(delivery.data.number)

    async with consuming(driver, handle, commit_interval_s=1000):
        await begun.wait()
        revoked = asyncio.create_task(driver.listener.on_partitions_revoked([P0, P1]))
        await asyncio.sleep(0.05)
        assert not revoked.done()
        may_end.set()
        await asyncio.wait_for(revoked, 30)
        assert driver.committed == {P0: 1}
        assert seen == [0]


async def test_a_failed_start_leaves_nothing_open() -> None:
    """When Kafka cannot be reached, the error is raised and the driver closed; stop() is then harmless."""
    driver = FakeDriver({})
    driver.start_error = KafkaConnectionError("nobody there")

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    with pytest.raises(KafkaConnectionError):
        async with consuming(driver, handle):
            pass
    assert driver.stopped == 1


async def test_start_and_stop_can_be_repeated() -> None:
    """Starting twice and stopping twice does nothing more; a stopped consumer can be started again."""
    driver = FakeDriver({P0: []})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        await consumer.start()
        await consumer.stop()
        await consumer.stop()
        assert not consumer.is_running
        assert driver.made == driver.stopped == 1
        await consumer.start()
        assert consumer.is_running


async def test_a_cancelled_stop_is_finished_by_the_next() -> None:
    """Whoever limits the time of a stop and asks again leaves no member behind that holds its partitions."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await may_end.wait()

    async with consuming(driver, handle) as consumer:
        await begun.wait()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.stop(), 0.05)
        assert driver.stopped == 0
        may_end.set()
        await consumer.stop()
        assert driver.stopped == 1
        assert driver.committed == {P0: 1}


async def test_a_start_after_a_cancelled_stop_leaves_one_member() -> None:
    """What a cancelled stop left open is closed before another membership begins."""
    driver = FakeDriver({P0: []})
    driver.stop_takes_s = 0.2

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(consumer.stop(), 0.05)
        await consumer.start()
        assert (driver.made, driver.stopped) == (2, 1)


async def test_a_rebalance_while_it_stops_waits_for_the_handlers() -> None:
    """Nobody gets the partitions of a member that is stopping while its handlers still run."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await may_end.wait()

    async with consuming(driver, handle, commit_interval_s=1000) as consumer:
        await begun.wait()
        stop = asyncio.create_task(consumer.stop())
        await asyncio.sleep(0.05)
        revoked = asyncio.create_task(driver.listener.on_partitions_revoked([P0]))
        await asyncio.sleep(0.05)
        assert not revoked.done()
        may_end.set()
        await asyncio.wait_for(asyncio.gather(stop, revoked), 30)
    assert driver.committed == {P0: 1}


async def test_a_group_that_begins_at_the_end_keeps_its_place() -> None:
    """Where it begins is committed before start() returns: what comes while it is away is found by the next start."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(3)], P1: []})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    driver.begin = {P0: 3}
    async with consuming(driver, handle, from_beginning=False, commit_interval_s=1000):
        assert driver.committed == {P0: 3, P1: 0}


async def test_no_place_is_kept_while_partitions_go() -> None:
    """In a rebalance positions lie beyond what was dropped unfinished: they are not committed."""
    driver = FakeDriver({P0: [record(P0, n) for n in range(5)]})
    begun = asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        begun.set()
        await asyncio.sleep(1000)

    async with consuming(driver, handle, from_beginning=False, commit_interval_s=0.001, drain_timeout_s=0.01):
        await begun.wait()
        await driver.listener.on_partitions_revoked([P0])
        await asyncio.sleep(0.05)
        assert driver.committed == {P0: 0}


async def test_a_driver_that_cannot_be_replaced_is_told() -> None:
    """While no connection can be made, the status says why, and that the loop is alive."""
    driver = FakeDriver({P0: []})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        driver.start_error = KafkaConnectionError("nobody there")
        driver.poll_errors = [KafkaConnectionError("gone")] * 5
        await until(lambda: "nobody there" in (consumer.status().last_error or ""))
        assert consumer.status().running
        driver.start_error = None
        await until(lambda: consumer.status().last_error is None)


async def test_polls_that_fail_are_one_trouble() -> None:
    """Polls that fail in a row are a line when that begins and one when it is over, with their number; the status forgets it."""
    driver = FakeDriver({P0: [record(P0, 0)]})

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    with capture_logs() as logs:
        async with consuming(driver, handle) as consumer:
            driver.poll_errors = [KafkaConnectionError("gone")] * 3
            await until(lambda: any(line["event"] == "consumer_trouble_over" for line in logs))
            assert consumer.status().last_error is None
    told = [(line["event"], line["operation"], line["failures"]) for line in logs if "trouble" in line["event"]]
    assert told == [("consumer_trouble", "poll", 1), ("consumer_trouble_over", "poll", 3)]


async def test_what_the_driver_cancels_ends_no_loop() -> None:
    """A future that the driver cancels inside a poll or a commit is a failure of that call, and it is made again."""
    driver = FakeDriver({P0: [record(P0, 0)]})
    driver.poll_errors = [asyncio.CancelledError()]
    driver.commit_errors = [asyncio.CancelledError()]

    async def handle(delivery: Delivery[Numbered]) -> None: ...

    async with consuming(driver, handle) as consumer:
        await until(lambda: driver.committed == {P0: 1}, 5)
        assert consumer.is_running
