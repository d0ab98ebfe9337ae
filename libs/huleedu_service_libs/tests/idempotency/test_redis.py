"""Idempotency on a real Redis, through the library's client: the scripts mean what the fake says."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from huleedu_service_libs.idempotency_v2 import EventInProgressError, IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.redis_client import RedisClient
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

pytestmark = pytest.mark.integration

EVENT = create_test_message()


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    client = RedisClient(client_id="idempotency", redis_url=redis_url)
    await client.start()
    yield client
    await client.stop()


def _config(prefix: str, **more: Any) -> IdempotencyConfig:
    return IdempotencyConfig("svc", key_prefix=f"{prefix}v2", **more)


async def _key(client: RedisClient, prefix: str) -> str:
    (key,) = await client.scan_pattern(f"{prefix}*")
    return key


async def test_duplicates_are_skipped(client: RedisClient, redis_prefix: str) -> None:
    """Of a hundred simultaneous deliveries one runs, and its record lives as long as its type says."""
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        nonlocal runs
        runs += 1
        await confirm_idempotency()
        return True

    deliver = idempotent_consumer(client, _config(redis_prefix, default_ttl=777))(handler)
    results = await asyncio.gather(*(deliver(EVENT) for _ in range(100)))
    assert (runs, results.count(True), results.count(None)) == (1, 1, 99)
    key = await _key(client, redis_prefix)
    assert json.loads(await client.get(key) or "")["status"] == "completed"
    assert 770 <= await client.ttl(key) <= 777


async def test_failed_event_is_given_back(client: RedisClient, redis_prefix: str) -> None:
    """After a failure the key is gone and the next delivery runs."""

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        raise ConnectionError("handler's own")

    deliver = idempotent_consumer(client, _config(redis_prefix))(handler)
    for _ in range(2):
        with pytest.raises(ConnectionError):
            await deliver(EVENT)
        assert await client.scan_pattern(f"{redis_prefix}*") == []


async def test_foreign_claim_is_left_alone(client: RedisClient, redis_prefix: str) -> None:
    """Neither confirmation nor release touches a claim that went to another worker."""
    foreign = json.dumps({"status": "processing", "started_at": 4e9, "owner": "o"})

    async def handler(_msg: Any, *, confirm_idempotency: Any, fails: bool) -> None:
        await client.setex(await _key(client, redis_prefix), 100, foreign)
        if fails:
            raise RuntimeError("late")
        await confirm_idempotency()

    deliver = idempotent_consumer(client, _config(redis_prefix))(handler)
    await deliver(EVENT, fails=False)
    key = await _key(client, redis_prefix)
    assert await client.get(key) == foreign
    await client.delete_key(key)
    with pytest.raises(RuntimeError):
        await deliver(EVENT, fails=True)
    assert await client.get(key) == foreign


async def test_stale_claim_is_taken_over_once(client: RedisClient, redis_prefix: str) -> None:
    """Of many workers that see the same stale claim one takes it over."""
    config = _config(redis_prefix)
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1
        await confirm_idempotency()

    deliver = idempotent_consumer(client, config)(handler)
    await deliver(EVENT)
    key = await _key(client, redis_prefix)
    await client.setex(key, 100, json.dumps({"status": "processing", "started_at": 1.0, "owner": "dead"}))
    await asyncio.gather(*(deliver(EVENT) for _ in range(50)))
    assert runs == 2


async def test_claim_is_renewed(client: RedisClient, redis_prefix: str) -> None:
    """A renewal gives the key its whole time to live again, and only while it is ours."""
    turn, renewed = asyncio.Event(), asyncio.Event()

    async def sleep(_seconds: float) -> None:
        if turn.is_set():
            renewed.set()
            await asyncio.Event().wait()
        await turn.wait()

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        key = await _key(client, redis_prefix)
        await client.expire(key, 10)
        turn.set()
        await renewed.wait()
        assert await client.ttl(key) > 290
        await confirm_idempotency()

    await idempotent_consumer(client, _config(redis_prefix), sleep=sleep)(handler)(EVENT)
    assert json.loads(await client.get(await _key(client, redis_prefix)) or "")["status"] == "completed"


async def test_waiting_workers_lose_nothing(client: RedisClient, redis_prefix: str) -> None:
    """With `wait` a second worker takes over when the first fails, and skips when it succeeds."""
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1
        await asyncio.sleep(0.01)
        if runs == 1:
            raise RuntimeError("first")
        await confirm_idempotency()

    deliver = idempotent_consumer(client, _config(redis_prefix, in_progress="wait", wait_timeout_seconds=20))(handler)
    results = await asyncio.gather(*(deliver(EVENT) for _ in range(10)), return_exceptions=True)
    assert runs == 2
    assert sum(isinstance(result, RuntimeError) for result in results) == 1


async def test_event_in_progress_is_refused(client: RedisClient, redis_prefix: str) -> None:
    """With `raise` a second worker refuses while the first works."""
    working, finish = asyncio.Event(), asyncio.Event()

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        working.set()
        await finish.wait()
        await confirm_idempotency()
        return True

    deliver = idempotent_consumer(client, _config(redis_prefix, in_progress="raise"))(handler)
    first = asyncio.ensure_future(deliver(EVENT))
    await working.wait()
    with pytest.raises(EventInProgressError):
        await deliver(EVENT)
    finish.set()
    assert await first is True
    assert await deliver(EVENT) is None
    assert json.loads(await client.get(await _key(client, redis_prefix)) or "")["status"] == "completed"


async def test_unreachable_redis_fails_open() -> None:
    """With the library's client on an address where nothing listens the handler runs, once and unprotected."""
    client = RedisClient(client_id="nobody", redis_url="redis://127.0.0.1:1")
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        nonlocal runs
        runs += 1
        await confirm_idempotency()
        return True

    assert await idempotent_consumer(client, IdempotencyConfig("svc"))(handler)(EVENT) is True
    await client.stop()
    assert runs == 1


async def test_on_a_cluster_each_claim_goes_to_its_node(redis_cluster: Any, redis_prefix: str) -> None:
    """Deliveries of one moment whose keys lie in several slots are claimed, confirmed and known again; none runs unprotected."""
    runs: list[str] = []

    async def handler(msg: Any, *, confirm_idempotency: Any) -> bool:
        runs.append(msg.value.decode())
        await confirm_idempotency()
        return True

    messages = [create_test_message(f"event-{number}") for number in range(30)]
    async with RedisClient(client_id="idempotency", redis_url=redis_cluster.address) as cluster:
        deliver = idempotent_consumer(cluster, _config(redis_prefix))(handler)
        before = _failed_open()
        first = await asyncio.gather(*(deliver(message) for message in messages))
        again = await asyncio.gather(*(deliver(message) for message in messages))
        states = [
            json.loads(await cluster.get(key) or "")["status"] for key in await cluster.scan_pattern(f"{redis_prefix}*")
        ]
    assert (first, again, len(set(runs)), len(runs)) == ([True] * 30, [None] * 30, 30, 30)
    assert states == ["completed"] * 30
    assert _failed_open() == before


def _failed_open() -> float:
    samples = [
        sample for metric in REGISTRY.collect() if metric.name == "idempotency_fail_open" for sample in metric.samples
    ]
    return sum(sample.value for sample in samples if sample.name.endswith("_total"))
