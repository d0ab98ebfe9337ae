"""Section 5.3: `idempotent_consumer`. Who an event is, and what becomes of it in which state."""

import asyncio
import hashlib
import inspect
import json
import time
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest
from structlog.testing import capture_logs

from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.protocols import RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from tests.contract.consuming import BODY, Redis, consume, handler_of, message

PREFIX = "huleedu:idempotency:v2:essay-service:"
TYPE = BODY["event_type"].replace(".", "_")
HEADERS = [
    ("event_id", b"e-1"),
    ("event_type", b"huleedu.essay.graded.v1"),
    ("trace_id", b"t-1"),
    ("source_service", b"h"),
]
COMPLETED = {"status": "completed", "processed_at": 1.0, "processed_by": "essay-service"}
NEW = ["get", "set_if_not_exists"]


def _processing(age: float) -> str:
    return json.dumps({"status": "processing", "started_at": time.time() - age, "processed_by": "essay-service"})


def _without(*names: str) -> bytes:
    return json.dumps({name: value for name, value in BODY.items() if name not in names}).encode()


# The decorator


@pytest.mark.contract("5.3-wrapper")
async def test_the_wrapper() -> None:
    """It looks like the handler, hands arguments on, and adds one keyword."""
    seen: list[Any] = []

    async def handle(msg: Any, *args: Any, confirm_idempotency: Any, **kwargs: Any) -> str:
        """Handle it."""
        seen.extend([msg, args, kwargs, inspect.iscoroutinefunction(confirm_idempotency)])
        return "result"

    wrapped = idempotent_consumer(Redis(), IdempotencyConfig("essay-service"))(handle)  # type: ignore[arg-type]
    msg = message()
    assert (wrapped.__name__, wrapped.__doc__, inspect.unwrap(wrapped)) == ("handle", "Handle it.", handle)
    assert inspect.iscoroutinefunction(wrapped)
    assert await wrapped(msg, 1, "two", more=3) == "result"
    assert seen == [msg, (1, "two"), {"more": 3}, True]


@pytest.mark.contract("5.3-signatures")
async def test_called_on_a_handler() -> None:
    """The decorator may be called as a plain function, as services do with a bound method."""

    class _Service:
        async def handle(self, msg: Any, *, confirm_idempotency: Any) -> str:
            return f"{type(self).__name__} {msg.topic}"

    decorate = idempotent_consumer(redis_client=Redis(), config=IdempotencyConfig("s"))  # type: ignore[arg-type]
    assert await decorate(_Service().handle)(message()) == "_Service t"


@pytest.mark.contract("5.3-four-methods", "5.3-order", "5.3-confirm")
async def test_the_course_of_a_new_event() -> None:
    """Looked up, claimed for 300 s by keyword, handled, confirmed with the event type's time to live; nothing else."""
    redis = Mock(spec=["get", "set_if_not_exists", "setex", "delete_key"])
    redis.get, redis.set_if_not_exists = AsyncMock(return_value=None), AsyncMock(return_value=True)
    redis.setex, redis.delete_key = AsyncMock(return_value=True), AsyncMock(return_value=1)
    assert await consume(redis, confirms=True) is True
    assert [one[0] for one in redis.method_calls] == ["get", "set_if_not_exists", "setex"]
    (key, _), keywords = redis.set_if_not_exists.call_args
    assert keywords == {"ttl_seconds": 300}
    redis.get.assert_awaited_once_with(key)
    assert redis.setex.call_args.args[:2] == (key, 77)
    assert redis.setex.call_args.kwargs == {}
    config = IdempotencyConfig("essay-service", {BODY["event_type"]: 5})
    await consume(redis, confirms=True, config=config)
    assert redis.setex.call_args.args[1] == 5


@pytest.mark.contract("5.3-message")
@pytest.mark.parametrize("headers", [None, [], ()])
async def test_a_message_without_headers(headers: Any) -> None:
    """None, empty, or no such attribute at all."""
    bare = SimpleNamespace(value=message().value, topic="t", partition=0, offset=0)
    first, second = Redis(), Redis()
    assert await consume(first, message(headers=headers)) is True
    assert await consume(second, bare) is True
    assert first.methods == second.methods == NEW
    assert first.key == second.key


# Identity


@pytest.mark.contract("5.3-headers-used", "5.3-headers-hash", "5.3-payload-processing")
@pytest.mark.parametrize("make", [str, str.encode], ids=["str", "bytes"])
async def test_identity_of_complete_headers(make: Any) -> None:
    """Id and type in the headers are enough: the body may be anything, and the trace id is the correlation id."""
    redis = Redis()
    assert await consume(redis, message(b"\x00 no JSON", [(make(name), value) for name, value in HEADERS])) is True
    assert redis.key == PREFIX + TYPE + ":" + hashlib.sha256(b'{"event_id":"e-1"}').hexdigest()
    claim = redis.payload("set_if_not_exists")
    assert (claim["event_id"], claim["correlation_id"], claim["source_service"]) == ("e-1", "t-1", "h")


@pytest.mark.contract("5.3-body-path", "5.3-body-hash")
@pytest.mark.parametrize("headers", [[], [one for one in HEADERS if one[0] != "event_id"]])
async def test_identity_of_the_body(headers: Any) -> None:
    """Without an id in the headers they do not count: everything is the body's."""
    redis = Redis()
    await consume(redis, message(headers=headers))
    assert redis.key == PREFIX + TYPE + ":" + generate_deterministic_event_id(message().value)
    claim = redis.payload("set_if_not_exists")
    assert (claim["event_id"], claim["correlation_id"], claim["source_service"]) == ("e-1", "c-1", "grader")


@pytest.mark.contract("5.3-body-path")
async def test_a_body_that_says_little() -> None:
    """Type and source are unknown when nobody names them."""
    redis, body = Redis(), _without("event_type", "source_service")
    await consume(redis, message(body))
    assert redis.key == f"{PREFIX}unknown:{generate_deterministic_event_id(body)}"
    assert redis.payload("set_if_not_exists")["source_service"] == "unknown"


@pytest.mark.contract("5.3-mixed-path", "5.3-body-hash")
async def test_only_the_type_is_missing_in_the_headers() -> None:
    """The type is the body's; what the headers have counts, what they lack is the body's."""
    full, few = Redis(), Redis()
    body = {**BODY, "event_id": "of the body"}
    await consume(full, message(body, [one for one in HEADERS if one[0] != "event_type"]))
    await consume(few, message(body, [("event_id", b"e-1")]))
    digest = generate_deterministic_event_id(json.dumps(body).encode())
    assert full.key == few.key == f"{PREFIX}{TYPE}:{digest}"
    names = ("event_id", "correlation_id", "source_service")
    assert [full.payload("set_if_not_exists")[name] for name in names] == ["e-1", "t-1", "h"]
    assert [few.payload("set_if_not_exists")[name] for name in names] == ["e-1", "c-1", "grader"]


@pytest.mark.contract("5.3-two-keys")
async def test_with_and_without_headers_are_two_keys() -> None:
    """The same event is not recognised over that border; services know it."""
    plain, headed = Redis(), Redis()
    await consume(plain, message())
    await consume(headed, message(headers=HEADERS))
    assert plain.key != headed.key


# States


@pytest.mark.parametrize(
    "stored",
    [
        pytest.param(json.dumps(COMPLETED), marks=pytest.mark.contract("5.3-completed-skips")),
        pytest.param(
            json.dumps({"status": "completed"}),
            marks=pytest.mark.contract("5.3-completed-skips", "5.3-readers-tolerant"),
        ),
        pytest.param(json.dumps({**COMPLETED, "more": [1]}), marks=pytest.mark.contract("5.3-readers-tolerant")),
        pytest.param(json.dumps({"processed_at": 1.0}), marks=pytest.mark.contract("5.3-completed-skips")),
        pytest.param("1", marks=pytest.mark.contract("5.3-old-format-skips")),
        pytest.param("processed at noon", marks=pytest.mark.contract("5.3-old-format-skips")),
        pytest.param(10.0, marks=pytest.mark.contract("5.3-processing-skips")),
        pytest.param(240.0, marks=pytest.mark.contract("5.3-processing-skips")),
    ],
)
async def test_what_is_done_or_in_progress_is_skipped(stored: str | float) -> None:
    """The handler does not run, the answer is None, and nothing is written or deleted. A number is a claim's age."""
    redis = Redis(stored if isinstance(stored, str) else _processing(stored))
    assert await consume(redis, confirms=True) is None
    assert redis.methods == ["get"]


@pytest.mark.contract("5.3-stale-taken-over")
async def test_a_claim_that_is_too_old_is_taken_over() -> None:
    """Deleted, claimed anew, and the event is handled."""
    redis = Redis(_processing(301))
    assert await consume(redis) is True
    assert redis.methods == ["get", "delete_key", "set_if_not_exists"]


@pytest.mark.contract("5.3-race-lost")
async def test_a_race_that_is_lost() -> None:
    """Somebody claimed it between the look and the claim: skipped."""
    redis = Redis()
    redis.lost = True
    assert await consume(redis, confirms=True) is None
    assert redis.methods == NEW


@pytest.mark.contract("5.3-result-kept")
@pytest.mark.parametrize("result", [True, False, None, 0, "text"])
async def test_any_result_is_returned(result: Any) -> None:
    """It is the handler's, and the key is neither deleted nor confirmed."""
    redis = Redis()
    assert await consume(redis, result=result) is result
    assert redis.methods == NEW


@pytest.mark.contract("5.3-exception-releases")
async def test_an_exception_gives_the_event_back() -> None:
    """The key is deleted once; the very exception reaches the caller; the event can be handled again."""
    redis, error = Redis(), ValueError("odd")
    with pytest.raises(ValueError, match="odd") as caught:
        await consume(redis, result=error)
    assert caught.value is error
    assert redis.methods == [*NEW, "delete_key"]
    assert await consume(redis) is True


@pytest.mark.contract("5.3-failing-delete")
async def test_a_delete_that_fails_hides_nothing() -> None:
    """It is logged; the handler's exception is the one that is seen."""
    redis, error = Redis(failing={"delete_key": ConnectionError("away")}), ValueError("odd")
    with capture_logs() as logs, pytest.raises(ValueError, match="odd") as caught:
        await consume(redis, result=error)
    assert caught.value is error
    assert any(entry["event"].startswith("CLEANUP_FAILED") for entry in logs)


@pytest.mark.contract("5.3-cancelled-stays")
async def test_a_cancelled_handler_leaves_its_claim() -> None:
    """How far it came is unknown: the key stays in processing."""
    redis, begun = Redis(), asyncio.Event()

    @idempotent_consumer(redis, IdempotencyConfig("essay-service"))  # type: ignore[arg-type]
    async def handle(msg: Any, *, confirm_idempotency: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    task = asyncio.ensure_future(handle(message()))
    await asyncio.wait_for(begun.wait(), 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert redis.methods == NEW
    assert json.loads(redis.stored[redis.key])["status"] == "processing"


@pytest.mark.contract("5.3-confirm-error")
async def test_a_confirmation_that_fails() -> None:
    """The handler notices nothing; the log does."""
    redis = Redis(failing={"setex": ConnectionError("away")})
    with capture_logs() as logs:
        assert await consume(redis, confirms=True) is True
    assert any(entry["event"].startswith("CONFIRMATION_FAILED") for entry in logs)


@pytest.mark.contract("5.3-payload-processing", "5.3-payload-completed")
async def test_payloads() -> None:
    """JSON with the keys that other versions read; completion adds one and keeps the time of the start."""
    redis, before = Redis(), time.time()

    @idempotent_consumer(redis, IdempotencyConfig("essay-service"))  # type: ignore[arg-type]
    async def handle(msg: Any, *, confirm_idempotency: Any) -> None:
        await asyncio.sleep(0.2)
        await confirm_idempotency()

    await handle(message())
    claim, done = redis.payload("set_if_not_exists"), redis.payload("setex")
    constant = {"processed_by": "essay-service", "event_id": "e-1", "correlation_id": "c-1", "source_service": "grader"}
    assert claim.items() >= {"status": "processing", **constant}.items()
    assert done.items() >= {"status": "completed", **constant}.items()
    assert isinstance(claim["started_at"], float)
    assert before - 1 <= claim["started_at"] <= done["completed_at"] <= time.time() + 1
    assert abs(done["started_at"] - claim["started_at"]) < done["completed_at"] - done["started_at"]


# Fail-open


@pytest.mark.contract("5.3-open-body")
@pytest.mark.parametrize("body", [b"{no JSON", b"\xff", _without("data"), b'{"data": null}', b"[]"])
async def test_a_body_that_cannot_be_identified(body: bytes) -> None:
    """The handler runs exactly once, unprotected; Redis is not asked."""
    redis = Redis()
    assert await consume(redis, message(body), confirms=True, result=False) is False
    assert redis.asked == []


@pytest.mark.contract("5.3-open-redis")
@pytest.mark.parametrize(("method", "methods"), [("get", ["get"]), ("set_if_not_exists", NEW)])
async def test_redis_is_away(method: str, methods: list[str]) -> None:
    """The event is handled all the same; after a failed look no claim is tried, and confirming harms nothing."""
    redis = Redis(failing={method: ConnectionError("away")})
    assert await consume(redis) is True
    assert redis.methods[: len(methods)] == methods
    assert "set_if_not_exists" in redis.methods or method == "get"
    assert await consume(Redis(failing={method: TimeoutError()}), confirms=True, result=False) is False


@pytest.mark.contract("5.3-open-exception")
@pytest.mark.parametrize("msg", [message(), message(b"{no JSON")])
async def test_an_exception_while_open(msg: Any) -> None:
    """It reaches the caller, and nothing is deleted that was never claimed."""
    redis, error = Redis(failing={"get": ConnectionError("away")}), KeyError("odd")
    with pytest.raises(KeyError) as caught:
        await consume(redis, msg, result=error)
    assert caught.value is error
    assert "delete_key" not in redis.methods


# Over a real server


@pytest.mark.contract("5.3-convention", "5.3-payload-completed", "5.3-confirm")
async def test_over_redis(redis_url: str, unique_name: str) -> None:
    """Processed, then a duplicate; a failure that was confirmed too; what is stored can be read by anybody."""
    redis = RedisClient(client_id="contract", redis_url=redis_url)
    await redis.start()
    config = IdempotencyConfig(unique_name, {}, 77)
    handle = handler_of(redis, config=config, confirms=True)
    assert [await handle(message()), await handle(message())] == [True, None]
    failed = handler_of(redis, config=config, confirms=True, result=False)
    other = message({**BODY, "event_id": "e-2"})
    assert [await failed(other), await failed(other)] == [False, None]
    key = config.generate_redis_key(BODY["event_type"], "dummy", generate_deterministic_event_id(message().value))
    assert json.loads(await redis.get(key) or "")["status"] == "completed"
    assert await redis.ttl(key) in {76, 77}
    await redis.setex(key, 60, "an older format")
    assert await handle(message()) is None
    await redis.stop()


@pytest.mark.contract("5.3-four-methods")
async def test_a_subclass_of_the_port_is_enough() -> None:
    """A double that overrides the four methods of the protocol class."""

    class Double(Redis, RedisClientProtocol):
        pass

    double = Double()  # type: ignore[abstract]  # for mypy, whatever has no body
    assert await consume(double, confirms=True) is True
    assert double.methods == [*NEW, "setex"]
