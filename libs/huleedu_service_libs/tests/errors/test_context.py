"""`ErrorContext`: taken from what runs, turned into errors, carried over headers."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from fastapi import HTTPException as FastAPIHTTPException
from quart import Quart
from starlette.exceptions import HTTPException, WebSocketException
from werkzeug.exceptions import NotFound

from common_core.error_enums import ErrorCode, IdentityErrorCode
from huleedu_service_libs.error_handling import (
    ErrorContext,
    HuleEduError,
    continue_from,
    create_test_huleedu_error,
    error_context,
)
from huleedu_service_libs.error_handling.context import operation_scope
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.logging_utils import current_log_context, event_log_context, log_context
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware
from huleedu_service_libs.observability import get_current_trace_id
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.resilience.deadline import deadline
from libs.huleedu_service_libs.tests.idempotency_test_utils import create_test_message

from .applications import CORRELATION, HEADERS, TRACE, ask


def _fastapi(view: Callable[[], Any]) -> Any:
    app = FastAPI()
    app.get("/seen")(view)
    return RequestContextMiddleware(app)


def _quart(view: Callable[[], Any]) -> Any:
    app = Quart(__name__)
    app.get("/seen")(view)
    return RequestContextMiddleware(app.asgi_app)  # type: ignore[arg-type]  # Quart types every ASGI event


@pytest.mark.parametrize("make", [_fastapi, _quart])
async def test_a_request_gives_the_context(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Correlation and trace id, method and path, and the service of the environment; nobody passed anything."""
    monkeypatch.setenv("SERVICE_NAME", "essays")
    seen: list[ErrorContext] = []

    async def view() -> dict[str, Any]:
        seen.append(ErrorContext.current())
        return {}

    await ask(make(view), "/seen", **HEADERS)
    (context,) = seen
    assert (context.correlation_id, context.trace_id) == (UUID(CORRELATION), TRACE)
    assert (context.service, context.operation) == ("essays", "GET /seen")
    assert context.coordinates == {"method": "GET", "path": "/seen"}
    assert context.time.tzinfo is not None


def test_outside_of_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any context there is a new id and honest unknowns."""
    monkeypatch.delenv("SERVICE_NAME", raising=False)
    first, second = ErrorContext.current(), ErrorContext.current()
    assert first.correlation_id != second.correlation_id
    assert (first.service, first.operation, first.trace_id, first.causes) == ("unknown", "unknown", None, ())


def test_scopes_nest() -> None:
    """What an inner scope does not say stays as it is outside; coordinates add up; afterwards all is as before."""
    with operation_scope("svc", "outer", {"topic": "t"}), operation_scope(operation="inner", coordinates={"offset": 3}):
        context = ErrorContext.current(partition=1)
        assert (context.service, context.operation) == ("svc", "inner")
        assert context.coordinates == {"topic": "t", "offset": 3, "partition": 1}
    with operation_scope("svc", coordinates={"topic": "t"}):
        assert ErrorContext.current().operation == "consume t"
    assert ErrorContext.current().coordinates == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TimeoutError("t"), ErrorCode.TIMEOUT),
        (ConnectionRefusedError("c"), ErrorCode.CONNECTION_ERROR),
        (ZeroDivisionError("z"), ErrorCode.UNKNOWN_ERROR),
    ],
)
def test_any_exception_becomes_an_error_with_context(error: Exception, code: ErrorCode) -> None:
    """Code by kind, ids of the context, coordinates and types of the causes as details, no inner text; the original as cause."""
    with (
        pytest.raises(HuleEduError) as caught,
        log_context(correlation_id=CORRELATION),
        error_context("svc", "consume", topic="essays", partition=2, offset=7),
    ):
        raise error from LookupError("inner hunter2")
    detail = caught.value.error_detail
    assert (detail.error_code, detail.correlation_id) == (code, UUID(CORRELATION))
    assert (detail.service, detail.operation, detail.message) == ("svc", "consume", "An unexpected error occurred")
    assert detail.details == {
        "topic": "essays",
        "partition": 2,
        "offset": 7,
        "causes": [type(error).__name__, "LookupError"],
        "error_type": type(error).__name__,
    }
    assert caught.value.__cause__ is error
    assert "hunter2" not in str(detail.details)
    assert "hunter2" in (detail.stack_trace or "")


def test_code_and_message_of_ones_own() -> None:
    """The caller may say what it means when something fails here."""
    with (
        pytest.raises(HuleEduError, match=r"\[IDENTITY_TOKEN_INVALID\] Nope"),
        error_context("svc", "check", code=IdentityErrorCode.TOKEN_INVALID, message="Nope"),
    ):
        raise KeyError


def test_what_passes_unchanged() -> None:
    """An error with a context keeps it; cancellation and exits are nobody's errors."""
    error = create_test_huleedu_error()
    with pytest.raises(HuleEduError) as caught, error_context("svc", "op"), error_context("inner", "op"):
        raise error
    assert caught.value is error
    for passing in (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
        with pytest.raises(passing), error_context("svc", "op"):
            raise passing


def test_one_id_within_a_block() -> None:
    """Without an id from outside, a block has one of its own, and nothing of it remains."""
    with error_context("svc", "op") as context:
        assert ErrorContext.current().correlation_id == context.correlation_id
    assert ErrorContext.current().correlation_id != context.correlation_id


def test_causes_are_redacted_and_end() -> None:
    """A chain that leads back to itself ends; its texts hold no secret; ``from None`` hides what came before."""
    first, second = ValueError("postgres://u:hunter2@h"), KeyError("k")
    first.__cause__, second.__cause__ = second, first
    causes = ErrorContext.current(error=first).causes
    assert [cause.type for cause in causes] == ["ValueError", "KeyError"]
    assert causes[0].message == "postgres://u:***@h"
    second.__cause__ = None
    second.__suppress_context__ = True
    second.__context__ = ValueError()
    assert [cause.type for cause in ErrorContext.current(error=second).causes] == ["KeyError"]


def test_the_context_travels_in_headers() -> None:
    """HTTP and Kafka headers carry correlation id and trace; on the other side both are current."""
    with continue_from({"X-Correlation-ID": CORRELATION, "traceparent": HEADERS["traceparent"]}):
        context = ErrorContext.current()
        http, kafka = context.http_headers(), context.kafka_headers()
    assert set(http) == {"X-Correlation-ID", "traceparent"}
    assert set(kafka) == {"trace_id", "traceparent"}
    as_kafka_delivers = [(name, value.encode()) for name, value in kafka.items()]
    as_asgi_delivers = [(name.lower().encode(), value.encode()) for name, value in http.items()]
    for headers in (http, kafka, as_kafka_delivers, as_asgi_delivers):
        with continue_from(headers):
            there = ErrorContext.current()
            assert (there.correlation_id, there.trace_id) == (UUID(CORRELATION), TRACE)
    assert get_current_trace_id() is None


async def test_a_consumed_event_gives_the_context() -> None:
    """Inside an idempotent handler the event's correlation id, service and place in Kafka are known."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    redis.get.return_value = None
    redis.set_if_not_exists.return_value = True
    body = {"event_id": "e", "event_type": "t", "correlation_id": CORRELATION, "data": {}}
    record = create_test_message()
    record = dataclasses.replace(record, value=json.dumps(body).encode(), topic="essays", offset=7)

    @idempotent_consumer(redis_client=redis, config=IdempotencyConfig("spellcheck"))
    async def handle(_msg: Any, *, confirm_idempotency: Any) -> ErrorContext:
        await confirm_idempotency()
        return ErrorContext.current()

    context = await handle(record)
    assert context is not None
    assert (context.correlation_id, context.service) == (UUID(CORRELATION), "spellcheck")
    assert context.operation == "consume essays"
    assert context.coordinates == {"topic": "essays", "partition": record.partition, "offset": 7}


@pytest.mark.parametrize("given", [None, "", "with spaces", "a\nb", b"\xff\xfe", 7, "x" * 129, "<script>"])
def test_unacceptable_ids_do_not_travel(given: Any) -> None:
    """What could spoil a log gives way to a new id; so does a broken trace header."""
    with continue_from({"trace_id": given, "traceparent": given}):
        context = ErrorContext.current()
    assert isinstance(context.correlation_id, UUID)
    assert context.trace_id is None


def test_ids_that_are_no_uuids_map_to_the_same_one() -> None:
    """Every service makes the same UUID of the same text, so that the chain stays one."""
    ids = set()
    for _ in range(2):
        with continue_from({"x-correlation-id": "request-7"}):
            ids.add(ErrorContext.current().correlation_id)
    assert len(ids) == 1
    assert ids != {uuid4()}


@pytest.mark.parametrize("cause", [None, KeyError("k")])
async def test_an_error_out_of_a_task_group_keeps_its_code(cause: Exception | None) -> None:
    """A group of one error of ours leaves the block as that error; of one known exception, with its code."""
    inner = create_test_huleedu_error(ErrorCode.RESOURCE_NOT_FOUND)

    async def fail(error: Exception) -> None:
        raise error from cause

    async def fail_in_a_group(error: Exception) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail(error))

    with pytest.raises(HuleEduError) as caught, error_context("svc", "op"):
        await fail_in_a_group(inner)
    assert caught.value is inner
    assert inner.__cause__ is cause
    with pytest.raises(HuleEduError) as caught, error_context("svc", "op"):
        await fail_in_a_group(TimeoutError())
    assert caught.value.error_code == "TIMEOUT"
    with pytest.raises(HuleEduError) as caught, error_context("svc", "op"):
        raise ExceptionGroup("g", [inner, TimeoutError()])
    assert caught.value.error_code == "UNKNOWN_ERROR"


@pytest.mark.parametrize(
    "answer", [HTTPException(404), NotFound(), FastAPIHTTPException(404), WebSocketException(1008)]
)
def test_the_frameworks_answers_pass(answer: Exception) -> None:
    """What Quart and FastAPI answer by themselves leaves `error_context` as it is."""
    with pytest.raises(type(answer)) as caught, error_context("svc", "op"):
        raise answer
    assert caught.value is answer


def test_details_may_have_any_name() -> None:
    """``code`` and ``message`` are free for the details, because the parameters are told by their place."""
    detail = ErrorContext.current().detail(ErrorCode.TIMEOUT, "m", code=1, message="n")
    assert (detail.error_code, detail.message) == (ErrorCode.TIMEOUT, "m")
    assert detail.details == {"code": 1, "message": "n"}


def test_the_stack_is_in_no_repr() -> None:
    """What is printed of a detail, in a log or a failed test, leaves the stack out."""
    detail = ErrorContext.current().detail(ErrorCode.TIMEOUT, "m").model_copy(update={"stack_trace": "STACK"})
    assert "STACK" not in repr(detail)
    assert "STACK" not in str(detail)


async def test_a_generator_that_another_task_closes() -> None:
    """What a block had put on the context is not there in the task that ends it, and that is no error."""

    async def steps() -> AsyncGenerator[int, None]:
        with (
            error_context("svc", "step", topic="t"),
            event_log_context("e-1", topic="t"),
            deadline(5),
        ):
            yield 1
            yield 2

    opened = steps()

    async def close() -> None:
        await opened.aclose()

    assert await anext(opened) == 1
    with log_context(correlation_id="of the closer"):
        await asyncio.create_task(close())
        assert current_log_context()["correlation_id"] == "of the closer"
