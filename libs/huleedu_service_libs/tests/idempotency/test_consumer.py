"""`idempotent_consumer` with doubles of the protocol: every row of the contract's table, and its order."""

import asyncio
import json
from typing import Any
from unittest.mock import ANY, AsyncMock

import pytest
import structlog
import structlog.testing
from opentelemetry import trace

from huleedu_service_libs.idempotency_v2 import (
    IdempotencyConfig,
    StoreDownError,
    idempotent_consumer,
)
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, RedisClientProtocol
from libs.huleedu_service_libs.tests.idempotency.fakes import FakeRedis, FakeTime, ScriptedRedis, message
from libs.huleedu_service_libs.tests.idempotency_test_utils import AsyncConfirmationTestHelper

from .benches import EVENT, KEY, TRACEPARENT, Bench, claimed_by_other, value_of


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
    redis.put(KEY, claimed_by_other(redis.time))
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is None
    looked = ["get"] if type(redis) is FakeRedis else ["register_script", "claim"]
    assert (redis.names(), bench.runs) == (looked, 0)


async def test_stale_claim_is_taken_over(plain: FakeRedis) -> None:
    """A claim older than 300 s is deleted, and the event processed."""
    plain.put(KEY, claimed_by_other(plain.time, age=301))
    assert await Bench(plain).deliver(EVENT) is True
    assert plain.names() == ["get", "delete_key", "set_if_not_exists", "setex"]


async def test_lost_race_is_skipped(plain: FakeRedis) -> None:
    """Who does not get the key skips, without looking again."""
    plain.get = AsyncMock(return_value=None)  # type: ignore[method-assign]
    plain.put(KEY, claimed_by_other(plain.time))
    bench = Bench(plain)
    assert await bench.deliver(EVENT) is None
    assert (plain.names(), bench.runs) == (["set_if_not_exists"], 0)
    plain.get.assert_awaited_once()


@pytest.mark.parametrize("result", [True, False, None, "text"])
async def test_return_without_confirmation_leaves_the_key(redis: FakeRedis, result: Any) -> None:
    """Whatever a handler returns goes to the caller, and the claim stays as it is."""
    bench = Bench(redis)
    bench.confirming, bench.result = False, result
    before = value_of("idempotency_events_total", outcome="unconfirmed")
    assert await bench.deliver(EVENT) is result
    assert json.loads(redis.values[KEY][0])["status"] == "processing"
    assert "delete_key" not in redis.names()
    assert value_of("idempotency_events_total", outcome="unconfirmed") == before + 1


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
    before = value_of("idempotency_fail_open_total", reason=reason)
    bench = Bench(redis)
    assert await bench.deliver(EVENT) is True
    assert (redis.names(), bench.runs) == (calls, 1)
    assert value_of("idempotency_fail_open_total", reason=reason) == before + 1


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


@pytest.mark.parametrize("policy", ["pause", "dead-letter"])
@pytest.mark.parametrize("kind", [FakeRedis, ScriptedRedis])
async def test_store_down_as_declared(time: FakeTime, kind: type[FakeRedis], policy: Any) -> None:
    """A handler that must not run unprotected does not: the consumer is told what to do with the event."""
    redis = kind(time)
    redis.failing = {"get", "register_script"}
    bench = Bench(redis, store_down=policy)
    before = value_of("idempotency_events_total", outcome="store_down")
    with pytest.raises(StoreDownError) as caught:
        await bench.deliver(EVENT)
    assert (caught.value.store, caught.value.policy, bench.runs) == ("redis", policy, 0)
    assert value_of("idempotency_events_total", outcome="store_down") == before + 1
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
