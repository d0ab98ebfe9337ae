"""A Redis that was restarted, emptied, is evicting or away: noticed, counted, said once."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest
import structlog.testing
from prometheus_client import REGISTRY

from huleedu_service_libs.idempotency_v2.store_watch import StoreWatch
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import RedisServer
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime


class Observable(FakeRedis):
    """Answers INFO."""

    INFO: ClassVar[dict[str, Any]] = {"run_id": "r1", "maxmemory": 0, "maxmemory_policy": "noeviction", "loading": 0}

    def __init__(self, time: FakeTime) -> None:
        super().__init__(time)
        self.info: dict[str, Any] = {**self.INFO, "evicted_keys": 0}

    async def server_info(self) -> dict[str, Any]:
        """INFO."""
        await self._enter("info")
        return dict(self.info)


@pytest.fixture(name="redis")
def _redis() -> Observable:
    return Observable(FakeTime())


def _watch(redis: FakeRedis, **more: Any) -> StoreWatch:
    return StoreWatch(redis.port(), service_name="svc", now=redis.time.now, sleep=redis.time.sleep, **more)


def _incidents(kind: str) -> float:
    return REGISTRY.get_sample_value("idempotency_store_incidents_total", {"service": "svc", "kind": kind}) or 0.0


def _condition(kind: str) -> float | None:
    return REGISTRY.get_sample_value("idempotency_store_condition", {"service": "svc", "kind": kind})


async def _errors(watch: StoreWatch) -> list[str]:
    """The kinds of what one look logs as errors."""
    with structlog.testing.capture_logs() as logs:
        await watch.check()
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    return [entry["kind"] for entry in errors if entry["event"].startswith("idempotency_store_")]


async def test_a_sound_store_is_healthy(redis: Observable) -> None:
    """Nothing is said of a Redis that stays what it is, and the status shows what it is."""
    watch = _watch(redis)
    assert watch.status.checked_at is None  # nobody has looked yet
    assert watch.status.healthy is False
    assert [await _errors(watch) for _ in range(3)] == [[], [], []]
    assert (watch.status.healthy, watch.status.problems) == (True, ())
    assert (watch.status.run_id, watch.status.eviction_policy) == ("r1", "noeviction")


@pytest.mark.parametrize(
    ("kind", "change", "word"),
    [
        ("restarted", {"run_id": "r2"}, "appendonly yes"),
        ("evicted", {"evicted_keys": 7}, "raise maxmemory"),
    ],
)
async def test_an_incident_is_told_once(redis: Observable, kind: str, change: dict[str, Any], word: str) -> None:
    """A restart or an eviction is one log line and one count; the status keeps it, with what to do."""
    watch = _watch(redis)
    await watch.check()
    before = _incidents(kind)
    redis.info.update(change)
    assert await _errors(watch) == [kind]
    assert await _errors(watch) == []
    assert _incidents(kind) == before + 1
    assert watch.status.healthy  # it is over
    (problem,) = watch.status.problems
    assert word in problem


async def test_a_restart_is_no_eviction(redis: Observable) -> None:
    """The counter of a new run is not compared with that of the old one."""
    watch = _watch(redis)
    redis.info["evicted_keys"] = 5
    await watch.check()
    redis.info.update(run_id="r2", evicted_keys=9)
    assert await _errors(watch) == ["restarted"]


async def test_a_flush_is_noticed_by_every_process(redis: Observable) -> None:
    """Every watch notices that the marker went, also the one that looks after another has set a new one."""
    first, second = _watch(redis), _watch(redis)
    await first.check()
    await second.check()
    redis.values.clear()
    assert await _errors(first) == ["data_lost"]
    assert await _errors(second) == ["data_lost"]
    assert [await _errors(first), await _errors(second)] == [[], []]


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("loading", {"loading": 1}),
        ("eviction_policy", {"maxmemory": 100, "maxmemory_policy": "allkeys-lru"}),
    ],
)
async def test_a_condition_is_told_when_it_begins(redis: Observable, kind: str, change: dict[str, Any]) -> None:
    """What is the case is said once, shown while it lasts, and gone afterwards."""
    watch = _watch(redis)
    redis.info.update(change)
    assert [await _errors(watch), await _errors(watch)] == [[kind], []]
    assert (watch.status.conditions, _condition(kind)) == ((kind,), 1)
    redis.info.update(Observable.INFO)
    assert await _errors(watch) == []
    assert (watch.status.healthy, _condition(kind)) == (True, 0)


async def test_a_policy_without_a_limit_evicts_nothing(redis: Observable) -> None:
    """Where there is no maxmemory its policy does not matter."""
    redis.info["maxmemory_policy"] = "allkeys-lru"
    assert await _errors(_watch(redis)) == []


@pytest.mark.parametrize(("failing", "kind"), [("get", "unreachable"), ("info", "unobservable")])
async def test_no_answer_is_an_answer(redis: Observable, failing: str, kind: str) -> None:
    """A Redis that is away, or refuses INFO, raises nothing and is told once with the cause."""
    watch = _watch(redis)
    await watch.check()
    redis.failing = {failing}
    with structlog.testing.capture_logs() as logs:
        await watch.check()
        await watch.check()
    (line,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (line["kind"], line["error"]) == (kind, f"{failing} refused")
    assert watch.status.conditions == (kind,)
    redis.failing = set()
    assert await _errors(watch) == []
    assert watch.status.healthy


async def test_a_client_without_info_still_notices_a_loss() -> None:
    """With the four plain methods alone the marker tells."""
    redis = FakeRedis(FakeTime())
    watch = _watch(redis)
    await watch.check()
    assert watch.status.healthy
    redis.values.clear()
    assert await _errors(watch) == ["data_lost"]


async def test_it_looks_at_intervals(redis: Observable) -> None:
    """From start to stop it looks each interval; both may be repeated, and no task is left."""
    looked = asyncio.Semaphore(0)
    turns: list[float] = []

    async def sleep(seconds: float) -> None:
        turns.append(seconds)
        looked.release()
        await asyncio.sleep(0.001)

    watch = StoreWatch(redis.port(), service_name="svc", interval_s=7, sleep=sleep)
    async with watch:
        await watch.start()
        for _ in range(3):
            await asyncio.wait_for(looked.acquire(), 10)
    await watch.stop()
    assert set(turns) == {7}
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("wrong", ["interval_s", "timeout_s"])
def test_settings_are_checked(redis: Observable, wrong: str) -> None:
    """A time that is not positive is refused by name."""
    with pytest.raises(ValueError, match=f"{wrong} must be positive, got 0"):
        _watch(redis, **{wrong: 0})


# --- a real Redis


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="watch", redis_url=redis_url) as client:
        yield client


@pytest.mark.integration
async def test_a_real_redis_is_restarted_and_evicts(
    client: RedisClient, redis_server: RedisServer, redis_prefix: str
) -> None:
    """A restart, an eviction policy and evicted keys of a real server are noticed."""
    watch = StoreWatch(client, service_name="svc", key_prefix=redis_prefix)
    assert await _errors(watch) == []
    assert (await watch.check()).run_id
    try:
        await asyncio.to_thread(redis_server.stop)
    except NotOursError as error:
        pytest.skip(str(error))
    try:
        assert await _errors(watch) == ["unreachable"]
    finally:
        await asyncio.to_thread(redis_server.start)
    assert "restarted" in await _errors(watch)
    assert watch.status.healthy
    used = int((await client.server_info())["used_memory"])
    try:
        await client.client.config_set("maxmemory-policy", "allkeys-lru")
        await client.client.config_set("maxmemory", used + 200_000)
        assert await _errors(watch) == ["eviction_policy"]
        for n in range(400):
            await client.setex(f"{redis_prefix}{n}", 60, "x" * 2_000)
        assert "evicted" in await _errors(watch)
    finally:
        await client.client.config_set("maxmemory", 0)
        await client.client.config_set("maxmemory-policy", "noeviction")
