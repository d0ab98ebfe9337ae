"""An event that another worker is processing: raise, or wait until that one confirms, gives back or dies."""

import pickle
from unittest.mock import AsyncMock

import pytest

from huleedu_service_libs.idempotency_v2 import (
    EventInProgressError,
)
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis

from .benches import EVENT, KEY, Bench, claimed_by_other

# --- in progress elsewhere


async def test_raise_names_event_key_and_owner(redis: FakeRedis) -> None:
    """With `raise` an event in progress raises at once; the error survives pickling."""
    redis.put(KEY, claimed_by_other(redis.time))
    bench = Bench(redis, in_progress="raise")
    with pytest.raises(EventInProgressError, match="deliver it again") as caught:
        await bench.deliver(EVENT)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
    assert (error.event_id, error.key, error.owner) == ("test-123", KEY, "o")
    assert (bench.runs, redis.time.slept) == (0, [])


async def test_raise_after_a_lost_race_names_the_owner(plain: FakeRedis) -> None:
    """Who loses the race looks who won."""
    record = claimed_by_other(plain.time)
    plain.get = AsyncMock(side_effect=[None, record])  # type: ignore[method-assign]
    plain.put(KEY, record)
    with pytest.raises(EventInProgressError) as caught:
        await Bench(plain, in_progress="raise").deliver(EVENT)
    assert caught.value.owner == "o"


async def test_wait_skips_when_the_other_confirms(redis: FakeRedis) -> None:
    """A waiting delivery is a duplicate once the other has confirmed."""
    redis.put(KEY, claimed_by_other(redis.time))
    redis.time.on_sleep = lambda: redis.put(KEY, '{"status": "completed"}') if len(redis.time.slept) == 3 else None
    bench = Bench(redis, in_progress="wait")
    assert await bench.deliver(EVENT) is None
    assert bench.runs == 0
    assert redis.time.slept == [0.05, 0.1, 0.2]


async def test_wait_runs_when_the_other_releases(redis: FakeRedis) -> None:
    """A waiting delivery takes over what the other gives back."""
    redis.put(KEY, claimed_by_other(redis.time))
    redis.time.on_sleep = redis.values.clear
    bench = Bench(redis, in_progress="wait")
    assert await bench.deliver(EVENT) is True
    assert bench.runs == 1


async def test_wait_takes_over_what_expires(redis: FakeRedis) -> None:
    """A worker that died is succeeded when its claim ends."""
    redis.put(KEY, claimed_by_other(redis.time), ttl_seconds=20)
    bench = Bench(redis, in_progress="wait")
    assert await bench.deliver(EVENT) is True
    assert bench.runs == 1


async def test_wait_is_bounded(redis: FakeRedis) -> None:
    """After the time-out the event is refused, so that the consumer does not commit."""
    redis.put(KEY, claimed_by_other(redis.time))
    bench = Bench(redis, in_progress="wait", wait_timeout_seconds=5)
    with pytest.raises(EventInProgressError):
        await bench.deliver(EVENT)
    assert sum(redis.time.slept) == pytest.approx(5)
    assert bench.runs == 0
