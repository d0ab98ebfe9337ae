"""Events that are claimed and confirmed many at a time: on a real Redis, behind a network that can fail."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from huleedu_service_libs._redis_cluster.keys import shared_slot
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, IdempotentStep
from huleedu_service_libs.kafka.consumer import Delivery, RetryPolicy
from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack import RedisNodesServer

from ..waiting import until
from .conftest import Numbered
from .doubles import P0, P1, FakeDriver, Letters, consuming, record

pytestmark = pytest.mark.integration

EVENTS = 300
QUICK = RetryPolicy(attempts=5, first_delay_s=0.01, longest_delay_s=0.05)


class CountingClient(RedisClient):
    """Knows how many scripts ran."""

    scripts = 0

    async def execute_script(self, *args: Any, **kwargs: Any) -> Any:
        """Run one more."""
        self.scripts += 1
        return await super().execute_script(*args, **kwargs)


@pytest.fixture(name="redis")
async def _redis(proxy: FaultProxy) -> AsyncIterator[CountingClient]:
    config = RedisClientConfig(socket_timeout_s=0.5)
    async with CountingClient(client_id="many", redis_url=proxy.url, config=config) as client:
        yield client


def step_on(redis: RedisClient, prefix: str, **more: Any) -> IdempotentStep:
    """Idempotency that waits for others."""
    return IdempotentStep(redis, IdempotencyConfig("svc", key_prefix=prefix, in_progress="wait", **more))


def many(keys: int = EVENTS) -> FakeDriver:
    """A log of many events over many keys, and all of them once more in another partition."""
    records = [record(P0, n, b"key-%d" % (n % keys)) for n in range(EVENTS)]
    return FakeDriver({P0: records, P1: records})


async def stored(redis: RedisClient, prefix: str) -> list[str]:
    """The status of each record in Redis."""
    keys = await redis.scan_pattern(f"{prefix}*")
    texts = [await redis.get(key) for key in keys]
    return [json.loads(text)["status"] for text in texts if text]


async def test_many_events_are_claimed_and_confirmed_in_few_commands(redis: CountingClient, redis_prefix: str) -> None:
    """Each of 300 events runs once although it comes twice; a command carries scores of them; all are confirmed."""
    runs: Counter[int] = Counter()

    async def handle(delivery: Delivery[Numbered]) -> None:
        runs[delivery.data.number] += 1

    driver = many()
    async with consuming(driver, handle, steps=[step_on(redis, redis_prefix)]):
        await until(lambda: driver.committed == {P0: EVENTS, P1: EVENTS})
        assert redis.scripts < EVENTS // 4
    assert runs == Counter(range(EVENTS))
    assert await stored(redis, redis_prefix) == ["completed"] * EVENTS


async def test_on_a_cluster_events_of_many_slots_are_claimed_together(
    redis_cluster: RedisNodesServer, redis_prefix: str
) -> None:
    """Claims of one batch lie on three nodes: each event runs once although it comes twice, under its claim, confirmed."""
    runs: Counter[int] = Counter()

    async def handle(delivery: Delivery[Numbered]) -> None:
        runs[delivery.data.number] += 1

    driver, unprotected = many(), failed_open()
    async with RedisClient(client_id="many", redis_url=redis_cluster.address) as redis:
        async with consuming(driver, handle, steps=[step_on(redis, redis_prefix)]):
            await until(lambda: driver.committed == {P0: EVENTS, P1: EVENTS})
        slots = {shared_slot([key]) for key in await redis.scan_pattern(f"{redis_prefix}*")}
        assert await stored(redis, redis_prefix) == ["completed"] * EVENTS
    assert len(slots) > EVENTS // 2
    assert runs == Counter(range(EVENTS))
    assert failed_open() == unprotected


def failed_open() -> float:
    """How many handlers have run without a claim, in this process."""
    samples = [sample for metric in REGISTRY.collect() for sample in metric.samples]
    return sum(sample.value for sample in samples if sample.name == "idempotency_fail_open_total")


async def test_handlers_that_wait_run_at_the_same_time(redis: CountingClient, redis_prefix: str) -> None:
    """Those of different keys overlap, those of one key never; the limit of concurrency holds."""
    running: Counter[int] = Counter()
    most = 0
    seen: list[int] = []

    async def handle(delivery: Delivery[Numbered]) -> None:
        nonlocal most
        key = delivery.data.number % 20
        running[key] += 1
        assert running[key] == 1
        most = max(most, running.total())
        await asyncio.sleep(0.002)
        running[key] -= 1
        seen.append(delivery.data.number)

    driver = FakeDriver({P0: [record(P0, n, b"key-%d" % (n % 20)) for n in range(EVENTS)]})
    async with consuming(driver, handle, steps=[step_on(redis, redis_prefix)], concurrency=15):
        await until(lambda: driver.committed == {P0: EVENTS})
    for key in range(20):
        assert [n for n in seen if n % 20 == key] == list(range(key, EVENTS, 20))
    assert 10 <= most <= 15


async def test_one_that_fails_is_given_back_and_tried_again(redis: CountingClient, redis_prefix: str) -> None:
    """A failure among many touches no other; its claim is released, so that the next attempt runs at once."""
    runs: Counter[int] = Counter()

    async def handle(delivery: Delivery[Numbered]) -> None:
        runs[delivery.data.number] += 1
        if delivery.data.number % 50 == 7 and runs[delivery.data.number] < 3:
            raise RuntimeError("not yet")

    driver, letters = FakeDriver({P0: many().log[P0]}), Letters()
    async with consuming(driver, handle, steps=[step_on(redis, redis_prefix)], publisher=letters, retry=QUICK):
        await until(lambda: driver.committed == {P0: EVENTS})
    assert not letters.sent
    assert runs == Counter({n: 3 if n % 50 == 7 else 1 for n in range(EVENTS)})
    assert await stored(redis, redis_prefix) == ["completed"] * EVENTS


@pytest.mark.parametrize("skip", [0, 1, 2, 3])
async def test_lost_replies_drop_nothing_and_repeat_nothing(
    redis: CountingClient, proxy: FaultProxy, redis_prefix: str, skip: int
) -> None:
    """Whichever answer of a command for many gets lost, claim or confirmation, each event has its effect once."""
    runs: Counter[int] = Counter()

    async def handle(delivery: Delivery[Numbered]) -> None:
        runs[delivery.data.number] += 1

    proxy.lose_replies(to=b"EVALSHA", skip=skip)
    driver = many()
    async with consuming(driver, handle, steps=[step_on(redis, redis_prefix)]):
        await until(lambda: driver.committed == {P0: EVENTS, P1: EVENTS})
    assert proxy.lost_replies == 1
    assert runs == Counter(range(EVENTS))


async def test_while_redis_is_away_events_wait_if_declared(
    redis: CountingClient, proxy: FaultProxy, redis_prefix: str
) -> None:
    """With ``pause`` no handler runs until Redis is back; then each runs once, and none was dead-lettered."""
    runs: Counter[int] = Counter()
    away = True

    async def handle(delivery: Delivery[Numbered]) -> None:
        assert not away
        runs[delivery.data.number] += 1

    proxy.refuse()
    proxy.cut()
    driver, letters = FakeDriver({P0: many().log[P0]}), Letters()
    step = step_on(redis, redis_prefix, store_down="pause")
    async with consuming(driver, handle, steps=[step], publisher=letters) as consumer:
        await until(lambda: consumer.status().buffered == EVENTS)
        await asyncio.sleep(0.3)
        away = False
        proxy.heal()
        await until(lambda: driver.committed == {P0: EVENTS})
    assert runs == Counter(range(EVENTS))
    assert not letters.sent


async def test_what_a_drain_cuts_off_may_run_again_elsewhere(redis: CountingClient, redis_prefix: str) -> None:
    """Handlers that a stop cancels are not committed and stay claimed; what returned is confirmed and committed."""
    gate = asyncio.Event()

    async def handle(delivery: Delivery[Numbered]) -> None:
        if delivery.data.number >= 3:
            await gate.wait()

    driver = FakeDriver({P0: [record(P0, n, b"key-%d" % n) for n in range(6)]})
    async with consuming(driver, handle, steps=[step_on(redis, redis_prefix)], drain_timeout_s=0.05) as consumer:
        await until(lambda: driver.committed == {P0: 3})
        await consumer.stop()
    assert driver.committed == {P0: 3}
    assert sorted(await stored(redis, redis_prefix)) == ["completed"] * 3 + ["processing"] * 3


async def test_a_claim_of_nobody_is_given_back(redis: CountingClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """Cancelled while many are claimed, or abandoned before the handler began: nothing stays claimed."""
    step = step_on(redis, redis_prefix)
    deliveries: Any = [type("D", (), {"record": record(P0, n)}) for n in range(5)]
    await step.admit(deliveries[:1])
    proxy.delay(0.1)
    task = asyncio.create_task(step.admit(deliveries[1:]))
    await until(lambda: redis._executor._line is not None and bool(redis._executor._line.unanswered))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    proxy.heal()
    assert await stored(redis, redis_prefix) == ["processing"]
    (passage,) = await step.admit(deliveries[:1])  # another delivery of the same: not ours to give back
    await step.abandon(passage)
    assert await stored(redis, redis_prefix) == ["processing"]
    others: Any = [type("D", (), {"record": record(P0, 9)})]
    (own,) = await step.admit(others)
    await step.abandon(own)
    assert await stored(redis, redis_prefix) == ["processing"]


async def test_whoever_overrides_the_single_way_is_asked_for_each(redis: CountingClient, redis_prefix: str) -> None:
    """A step whose `process` is a service's own is never passed by."""
    asked: list[int] = []

    class Own(IdempotentStep):
        async def process(self, delivery: Any, proceed: Any) -> None:
            asked.append(delivery.data.number)
            await super().process(delivery, proceed)

    async def handle(_: Delivery[Numbered]) -> None: ...

    driver = FakeDriver({P0: many().log[P0][:20]})
    step = Own(redis, IdempotencyConfig("svc", key_prefix=redis_prefix, in_progress="wait"))
    async with consuming(driver, handle, steps=[step]):
        await until(lambda: driver.committed == {P0: 20})
    assert sorted(asked) == list(range(20))
