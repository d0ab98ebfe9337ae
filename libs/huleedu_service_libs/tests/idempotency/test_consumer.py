"""`idempotent_consumer` with doubles of the protocol: every row of the contract's table, and its order."""

import asyncio
import json
import pickle
from typing import Any
from unittest.mock import ANY, AsyncMock

import pytest
import structlog
import structlog.testing
from opentelemetry import trace
from prometheus_client import REGISTRY

from huleedu_service_libs.idempotency_v2 import (
    EventInProgressError,
    IdempotencyConfig,
    StoreDownError,
    idempotent_consumer,
)
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, RedisClientProtocol
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis, message
from libs.huleedu_service_libs.tests.idempotency_test_utils import AsyncConfirmationTestHelper, create_test_message

EVENT = create_test_message()
HASH = "d30836992a7a98beae277c715ced69efbe604fe14bc874679aba06ea99576f62"
KEY = f"huleedu:idempotency:v2:svc:test_event_v1:{HASH}"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Bench:
    """A decorated handler that records its runs and does what a test tells it to."""

    def __init__(self, redis: FakeRedis, **config: Any) -> None:
        self.redis = redis
        self.runs = 0
        self.confirming = True
        self.error: BaseException | None = None
        self.result: Any = True
        time = redis.time
        decorate = idempotent_consumer(
            redis.port(), IdempotencyConfig("svc", **config), now=time.now, clock=time.clock, sleep=time.sleep
        )
        self.deliver = decorate(self._handle)

    async def _handle(self, _msg: Any, *, confirm_idempotency: Any) -> Any:
        """Process."""
        self.runs += 1
        if self.error is not None:
            raise self.error
        if self.confirming:
            await confirm_idempotency()
        return self.result


@pytest.fixture(name="time")
def _time() -> FakeTime:
    return FakeTime()


@pytest.fixture(name="redis", params=[FakeRedis, ScriptedRedis])
def _redis(request: pytest.FixtureRequest, time: FakeTime) -> FakeRedis:
    redis: FakeRedis = request.param(time)
    return redis


@pytest.fixture(name="plain")
def _plain(time: FakeTime) -> FakeRedis:
    return FakeRedis(time)


def _claimed_by_other(time: FakeTime, age: float = 10) -> str:
    record = {"status": "processing", "started_at": time.seconds - age, "processed_by": "other", "owner": "o"}
    return json.dumps(record)


def _count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(metric, {"service": "svc", **labels}) or 0.0


async def test_calls_of_an_undisturbed_event(plain: FakeRedis) -> None:
    """Get, set if not exists with 300 s, handler, setex with the type's time to live."""
    bench = Bench(plain, event_type_ttls={"test.event.v1": 77})
    assert await bench.deliver(EVENT) is True
    get, claim, confirm = plain.calls
    assert get == ("get", KEY)
    assert (claim[0], claim[1], claim[3]) == ("set_if_not_exists", KEY, 300)
    assert confirm[:3] == ("setex", KEY, 77)
    processing, completed = json.loads(claim[2]), json.loads(confirm[3])
    about = {
        "processed_by": "svc",
        "event_id": "test-123",
        "correlation_id": json.loads(EVENT.value)["correlation_id"],
        "source_service": "test-service",
    }
    assert processing == {"status": "processing", "started_at": plain.time.seconds, **about}
    assert completed == {
        "status": "completed",
        "started_at": plain.time.seconds,
        "completed_at": plain.time.seconds,
        **about,
    }


async def test_ttl_is_passed_by_keyword() -> None:
    """Doubles made from the protocol see the exact calls that services assert."""
    redis = AsyncMock(spec=RedisClientProtocol)
    redis.get.return_value = None
    redis.set_if_not_exists.return_value = True
    handler = AsyncMock(return_value="result")
    handler.__name__ = "handler"
    assert await idempotent_consumer(redis, IdempotencyConfig("svc"))(handler)(EVENT, 1, x=2) == "result"
    redis.get.assert_awaited_once_with(KEY)
    assert redis.set_if_not_exists.await_args.kwargs == {"ttl_seconds": 300}
    assert redis.set_if_not_exists.await_args.args[0] == KEY
    redis.setex.assert_not_called()
    redis.delete_key.assert_not_called()
    handler.assert_awaited_once_with(EVENT, 1, x=2, confirm_idempotency=ANY)


def test_metadata_is_kept(plain: FakeRedis) -> None:
    """The wrapper looks like the handler."""
    assert Bench(plain).deliver.__name__ == "_handle"
    assert Bench(plain).deliver.__doc__ == "Process."


@pytest.mark.parametrize("stored", ['{"status": "completed"}', "{}", "1", "processed", "[1]"])
async def test_processed_event_is_skipped(redis: FakeRedis, stored: str) -> None:
    """A completed record, or one of an older format, skips without trying to claim."""
    redis.put(KEY, stored)
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is None
    looked = ["get"] if type(redis) is FakeRedis else ["register_script", "claim"]
    assert (redis.names(), bench.runs) == (looked, 0)
    assert redis.values[KEY][0] == stored


async def test_event_in_progress_is_skipped(redis: FakeRedis) -> None:
    """By default an event that another worker processes is skipped like a duplicate."""
    redis.put(KEY, _claimed_by_other(redis.time))
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is None
    looked = ["get"] if type(redis) is FakeRedis else ["register_script", "claim"]
    assert (redis.names(), bench.runs) == (looked, 0)


async def test_stale_claim_is_taken_over(plain: FakeRedis) -> None:
    """A claim older than 300 s is deleted, and the event processed."""
    plain.put(KEY, _claimed_by_other(plain.time, age=301))
    assert await Bench(plain).deliver(EVENT) is True
    assert plain.names() == ["get", "delete_key", "set_if_not_exists", "setex"]


async def test_lost_race_is_skipped(plain: FakeRedis) -> None:
    """Who does not get the key skips, without looking again."""
    plain.get = AsyncMock(return_value=None)  # type: ignore[method-assign]
    plain.put(KEY, _claimed_by_other(plain.time))
    bench = Bench(plain)
    assert await bench.deliver(EVENT) is None
    assert (plain.names(), bench.runs) == (["set_if_not_exists"], 0)
    plain.get.assert_awaited_once()


@pytest.mark.parametrize("result", [True, False, None, "text"])
async def test_return_without_confirmation_leaves_the_key(redis: FakeRedis, result: Any) -> None:
    """Whatever a handler returns goes to the caller, and the claim stays as it is."""
    bench = Bench(redis)
    bench.confirming, bench.result = False, result
    before = _count("idempotency_events_total", outcome="unconfirmed")
    assert await bench.deliver(EVENT) is result
    assert json.loads(redis.values[KEY][0])["status"] == "processing"
    assert "delete_key" not in redis.names()
    assert _count("idempotency_events_total", outcome="unconfirmed") == before + 1


@pytest.mark.parametrize(
    "error",
    [RuntimeError("x"), ConnectionError("redis"), json.JSONDecodeError("x", "", 0), ValueError("v"), KeyError("k")],
)
async def test_failing_handler_runs_once_and_gives_the_event_back(plain: FakeRedis, error: Exception) -> None:
    """Whatever a handler raises comes out as it is, after one run and one delete."""
    bench = Bench(plain)
    bench.error = error
    with pytest.raises(type(error)) as caught:
        await bench.deliver(EVENT)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert bench.runs == 1
    assert plain.names() == ["get", "set_if_not_exists", "delete_key"]
    bench.error = None
    assert await bench.deliver(EVENT) is True


async def test_failing_delete_is_ignored(plain: FakeRedis) -> None:
    """When giving back fails, the handler's error still is what the caller sees."""
    plain.failing = {"delete_key"}
    bench = Bench(plain)
    bench.error = RuntimeError("handler")
    with pytest.raises(RuntimeError, match="handler"):
        await bench.deliver(EVENT)
    assert bench.runs == 1


async def test_error_after_confirmation_does_not_give_back(redis: FakeRedis) -> None:
    """An event confirmed is an event processed, whatever the handler does afterwards."""

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        await confirm_idempotency()
        raise RuntimeError("later")

    deliver = idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=redis.time.now)(handler)
    with pytest.raises(RuntimeError, match="later"):
        await deliver(EVENT)
    assert json.loads(redis.values[KEY][0])["status"] == "completed"


async def test_cancellation_leaves_the_claim(redis: FakeRedis) -> None:
    """A cancelled handler's event stays in processing, because nobody knows how far it came."""
    started = asyncio.Event()

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        started.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(idempotent_consumer(redis.port(), IdempotencyConfig("svc"))(handler)(EVENT))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert json.loads(redis.values[KEY][0])["status"] == "processing"


async def test_failing_confirmation_is_not_raised(redis: FakeRedis) -> None:
    """A handler whose work is committed does not learn that Redis failed."""
    redis.failing = {"setex", "confirm"}
    assert await Bench(redis).deliver(EVENT) is True
    assert json.loads(redis.values[KEY][0])["status"] == "processing"


async def test_confirming_twice_writes_once(plain: FakeRedis) -> None:
    """Only the first confirmation asks Redis."""

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        await confirm_idempotency()
        await confirm_idempotency()

    await idempotent_consumer(plain.port(), IdempotencyConfig("svc"))(handler)(EVENT)
    assert plain.names().count("setex") == 1


@pytest.mark.parametrize(("failing", "calls"), [("get", ["get"]), ("set_if_not_exists", ["get", "set_if_not_exists"])])
async def test_redis_failure_fails_open(plain: FakeRedis, failing: str, calls: list[str]) -> None:
    """Without Redis the handler runs once, unprotected, and nothing else is tried."""
    redis = plain
    redis.failing = {failing}
    reason = {"get": "redis_get", "set_if_not_exists": "redis_set"}[failing]
    before = _count("idempotency_fail_open_total", reason=reason)
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is True
    assert (redis.names(), bench.runs) == (calls, 1)
    assert _count("idempotency_fail_open_total", reason=reason) == before + 1


async def test_handler_error_after_fail_open_propagates(plain: FakeRedis) -> None:
    """An unprotected handler that raises runs once as well, and nothing is deleted."""
    redis = plain
    redis.failing = {"get"}
    bench = Bench(redis)
    bench.error = error = ConnectionError("handler's own")
    with pytest.raises(ConnectionError) as caught:
        await bench.deliver(EVENT)
    assert caught.value is error
    assert caught.value.__context__ is None
    assert (redis.names(), bench.runs) == (["get"], 1)


@pytest.mark.parametrize("body", [b"no json", b"{}", b'{"data": null}', b"[1]", b"\xff", None])
async def test_undecodable_body_fails_open(redis: FakeRedis, body: bytes | None) -> None:
    """A body without identity is processed without Redis being asked."""
    bench = Bench(redis)
    assert await bench.deliver(message(body)) is True
    assert (redis.names(), bench.runs) == ([], 1)


async def test_answer_of_the_wrong_kind_fails_open() -> None:
    """A double that answers with a mock is a Redis that does not answer."""
    redis = AsyncMock(spec=RedisClientProtocol)
    handler = AsyncMock(return_value=1)
    handler.__name__ = "handler"
    assert await idempotent_consumer(redis, IdempotencyConfig("svc"))(handler)(EVENT) == 1
    redis.set_if_not_exists.assert_not_called()


async def test_errors_of_our_own_surface(monkeypatch: pytest.MonkeyPatch, plain: FakeRedis) -> None:
    """Fail-open is for Redis; a programming error is not swallowed."""
    monkeypatch.setattr("huleedu_service_libs.idempotency_v2.claiming.judge", lambda *_a, **_k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await Bench(plain).deliver(EVENT)


async def test_null_event_type_is_protected(plain: FakeRedis) -> None:
    """A null event type is unknown, not unprotected."""
    bench = Bench(plain)
    body = b'{"event_id": "e", "event_type": null, "data": {}}'
    assert [await bench.deliver(message(body)), await bench.deliver(message(body))] == [True, None]
    assert bench.runs == 1


async def test_double_that_inherits_from_the_atomic_protocol(time: FakeTime) -> None:
    """Script methods inherited from the protocol class are no ability."""

    class Double(FakeRedis, AtomicRedisClientProtocol):
        """As websocket_service has it."""

    redis = Double(time)  # type: ignore[abstract]  # at run time nothing is
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is True
    assert redis.names() == ["get", "set_if_not_exists", "setex"]


async def test_double_with_meaningless_script_methods(time: FakeTime) -> None:
    """A double whose register_script returns no digest is used through the four methods."""

    class Double(FakeRedis):
        async def register_script(self, _body: str) -> None:
            """Nothing."""

        async def execute_script(self, *_args: Any) -> None:
            """Nothing."""

    redis = Double(time)
    assert await Bench(redis).deliver(EVENT) is True
    assert redis.names() == ["get", "set_if_not_exists", "setex"]


# --- in progress elsewhere


async def test_raise_names_event_key_and_owner(redis: FakeRedis) -> None:
    """With `raise` an event in progress raises at once; the error survives pickling."""
    redis.put(KEY, _claimed_by_other(redis.time))
    bench = Bench(redis, in_progress="raise")
    with pytest.raises(EventInProgressError, match="deliver it again") as caught:
        await bench.deliver(EVENT)
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # our own
    assert (error.event_id, error.key, error.owner) == ("test-123", KEY, "o")
    assert (bench.runs, redis.time.slept) == (0, [])


async def test_raise_after_a_lost_race_names_the_owner(plain: FakeRedis) -> None:
    """Who loses the race looks who won."""
    record = _claimed_by_other(plain.time)
    plain.get = AsyncMock(side_effect=[None, record])  # type: ignore[method-assign]
    plain.put(KEY, record)
    with pytest.raises(EventInProgressError) as caught:
        await Bench(plain, in_progress="raise").deliver(EVENT)
    assert caught.value.owner == "o"


async def test_wait_skips_when_the_other_confirms(redis: FakeRedis) -> None:
    """A waiting delivery is a duplicate once the other has confirmed."""
    redis.put(KEY, _claimed_by_other(redis.time))
    redis.time.on_sleep = lambda: redis.put(KEY, '{"status": "completed"}') if len(redis.time.slept) == 3 else None
    bench = Bench(redis, in_progress="wait")
    assert await bench.deliver(EVENT) is None
    assert bench.runs == 0
    assert redis.time.slept == [0.05, 0.1, 0.2]


async def test_wait_runs_when_the_other_releases(redis: FakeRedis) -> None:
    """A waiting delivery takes over what the other gives back."""
    redis.put(KEY, _claimed_by_other(redis.time))
    redis.time.on_sleep = redis.values.clear
    bench = Bench(redis, in_progress="wait")
    assert await bench.deliver(EVENT) is True
    assert bench.runs == 1


async def test_wait_takes_over_what_expires(redis: FakeRedis) -> None:
    """A worker that died is succeeded when its claim ends."""
    redis.put(KEY, _claimed_by_other(redis.time), ttl_seconds=20)
    bench = Bench(redis, in_progress="wait")
    assert await bench.deliver(EVENT) is True
    assert bench.runs == 1


async def test_wait_is_bounded(redis: FakeRedis) -> None:
    """After the time-out the event is refused, so that the consumer does not commit."""
    redis.put(KEY, _claimed_by_other(redis.time))
    bench = Bench(redis, in_progress="wait", wait_timeout_seconds=5)
    with pytest.raises(EventInProgressError):
        await bench.deliver(EVENT)
    assert sum(redis.time.slept) == pytest.approx(5)
    assert bench.runs == 0


# --- a Redis that hangs


class Hanging(FakeRedis):
    """Never answers the calls named in ``failing``."""

    async def _enter(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] in self.failing:
            await asyncio.Event().wait()


class HangingScripted(Hanging, ScriptedRedis):
    """The same, with scripts."""


def _impatient(redis: FakeRedis, handler: Any) -> Any:
    decorate = idempotent_consumer(
        redis.port(), IdempotencyConfig("svc"), redis_timeout_seconds=0.02, now=redis.time.now, sleep=_never
    )
    return decorate(handler)


async def _confirming(_msg: Any, *, confirm_idempotency: Any) -> str:
    await confirm_idempotency()
    return "done"


@pytest.mark.parametrize(
    ("kind", "call", "reason"),
    [
        (Hanging, "get", "redis_get"),
        (Hanging, "set_if_not_exists", "redis_set"),
        (HangingScripted, "register_script", "redis_claim"),
        (HangingScripted, "claim", "redis_claim"),
    ],
)
async def test_a_redis_that_hangs_before_the_handler_fails_open(
    time: FakeTime, kind: type[FakeRedis], call: str, reason: str
) -> None:
    """No answer within the limit is no answer: the handler runs unprotected, counted and logged."""
    redis = kind(time)
    redis.failing = {call}
    before = _count("idempotency_fail_open_total", reason=reason)
    with structlog.testing.capture_logs() as logs:
        assert await asyncio.wait_for(_impatient(redis, _confirming)(EVENT), 15) == "done"
    assert _count("idempotency_fail_open_total", reason=reason) == before + 1
    (failure,) = [entry for entry in logs if entry["log_level"] == "error"]
    assert (failure["action"], failure["error_type"]) == ("fail_open", "TimeoutError")
    # With scripts the limit is for two attempts together.
    assert failure["error"] == f"no answer within {0.02 if kind is Hanging else 0.01} s"
    assert call in redis.names()[-3:]  # with scripts the confirmation is tried, in case that the claim exists


@pytest.mark.parametrize(("kind", "call"), [(Hanging, "setex"), (HangingScripted, "confirm")])
async def test_a_redis_that_hangs_at_the_confirmation_holds_nobody(
    time: FakeTime, kind: type[FakeRedis], call: str
) -> None:
    """The handler's result counts; that it was not recorded is counted and logged."""
    redis = kind(time)
    redis.failing = {call}
    before = _count("idempotency_errors_total", kind="confirmation_failed")
    assert await asyncio.wait_for(_impatient(redis, _confirming)(EVENT), 15) == "done"
    assert _count("idempotency_errors_total", kind="confirmation_failed") == before + 1


@pytest.mark.parametrize(("kind", "call"), [(Hanging, "delete_key"), (HangingScripted, "release")])
async def test_a_redis_that_hangs_at_the_release_holds_nobody(time: FakeTime, kind: type[FakeRedis], call: str) -> None:
    """The handler's error comes out, and the failed release is counted."""
    redis = kind(time)
    redis.failing = {call}

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        raise RuntimeError("own")

    before = _count("idempotency_errors_total", kind="release_failed")
    with pytest.raises(RuntimeError, match="own"):
        await asyncio.wait_for(_impatient(redis, handler)(EVENT), 15)
    assert _count("idempotency_errors_total", kind="release_failed") == before + 1


async def test_an_error_of_the_client_inside_the_limit_stays_what_it_is(plain: FakeRedis) -> None:
    """A client's own time-out is reported with its own words."""
    plain.get = AsyncMock(side_effect=TimeoutError("socket"))  # type: ignore[method-assign]
    with structlog.testing.capture_logs() as logs:
        assert await _impatient(plain, _confirming)(EVENT) == "done"
    assert [entry["error"] for entry in logs if entry["log_level"] == "error"] == ["socket"]


async def test_an_owner_that_cannot_be_read_is_counted(plain: FakeRedis) -> None:
    """The refusal comes without the owner's name when Redis fails in between, and the failure is not lost."""
    plain.get = AsyncMock(side_effect=[None, ConnectionError("gone")])  # type: ignore[method-assign]
    plain.put(KEY, _claimed_by_other(plain.time))
    before = _count("idempotency_errors_total", kind="owner_unknown")
    with structlog.testing.capture_logs() as logs, pytest.raises(EventInProgressError) as caught:
        await Bench(plain, in_progress="raise").deliver(EVENT)
    assert caught.value.owner is None
    assert _count("idempotency_errors_total", kind="owner_unknown") == before + 1
    assert [entry["error"] for entry in logs if entry["log_level"] == "warning"] == ["gone"]


# --- with scripts


async def test_only_the_owner_releases(time: FakeTime) -> None:
    """A handler that fails after its claim went to another leaves the other's claim alone."""
    redis = ScriptedRedis(time)
    runs = 0

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        nonlocal runs
        runs += 1
        redis.put(KEY, _claimed_by_other(time))
        raise RuntimeError("late")

    deliver = idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=_never)(handler)
    with pytest.raises(RuntimeError, match="late"):
        await deliver(EVENT)
    assert json.loads(redis.values[KEY][0])["owner"] == "o"
    assert runs == 1


async def test_only_the_owner_confirms(time: FakeTime) -> None:
    """A handler that finishes after its claim went to another does not overwrite the other's."""
    redis = ScriptedRedis(time)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        redis.put(KEY, _claimed_by_other(time))
        await confirm_idempotency()

    before = _count("idempotency_errors_total", kind="confirmation_failed")
    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=_never)(handler)(EVENT)
    assert json.loads(redis.values[KEY][0])["owner"] == "o"
    assert _count("idempotency_errors_total", kind="confirmation_failed") == before + 1


async def test_confirms_what_has_expired(time: FakeTime) -> None:
    """A claim that ran out while nobody took it is confirmed all the same."""
    redis = ScriptedRedis(time)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        redis.values.clear()
        await confirm_idempotency()

    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=_never)(handler)(EVENT)
    assert json.loads(redis.values[KEY][0])["status"] == "completed"


async def test_one_round_trip_claims(time: FakeTime) -> None:
    """An undisturbed event costs two commands, one to claim and one to confirm, once the scripts are loaded."""
    redis = ScriptedRedis(time)
    bench = Bench(redis)
    await bench.deliver(EVENT)
    redis.values.clear()
    redis.calls.clear()
    assert await bench.deliver(EVENT) is True
    assert redis.names() == ["claim", "confirm"]


async def test_deliveries_of_one_turn_claim_together(time: FakeTime) -> None:
    """A hundred events that arrive together are claimed in one command and confirmed in one."""
    redis = ScriptedRedis(time)
    bench = Bench(redis)
    events = [create_test_message(f"event-{n}") for n in range(100)]
    assert await asyncio.gather(*(bench.deliver(event) for event in events)) == [True] * 100
    assert [name for name in redis.names() if name != "register_script"] == ["claim", "confirm"]
    assert len(redis.values) == 100


async def test_a_key_of_another_type_fails_alone(time: FakeTime) -> None:
    """A key that another program uses as a list fails open by itself; its neighbours in the command are protected."""
    redis = ScriptedRedis(time)
    answer = redis._answer
    redis._answer = lambda script, key, row: -1 if key == KEY else answer(script, key, row)  # type: ignore[method-assign]
    before = _count("idempotency_fail_open_total", reason="redis_claim")
    bench = Bench(redis)
    await asyncio.gather(*(bench.deliver(event) for event in (EVENT, create_test_message("another"))))
    assert bench.runs == 2
    assert _count("idempotency_fail_open_total", reason="redis_claim") == before + 1


@pytest.mark.parametrize("script", ["claim", "confirm"])
async def test_a_lost_answer_is_asked_again_and_recognised(time: FakeTime, script: str) -> None:
    """Redis did the work and its answer got lost: asked again, it says that the work is ours."""
    redis = ScriptedRedis(time)
    redis.losing = [script]
    bench = Bench(redis)
    with structlog.testing.capture_logs() as logs:
        assert await bench.deliver(EVENT) is True
    assert [entry for entry in logs if entry["log_level"] in ("warning", "error")] == []
    assert await bench.deliver(EVENT) is None
    assert (bench.runs, json.loads(redis.values[KEY][0])["status"]) == (1, "completed")


async def test_a_lost_answer_to_a_release_gives_back(time: FakeTime) -> None:
    """The failed event is free, whichever answer got lost."""
    redis = ScriptedRedis(time)
    redis.losing = ["release"]
    bench = Bench(redis)
    bench.error = RuntimeError("own")
    before = _count("idempotency_errors_total", kind="release_failed")
    with pytest.raises(RuntimeError, match="own"):
        await bench.deliver(EVENT)
    assert redis.values == {}
    assert _count("idempotency_errors_total", kind="release_failed") == before


@pytest.mark.parametrize("error", [None, RuntimeError("own")])
async def test_a_claim_of_which_nobody_knows_blocks_no_redelivery(time: FakeTime, error: Exception | None) -> None:
    """Both answers lost: the handler runs unprotected, and what it made of the event is recorded all the same."""
    redis = ScriptedRedis(time)
    redis.losing = ["claim", "claim"]
    bench = Bench(redis)
    bench.error = error
    results: list[object] = await asyncio.gather(bench.deliver(EVENT), return_exceptions=True)
    assert results[0] is (True if error is None else error)
    bench.error = None
    assert await bench.deliver(EVENT) is (None if error is None else True)
    assert bench.runs == (1 if error is None else 2)


async def test_cancelled_before_its_handler_an_event_is_free(time: FakeTime) -> None:
    """A consumer that is shut down between claim and handler leaves no claim to wait for."""
    redis = ScriptedRedis(time)
    enter, entered = redis._enter, asyncio.Event()

    async def slow(*call: Any) -> None:
        await enter(*call)
        if call[0] == "claim":
            entered.set()
            await asyncio.sleep(0.01)

    redis._enter = slow  # type: ignore[method-assign]
    bench = Bench(redis)
    task = asyncio.ensure_future(bench.deliver(EVENT))
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (bench.runs, redis.values) == (0, {})
    assert redis.names()[-1] == "release"


@pytest.mark.parametrize("policy", ["pause", "dead-letter"])
@pytest.mark.parametrize("kind", [FakeRedis, ScriptedRedis])
async def test_store_down_as_declared(time: FakeTime, kind: type[FakeRedis], policy: Any) -> None:
    """A handler that must not run unprotected does not: the consumer is told what to do with the event."""
    redis = kind(time)
    redis.failing = {"get", "register_script"}
    bench = Bench(redis, store_down=policy)
    before = _count("idempotency_events_total", outcome="store_down")
    with pytest.raises(StoreDownError) as caught:
        await bench.deliver(EVENT)
    assert (caught.value.store, caught.value.policy, bench.runs) == ("redis", policy, 0)
    assert _count("idempotency_events_total", outcome="store_down") == before + 1
    redis.failing = set()
    assert await bench.deliver(EVENT) is True


async def test_unconfirmed_events_can_be_given_back(redis: FakeRedis) -> None:
    """With `release` a handler that returns without confirming leaves its event to the next delivery."""
    bench = Bench(redis, unconfirmed="release")
    bench.confirming = False
    assert await bench.deliver(EVENT) is True
    assert redis.values == {}
    bench.confirming = True
    assert await bench.deliver(EVENT) is True
    assert await bench.deliver(EVENT) is None


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


async def test_renewal_stops_with_the_handler(time: FakeTime) -> None:
    """No task outlives the delivery, however the handler ends."""
    redis = ScriptedRedis(time)
    bench = Bench(redis)
    deliver = idempotent_consumer(redis.port(), IdempotencyConfig("svc"), sleep=_never)(bench._handle)
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
            redis.put(KEY, _claimed_by_other(time))
            asyncio.get_running_loop().call_soon(done.set)

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        await done.wait()
        await asyncio.sleep(0)

    await idempotent_consumer(redis.port(), IdempotencyConfig("svc"), now=time.now, sleep=sleep)(handler)(EVENT)
    assert turns == 3
    assert json.loads(redis.values[KEY][0])["owner"] == "o"


async def _never(_seconds: float) -> None:
    await asyncio.Event().wait()


# --- context


@pytest.mark.parametrize("from_header", [True, False])
async def test_context_of_the_event_is_current_in_the_handler(plain: FakeRedis, *, from_header: bool) -> None:
    """Handlers log with the event's identity and run in its trace; afterwards all is as before."""
    seen: dict[str, Any] = {}
    body: dict[str, Any] = {"event_id": "e", "event_type": "t", "correlation_id": "c", "data": {}}
    if not from_header:
        body["metadata"] = {"traceparent": TRACEPARENT, "partition_key": 7}
    headers = [("traceparent", TRACEPARENT.encode())] if from_header else []

    async def handler(_msg: Any, *, confirm_idempotency: Any) -> None:
        seen.update(structlog.contextvars.get_contextvars())
        seen["trace"] = trace.get_current_span().get_span_context().trace_id

    with structlog.contextvars.bound_contextvars(correlation_id="outer", request="r"):
        await idempotent_consumer(plain.port(), IdempotencyConfig("svc"))(handler)(
            message(json.dumps(body).encode(), headers)
        )
        assert structlog.contextvars.get_contextvars() == {"correlation_id": "outer", "request": "r"}
    assert seen == {
        "correlation_id": "c",
        "event_id": "e",
        "event_type": "t",
        "source_service": "unknown",
        "request": "r",
        "trace": 0x0AF7651916CD43DD8448EB211C80319C,
    }
    assert not trace.get_current_span().get_span_context().is_valid


async def test_helper_of_the_services_controls_confirmation(plain: FakeRedis) -> None:
    """The helper holds a handler between work and confirmation, as services' tests need it."""
    helper = AsyncConfirmationTestHelper()

    async def work(_msg: Any) -> None:
        return None

    async def handler(msg: Any, *, confirm_idempotency: Any) -> Any:
        return await helper.process_with_controlled_confirmation(work, msg, confirm_idempotency)

    task = asyncio.ensure_future(idempotent_consumer(plain.port(), IdempotencyConfig("svc"))(handler)(EVENT))
    await helper.wait_for_processing_started()
    await helper.wait_for_processing_complete()
    early = helper.confirmed
    helper.allow_confirmation()
    await helper.wait_for_confirmation()
    assert await task is True
    assert (early, helper.confirmed) == (False, True)
    assert json.loads(plain.values[KEY][0])["status"] == "completed"


class Inheriting(ScriptedRedis):
    """A double that overrides one of the plain methods and inherits the scripts."""

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        return await super().setex(key, ttl_seconds, value)


class Refusing(FakeRedis):
    """A double whose script methods are there, and do nothing."""

    async def register_script(self, script_body: str) -> str:
        raise NotImplementedError

    async def execute_script(self, sha: str, keys: list[str], args: list[Any]) -> Any:
        raise NotImplementedError


class Canned(FakeRedis):
    """A double with a digest of the right form and an answer that no script of ours gives."""

    async def register_script(self, script_body: str) -> str:
        return "0" * 40

    async def execute_script(self, sha: str, keys: list[str], args: list[Any]) -> Any:
        return None


@pytest.mark.parametrize("double", [Inheriting, Refusing, Canned])
async def test_doubles_with_script_methods_see_the_plain_calls(double: type[FakeRedis], time: FakeTime) -> None:
    """Whoever overrides a plain method, or has script methods in name only, is asked with the plain ones."""
    redis = double(time)
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is True
    assert [call[0] for call in redis.calls if call[0] != "register_script"] == ["get", "set_if_not_exists", "setex"]
