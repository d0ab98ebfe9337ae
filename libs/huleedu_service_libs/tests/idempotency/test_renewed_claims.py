"""Claims that are renewed while their handler runs, and end when its worker is dead."""

import asyncio
import json
from typing import Any
from unittest.mock import ANY

import pytest

from huleedu_service_libs.idempotency_v2 import (
    IdempotencyConfig,
    idempotent_consumer,
)
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis

from .benches import EVENT, KEY, Bench, claimed_by_other, never_ends


async def test_claim_is_renewed_while_the_handler_runs(time: FakeTime) -> None:
    """A handler of a thousand seconds keeps its claim, also in the eyes of older readers."""
    redis = ScriptedRedis(time)
    renewed = asyncio.Event()
    redis.time.on_sleep = lambda: renewed.set() if len(time.slept) == 10 else None

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        await renewed.wait()
        record = json.loads(redis.values[KEY][0])
        assert record["status"] == "processing"
        assert time.seconds - record["started_at"] <= 100
        assert redis.values[KEY][1] > time.seconds
        await confirm_idempotency()

    async def sleep(seconds: float) -> None:
        await time.sleep(seconds)
        await asyncio.sleep(0)

    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, clock=time.clock, sleep=sleep)(
        handler
    )(EVENT)
    assert set(time.slept) == {100.0}
    assert json.loads(redis.values[KEY][0])["status"] == "completed"
    assert json.loads(redis.values[KEY][0])["started_at"] == pytest.approx(time.seconds - 1000, abs=200)


async def test_a_short_claim_is_renewed_more_often(time: FakeTime) -> None:
    """With `processing_ttl` of 9 s the claim lives for 9 s and is renewed every 3 s while its handler runs."""
    redis = ScriptedRedis(time)
    renewed = asyncio.Event()
    redis.time.on_sleep = lambda: renewed.set() if len(time.slept) == 10 else None

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        await renewed.wait()
        assert time.seconds < redis.values[KEY][1] <= time.seconds + 9
        await confirm_idempotency()

    async def sleep(seconds: float) -> None:
        await time.sleep(seconds)
        await asyncio.sleep(0)

    config = IdempotencyConfig("svc", processing_ttl=9)
    await idempotent_consumer(redis.port(), config, now=time.now, clock=time.clock, sleep=sleep)(handler)(EVENT)
    assert set(time.slept) == {3.0}


async def test_the_claim_of_a_dead_worker_ends_when_the_configuration_says(time: FakeTime) -> None:
    """Who waits for the event of a worker that died gets it after `processing_ttl`, not after 300 s."""
    redis = ScriptedRedis(time)
    dying = Bench(redis, processing_ttl=9)
    dying.error = asyncio.CancelledError()  # keeps its claim, as a death does
    with pytest.raises(asyncio.CancelledError):
        await dying.deliver(EVENT)
    began, waiting = time.seconds, Bench(redis, in_progress="wait", processing_ttl=9)
    assert await waiting.deliver(EVENT) is True
    assert 8 <= time.seconds - began <= 11


async def test_a_client_that_cannot_renew_claims_for_300_s(time: FakeTime) -> None:
    """Without scripts a claim cannot be renewed, so `processing_ttl` must not cut a long handler's claim short."""
    redis = FakeRedis(time)
    await Bench(redis, processing_ttl=9).deliver(EVENT)
    assert ("set_if_not_exists", KEY, ANY, 300) in redis.calls


@pytest.mark.parametrize("seconds", [1, 301])
def test_processing_ttl_has_limits(seconds: int) -> None:
    """Too short to renew, or longer than other releases wait, is refused by name."""
    with pytest.raises(ValueError, match=f"processing_ttl must be from 2 to 300 s, got {seconds}"):
        IdempotencyConfig("svc", processing_ttl=seconds)


@pytest.mark.parametrize("seconds", [2.5, "30"])
def test_processing_ttl_is_whole_seconds(seconds: Any) -> None:
    """What Redis would refuse as an expiry, so that every event ran unprotected, is refused by name."""
    with pytest.raises(ValueError, match="processing_ttl must be whole seconds, got"):
        IdempotencyConfig("svc", processing_ttl=seconds)


async def test_renewal_stops_with_the_handler(time: FakeTime) -> None:
    """No task outlives the delivery, however the handler ends."""
    redis = ScriptedRedis(time)
    bench = Bench(redis)
    deliver = idempotent_consumer(redis.port(), IdempotencyConfig("svc"), sleep=never_ends)(bench._handle)
    await deliver(EVENT)
    bench.error = RuntimeError("x")
    redis.values.clear()
    with pytest.raises(RuntimeError):
        await deliver(EVENT)
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_renewal_survives_a_failure_and_ends_with_the_claim(time: FakeTime) -> None:
    """One failed renewal is repeated at the next turn; a claim that is another's is renewed no more."""
    redis = ScriptedRedis(time)
    done = asyncio.Event()
    turns = 0

    async def sleep(_seconds: float) -> None:
        nonlocal turns
        turns += 1
        await asyncio.sleep(0)
        redis.failing = {"renew"} if turns == 1 else set()
        if turns == 3:
            redis.put(KEY, claimed_by_other(time))
            asyncio.get_running_loop().call_soon(done.set)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        await done.wait()
        await asyncio.sleep(0)

    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=sleep)(handler)(EVENT)
    assert turns == 3
    assert json.loads(redis.values[KEY][0])["owner"] == "o"
