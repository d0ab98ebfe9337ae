"""The known defects of the earlier library, each under the number that it has in the contract."""

import asyncio
import json
from typing import Any

import pytest

from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.idempotency_v2 import EventInProgressError, IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.idempotency_v2.identity import identify
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis, message
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

EVENT = create_test_message()


@pytest.fixture(name="redis", params=[FakeRedis, ScriptedRedis])
def _redis(request: pytest.FixtureRequest) -> FakeRedis:
    redis: FakeRedis = request.param(FakeTime())
    return redis


def _deliver(redis: FakeRedis, handler: Any, **config: Any) -> Any:
    time = redis.time
    decorate = idempotent_consumer(
        redis.port(), IdempotencyConfig("svc", **config), now=time.now, clock=time.clock, sleep=time.sleep
    )
    return decorate(handler)


def _record(redis: FakeRedis) -> dict[str, Any]:
    ((text, _),) = redis.values.values()
    record: dict[str, Any] = json.loads(text)
    return record


@pytest.mark.parametrize("error", [RuntimeError("x"), json.JSONDecodeError("x", "", 0), ConnectionError("x")])
async def test_defect_01_a_failing_handler_runs_once(redis: FakeRedis, error: Exception) -> None:
    """Defect 1: whatever a handler raises, also a JSON error of its own, it ran once and not again unprotected."""
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1
        raise error

    with pytest.raises(type(error)) as caught:
        await _deliver(redis, handler)(EVENT)
    assert (runs, caught.value) == (1, error)
    assert redis.values == {}


async def test_defect_02_an_event_of_a_worker_that_dies_is_not_lost(redis: FakeRedis) -> None:
    """Defect 2: with `wait` or `raise` an event in progress elsewhere is no duplicate, and runs when the other died."""
    runs = 0

    async def dying(_msg: Any, *, confirm_idempotency: Any) -> None:
        raise asyncio.CancelledError

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        nonlocal runs
        runs += 1
        await confirm_idempotency()
        return True

    with pytest.raises(asyncio.CancelledError):
        await _deliver(redis, dying)(EVENT)
    with pytest.raises(EventInProgressError):
        await _deliver(redis, handler, in_progress="raise")(EVENT)
    assert await _deliver(redis, handler, in_progress="wait", wait_timeout_seconds=400)(EVENT) is True
    assert runs == 1


async def test_defect_03_a_long_handler_is_not_overtaken() -> None:
    """Defect 3: a handler of fifteen minutes keeps its claim, so that a redelivery in its last second does not run."""
    time = FakeTime()
    redis = ScriptedRedis(time)
    runs = 0
    late = asyncio.Event()

    async def sleep(seconds: float) -> None:
        await time.sleep(seconds)
        if len(time.slept) == 9:
            late.set()
        await asyncio.sleep(0)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        nonlocal runs
        runs += 1
        await late.wait()
        if runs == 1:
            assert await deliver(EVENT) is None
        await confirm_idempotency()
        return True

    config = IdempotencyConfig("svc")
    deliver = idempotent_consumer(redis.port(), config, now=time.now, clock=time.clock, sleep=sleep)(handler)
    assert await deliver(EVENT) is True
    assert (runs, sum(time.slept[:9])) == (1, 900)


async def test_defect_03_a_late_worker_changes_nobody_elses_claim() -> None:
    """Defect 3: who has lost the claim neither deletes nor overwrites the next owner's."""
    redis = ScriptedRedis(FakeTime())
    foreign = json.dumps({"status": "processing", "started_at": redis.time.seconds, "owner": "next"})

    async def handler(_msg: Any, *, confirm_idempotency: Any, fails: bool) -> None:
        (key,) = redis.values
        redis.put(key, foreign)
        if fails:
            raise RuntimeError("late")
        await confirm_idempotency()

    never = asyncio.Event()

    async def sleep(_seconds: float) -> None:
        await never.wait()

    deliver = idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=redis.time.now, sleep=sleep)(handler)
    await deliver(EVENT, fails=False)
    assert _record(redis)["owner"] == "next"
    redis.values.clear()
    with pytest.raises(RuntimeError):
        await deliver(EVENT, fails=True)
    assert _record(redis)["owner"] == "next"


async def test_defect_04_header_path_and_body_path_keep_their_keys() -> None:
    """Defect 4: live keys must stay what they are, so the two paths differ; the event id itself is the same on both."""
    body = json.dumps({"event_id": "e", "event_type": "t", "data": {"n": 1}}).encode()
    by_body = identify(message(body))
    by_headers = identify(message(body, [("event_id", b"e"), ("event_type", b"t")]))
    assert by_body.digest == generate_deterministic_event_id(body) != by_headers.digest
    assert by_body.event_id == by_headers.event_id == "e"


@pytest.mark.parametrize("stored", ["1", "[1]", '"done"', "null", "done"])
async def test_defect_05_an_odd_stored_value_skips(redis: FakeRedis, stored: str) -> None:
    """Defect 5: JSON that is no object, as an older release may have stored it, means processed."""
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1

    key = IdempotencyConfig("svc").generate_redis_key("test.event.v1", "", identify(EVENT).digest)
    redis.put(key, stored)
    assert await _deliver(redis, handler)(EVENT) is None
    assert (runs, redis.values[key][0]) == (0, stored)


async def test_defect_05_a_null_event_type_is_protected(redis: FakeRedis) -> None:
    """Defect 5: a null event type does not leave the event unprotected, and an array body is a ValueError."""
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1
        await confirm_idempotency()

    event = message(b'{"event_id": "e", "event_type": null, "data": {}}')
    await _deliver(redis, handler)(event)
    await _deliver(redis, handler)(event)
    assert runs == 1
    with pytest.raises(ValueError, match="must be a JSON object, got list"):
        generate_deterministic_event_id(b"[]")


async def test_defect_06_programming_errors_surface(redis: FakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Defect 6: only what the client raises fails open; an error of ours is not processed away."""

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        raise AssertionError("must not run")

    monkeypatch.setattr("huleedu_service_libs.idempotency_v2.claim.processing_text", lambda *_a, **_k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await _deliver(redis, handler)(EVENT)


async def test_defect_06_one_round_trip_and_the_true_start() -> None:
    """Defect 6: a client with scripts claims in one command; a completed record has the time of the start."""
    redis = ScriptedRedis(FakeTime())
    began = redis.time.seconds

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        redis.time.seconds += 7
        await confirm_idempotency()

    await _deliver(redis, handler)(EVENT)
    assert [name for name in redis.names() if name != "register_script"] == ["claim", "confirm"]
    record = _record(redis)
    assert (record["started_at"], record["completed_at"]) == (began, began + 7)


async def test_defect_07_an_unconfirmed_event_need_not_be_dropped(redis: FakeRedis) -> None:
    """Defect 7: what a handler did not confirm is kept back for 300 s by contract, and given back at once by setting."""
    confirming = False

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> bool:
        if confirming:
            await confirm_idempotency()
        return confirming

    await _deliver(redis, handler)(EVENT)
    assert _record(redis)["status"] == "processing"
    with pytest.raises(EventInProgressError):
        await _deliver(redis, handler, in_progress="raise")(EVENT)
    redis.values.clear()
    assert await _deliver(redis, handler, unconfirmed="release")(EVENT) is False
    confirming = True
    assert await _deliver(redis, handler, unconfirmed="release")(EVENT) is True
