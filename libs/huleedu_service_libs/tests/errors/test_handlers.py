"""The handlers of both frameworks, side by side: the same bytes, the same headers, the same ids."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import structlog
from fastapi import FastAPI, Request
from quart import Quart, redirect
from starlette.exceptions import HTTPException
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import ServiceUnavailable, TooManyRequests, Unauthorized

from huleedu_service_libs.error_handling import create_test_error_detail
from huleedu_service_libs.error_handling.fastapi import extract_correlation_id as extract_fastapi
from huleedu_service_libs.error_handling.fastapi import register_error_handlers as register_fastapi
from huleedu_service_libs.error_handling.quart import create_error_response
from huleedu_service_libs.error_handling.quart import extract_correlation_id as extract_quart
from huleedu_service_libs.error_handling.quart import register_error_handlers as register_quart

from .applications import (
    CORRELATION,
    HEADERS,
    TRACE,
    Make,
    OwnStatusError,
    ask,
    detail_of,
    failing,
    known,
    make_fastapi,
    make_quart,
)

BOTH = pytest.mark.parametrize("make", [make_fastapi, make_quart])
PROBLEM = "application/problem+json"


class _Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("accept", ["application/json", PROBLEM])
@pytest.mark.parametrize(
    "details",
    [
        {},
        {"field": "title", "n": 1, "f": 1.5, "t": True, "none": None, "å": ["ö", {"x": 1}]},
        {"id": UUID(int=7), "at": datetime(2026, 1, 2, tzinfo=UTC), "path": Path("/x"), "error": ValueError("v")},
        {"nan": float("nan"), "huge": 10**5000, "bytes": b"\xff", "surrogate": "\ud800", "broken": _Broken()},
        {"password": "hunter2", "url": "postgres://u:hunter2@db/x", "Authorization": "Bearer hunter2"},
    ],
)
async def test_both_answer_with_the_same_bytes(details: dict[str, Any], accept: str) -> None:
    """Status, headers and body of the two frameworks are equal, whatever the details hold; no secret is in them."""
    view = known(detail_of(**details))
    first, second = [await ask(make(view), accept=accept, **HEADERS) for make in (make_fastapi, make_quart)]
    assert first.content == second.content
    assert dict(first.headers) == dict(second.headers)
    assert first.status_code == second.status_code == 400
    assert first.headers["content-type"] == accept
    assert b"hunter2" not in first.content
    assert b"STACK" not in first.content


@BOTH
@pytest.mark.parametrize("accept", ["*/*", PROBLEM])
async def test_an_unexpected_error_keeps_the_ids(make: Make, accept: str) -> None:
    """500 with the contract's body; correlation and trace id of the request in the headers, no inner text."""
    response = await ask(make(failing(ZeroDivisionError("hunter2")), debug=True), accept=accept, **HEADERS)
    body = response.json()
    error = body if accept == PROBLEM else body["error"]
    assert response.status_code == 500
    assert response.headers["X-Correlation-ID"] == CORRELATION == error["correlation_id"]
    assert response.headers["X-Trace-ID"] == TRACE
    assert (error["code"], error["service"]) == ("UNKNOWN_ERROR", "essay_service")
    assert error["details"] == {"error_type": "ZeroDivisionError"}
    assert "hunter2" not in response.text
    assert "Traceback" not in response.text
    if accept == PROBLEM:
        assert (body["trace_id"], body["instance"]) == (TRACE, "/it")
    else:
        assert body["error"]["message"] == "An unexpected error occurred"
        assert set(body) == {"error"}


@BOTH
async def test_ids_without_headers_are_made(make: Make) -> None:
    """Body and header agree on the new correlation id; an id that could spoil a log is replaced; others are shown."""
    for given in ({}, {"X-Correlation-ID": "x\ty z"}):
        response = await ask(make(failing(KeyError())), **given)
        assert UUID(response.json()["error"]["correlation_id"]) == UUID(response.headers["X-Correlation-ID"])
    response = await ask(make(failing(KeyError())), **{"X-Correlation-ID": "request-7"})
    assert response.json()["error"]["correlation_id"] == response.headers["X-Correlation-ID"] == "request-7"


@pytest.mark.parametrize(
    ("path", "method", "status", "code", "text"),
    [
        ("/nowhere", "GET", 404, "RESOURCE_NOT_FOUND", "Not Found"),
        ("/it", "DELETE", 405, "INVALID_REQUEST", "Method Not Allowed"),
        ("/forbidden", "GET", 403, "AUTHORIZATION_ERROR", "Forbidden"),
    ],
)
async def test_what_the_framework_refuses_keeps_its_status(
    path: str, method: str, status: int, code: str, text: str
) -> None:
    """404 stays 404 and 405 stays 405 (with ``Allow``), in the same form from both frameworks (defect 36)."""
    bodies = []
    for make in (make_fastapi, make_quart):
        response = await ask(make(failing(KeyError())), path, method, **HEADERS)
        error = response.json()["error"]
        assert response.status_code == status
        assert ("Allow" in response.headers) == (status == 405)
        assert (error["code"], error["message"], error["correlation_id"]) == (code, text, CORRELATION)
        bodies.append({**error, "timestamp": None})
    assert bodies[0] == bodies[1]


async def test_the_frameworks_own_answers_can_stay() -> None:
    """FastAPI's 404 is FastAPI's unless asked otherwise; Quart's can be Quart's, and is never 500."""
    app = FastAPI()
    register_fastapi(app)
    assert (await ask(app, "/nowhere")).json() == {"detail": "Not Found"}
    quart = Quart(__name__)
    register_quart(quart, http_exceptions=False)
    response = await ask(quart, "/nowhere")
    assert (response.status_code, response.headers["content-type"]) == (404, "text/html; charset=utf-8")


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (make_fastapi, HTTPException(429, headers={"Retry-After": "120"})),
        (make_fastapi, HTTPException(503, headers={"retry-after": "120"})),
        (make_quart, TooManyRequests(retry_after=120)),
        (make_quart, ServiceUnavailable(retry_after=120)),
    ],
)
async def test_an_exceptions_own_wait_wins(make: Make, error: Exception) -> None:
    """``Retry-After`` of the service is sent, once, in whatever case it was written."""
    response = await ask(make(failing(error)))
    assert response.headers.get_list("Retry-After") == ["120"]


async def test_which_headers_of_an_exception_are_sent() -> None:
    """Its own ones and all of one name; not what it says of a body that is not sent, nor another request's id."""
    given = {
        "content-type": "text/plain",
        "Content-Length": "1",
        "x-correlation-id": "other",
        "Vary": "Origin",
        "A": "b",
    }
    response = await ask(make_fastapi(failing(HTTPException(409, headers=given))), **HEADERS)
    assert response.headers.get_list("Content-Type") == ["application/json"]
    assert response.headers.get_list("Content-Length") == [str(len(response.content))]
    assert response.headers.get_list("X-Correlation-ID") == [CORRELATION]
    assert response.headers.get_list("Vary") == ["Origin", "Accept"]
    assert response.headers["A"] == "b"
    ways = [WWWAuthenticate("basic", {"realm": "a"}), WWWAuthenticate("bearer", {"realm": "b"})]
    response = await ask(make_quart(failing(Unauthorized(www_authenticate=ways))))
    assert response.headers.get_list("WWW-Authenticate") == ["Basic realm=a", "Bearer realm=b"]


@pytest.mark.parametrize("status", [204, 304, 307])
async def test_what_is_no_error_has_no_error_body(status: int) -> None:
    """An exception of a status below 400 is answered by FastAPI: without content, or with the place to go to."""
    response = await ask(make_fastapi(failing(HTTPException(status, headers={"Location": "/x"}))))
    assert response.status_code == status
    assert response.headers["Location"] == "/x"
    assert "error" not in response.text
    assert (response.content == b"") == (status != 307)


async def test_a_redirection_is_no_error() -> None:
    """Quart's redirections, raised or returned, pass the handlers."""
    app = Quart(__name__)
    register_quart(app)

    @app.get("/from/")
    async def view() -> Any:
        return redirect("/to")

    assert (await ask(app, "/from")).status_code == 308
    assert (await ask(app, "/from/")).status_code == 302


@BOTH
@pytest.mark.parametrize("status", [200, 409, 599])
async def test_an_error_may_bring_its_own_status(make: Make, status: int) -> None:
    """``status_code`` on a subclass wins over the table."""
    error = OwnStatusError(detail_of())
    error.status_code = status
    assert (await ask(make(failing(error)))).status_code == status


@BOTH
@pytest.mark.parametrize("given", ["a\r\nSet-Cookie: evil=1", "€", "0af7", "0AF7651916CD43DD", "b7ad6b7169203331"])
async def test_a_span_id_is_sent_when_it_is_one(make: Make, given: str) -> None:
    """16 hex digits; anything else, which another service may have sent, stands in no header and breaks no answer."""
    response = await ask(make(known(detail_of().model_copy(update={"span_id": given}))))
    assert response.status_code == 400
    assert response.headers.get("X-Span-ID") == (given if given == "b7ad6b7169203331" else None)
    assert "Set-Cookie" not in response.headers


@BOTH
async def test_an_error_out_of_a_task_group(make: Make) -> None:
    """A group of one error of ours is that error; of several, or of another kind, it is an unexpected one."""

    async def view() -> dict[str, Any]:
        async with asyncio.TaskGroup() as group:
            group.create_task(known(detail_of())())
        return {}

    assert (await ask(make(view))).json()["error"]["code"] == "VALIDATION_ERROR"
    both = ExceptionGroup("g", [KeyError(), KeyError()])
    assert (await ask(make(failing(both)))).json()["error"]["details"] == {"error_type": "ExceptionGroup"}


async def test_quart_views_can_make_the_answer_themselves() -> None:
    """`create_error_response` gives answer and status; an override wins over the table."""
    app = Quart(__name__)
    async with app.app_context():
        response, status = create_error_response(detail_of(password="x"))
        assert (status, response.status_code) == (400, 400)
        assert json.loads(await response.get_data())["error"]["details"] == {"password": "***"}
        assert create_error_response(detail_of(), 418)[1] == 418


async def test_where_a_correlation_id_is_looked_for() -> None:
    """Quart: header, query, new. FastAPI: ``request.state`` first. Unacceptable ones are passed over."""
    app = Quart(__name__)
    for path, headers, wanted in [
        ("/?correlation_id=q", {"X-Correlation-ID": "h"}, "h"),
        ("/?correlation_id=q", {}, "q"),
        ("/?correlation_id=q", {"X-Correlation-ID": "no good"}, "q"),
    ]:
        async with app.test_request_context(path, headers=headers):
            from quart import request  # noqa: PLC0415  # only there is one

            assert extract_quart(request) == wanted
        scope = {
            "type": "http",
            "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
            "query_string": path.partition("?")[2].encode(),
        }
        assert extract_fastapi(Request(scope)) == wanted
        assert extract_fastapi(Request({**scope, "state": {"correlation_id": UUID(CORRELATION)}})) == CORRELATION
    empty = {"type": "http", "headers": [], "query_string": b""}
    assert extract_fastapi(Request(empty)) != extract_fastapi(Request(empty))


@BOTH
@pytest.mark.parametrize("given", ["header", "query", "both", "unacceptable"])
async def test_one_request_has_one_id(make: Make, given: str) -> None:
    """Log, header and body show the same id, wherever the client has put it."""
    path = {"header": "/it", "unacceptable": "/it?correlation_id=a%20b"}.get(given, "/it?correlation_id=abc")
    headers = {"X-Correlation-ID": "h"} if given in {"header", "both"} else {}
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        response = await ask(make(failing(KeyError())), path, **headers)
    shown = response.json()["error"]["correlation_id"]
    assert response.headers["X-Correlation-ID"] == shown
    assert [line["correlation_id"] for line in lines if line["event"] == "request_failed"] == [shown]
    if given == "unacceptable":
        assert str(UUID(shown)) == shown
    else:
        assert shown == ("abc" if given == "query" else "h")


async def test_a_made_answer_shows_one_id() -> None:
    """Without the middleware `create_error_response` puts the error's id into the header, or the client's text of it."""
    app = Quart(__name__)

    @app.get("/it")
    async def view() -> Any:
        return create_error_response(detail_of())

    for headers in ({}, {"X-Correlation-ID": "other"}, {"X-Correlation-ID": CORRELATION}):
        response = await ask(app, **headers)
        assert response.headers["X-Correlation-ID"] == response.json()["error"]["correlation_id"] == CORRELATION


async def test_the_services_own_middleware_may_choose_the_id() -> None:
    """What a service puts into ``request.state`` stands in body and header of a 500; middleware's errors count too."""
    app = FastAPI()
    chosen = uuid4()

    @app.middleware("http")
    async def choose(request: Request, call_next: Any) -> Any:
        request.state.correlation_id = chosen
        if request.url.path == "/middleware":
            raise LookupError
        return await call_next(request)

    register_fastapi(app)
    app.get("/it")(failing(KeyError()))
    for path, kind in (("/it", "KeyError"), ("/middleware", "LookupError")):
        response = await ask(app, path)
        assert response.json()["error"]["details"] == {"error_type": kind}
        assert response.headers["X-Correlation-ID"] == str(chosen) == response.json()["error"]["correlation_id"]


@BOTH
async def test_one_line_in_the_log(make: Make) -> None:
    """A refusal is logged at info, a fault at error with its traceback; either once, redacted, with the ids."""
    with structlog.testing.capture_logs() as lines:
        await ask(make(known(detail_of(token="hunter2"))), **HEADERS)
        await ask(make(failing(KeyError("k"))), **HEADERS)
    mine = [line for line in lines if line.get("logger_name") == "huleedu_service_libs.error_handling"]
    assert [(line["event"], line["log_level"], line["status"]) for line in mine] == [
        ("request_refused", "info", 400),
        ("request_failed", "error", 500),
    ]
    assert mine[0]["error.details.token"] == "***"
    assert isinstance(mine[1]["exc_info"], KeyError)
    assert [line["correlation_id"] for line in mine] == [CORRELATION, CORRELATION]


async def test_registering_twice_is_registering_once() -> None:
    """The second call changes neither layers nor answers."""
    app = make_fastapi(failing(KeyError()))
    register_fastapi(app, http_exceptions=True)
    response = await ask(app, **HEADERS)
    assert response.headers.get_list("X-Correlation-ID") == [CORRELATION]
    quart = make_quart(failing(KeyError()))
    register_quart(quart)
    assert (await ask(quart, **HEADERS)).headers.get_list("X-Correlation-ID") == [CORRELATION]
    assert create_test_error_detail().details == {}
