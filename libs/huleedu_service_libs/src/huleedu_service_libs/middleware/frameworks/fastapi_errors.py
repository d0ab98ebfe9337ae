"""Error handlers of a FastAPI application. Services import them from ``error_handling.fastapi``."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("fastapi", module=__name__):
    from fastapi import FastAPI, Request, WebSocket
    from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
    from fastapi.exceptions import RequestValidationError
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.requests import ClientDisconnect, HTTPConnection
    from starlette.responses import Response
    from starlette.routing import Mount
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.websockets import WebSocketDisconnect

from huleedu_service_libs.error_handling.context import CORRELATION_HEADER
from huleedu_service_libs.error_handling.http_mapping import Answer
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError
from huleedu_service_libs.middleware.error_answers import (
    RequestView,
    answer_http,
    answer_invalid,
    answer_known,
    answer_unexpected,
    correlation_id_of,
)
from huleedu_service_libs.middleware.exchange import EXCHANGE_KEY, SCOPE_KEY, Exchange
from huleedu_service_libs.middleware.frameworks.fastapi_edge import edge_of
from huleedu_service_libs.middleware.frameworks.fastapi_openapi import describe_errors
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware

__all__ = ["extract_correlation_id", "register_error_handlers"]

_BAD_REQUEST = 400
_INTERNAL_ERROR = 1011  # RFC 6455: the server met an unexpected condition
_CLIENT_GONE = 499  # as proxies write it down; nobody reads the answer
_MARK = "_huleedu_error_handlers"
_FRAMEWORKS_OWN = (http_exception_handler, request_validation_exception_handler)


def register_error_handlers(app: FastAPI, *, http_exceptions: bool = False) -> None:
    """Answer every error of ``app`` in the services' one form, with the ids of its request.

    `HuleEduError` gets the status of its code, a request that does not fit its model 422, anything
    unexpected 500. The last is answered inside Starlette's outermost layer, which would lose the ids
    and, in debug mode, show the stack; it is logged here and not raised again. A WebSocket is closed with
    1011 instead. The application is wrapped
    in `RequestContextMiddleware`. Its OpenAPI description shows the errors. FastAPI and Starlette applications that are
    mounted inside answer likewise, where they have no handlers of their own.

    Args:
        app: Its title, in lower case with underscores, stands in the answers. Must not have served yet.
        http_exceptions: Give 404, 405 and other answers of FastAPI's own the same form; without it
            they stay as FastAPI makes them.
    """
    app.exception_handlers |= _handlers(http_exceptions=http_exceptions)
    if not getattr(app, _MARK, False):
        setattr(app, _MARK, True)
        _wrap(app, http_exceptions=http_exceptions)
        edge_of(app)
        describe_errors(app, own_errors=not http_exceptions)


def extract_correlation_id(request: HTTPConnection) -> str:
    """The request's correlation id: ``request.state``, what the middleware gave it, header, query, a new one."""
    return correlation_id_of(
        getattr(request.state, "correlation_id", None),
        request.scope.get(SCOPE_KEY),
        request.headers.get(CORRELATION_HEADER),
        request.query_params.get("correlation_id"),
    )


class _UnexpectedErrors:
    """Answers what no handler knows. Outside all other middleware, inside Starlette's outermost layer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await self._app(scope, receive, send)
            return
        exchange: Exchange | None = scope.get(EXCHANGE_KEY)
        if exchange is None:  # an application that is mounted in one of ours, and served by itself as well
            await RequestContextMiddleware(self)(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except WebSocketDisconnect:  # the client has left, which is no fault, and nobody is there to be told
            return
        except Exception as error:
            sent = _on_unexpected(error, HTTPConnection(scope))
            if scope["type"] == "websocket":
                await _close_failed(exchange, send)
            elif exchange.status is not None:
                raise  # half an answer is out: only closing the connection tells the client
            else:
                await _response(sent)(scope, receive, send)


async def _close_failed(exchange: Exchange, send: Send) -> None:
    if not exchange.closed and exchange.status is None:
        with _when_closed():
            await send({"type": "websocket.close", "code": _INTERNAL_ERROR, "reason": ""})


def _handlers(*, http_exceptions: bool) -> dict[Any, Any]:
    handlers: dict[Any, Any] = {
        HuleEduError: _handler(_on_known),
        RequestValidationError: _handler(_on_invalid),
        ClientDisconnect: _on_parting,
        Exception: _handler(_on_unexpected),
    }
    return handlers | {HTTPException: _handler(_on_http)} if http_exceptions else handlers


def _wrap(app: Starlette, *, http_exceptions: bool) -> None:
    build: Callable[[], ASGIApp] = app.build_middleware_stack
    layer = Middleware(_UnexpectedErrors)

    def build_with_errors() -> ASGIApp:
        # In front of what the service added, and only now, so that the order of calls does not matter.
        if layer not in app.user_middleware:
            app.user_middleware.insert(0, layer)
        _adopt(app, http_exceptions=http_exceptions)
        return build()

    app.build_middleware_stack = build_with_errors  # type: ignore[method-assign]  # when all routes are known


def _adopt(app: Starlette, *, http_exceptions: bool) -> None:
    """Applications mounted inside answer errors likewise, where they have no handlers of their own.

    Their outermost layer would answer in Starlette's words and raise again, past everything of ours.
    """
    for mount in app.routes:
        inner = getattr(mount, "app", None) if isinstance(mount, Mount) else None
        if not isinstance(inner, Starlette) or getattr(inner, _MARK, False) or inner.middleware_stack is not None:
            continue
        setattr(inner, _MARK, True)
        own = {kind: each for kind, each in inner.exception_handlers.items() if each not in _FRAMEWORKS_OWN}
        inherited = _handlers(http_exceptions=http_exceptions)
        inner.exception_handlers = inner.exception_handlers | inherited | own
        _wrap(inner, http_exceptions=http_exceptions)


def _handler(
    make: Callable[[Any, HTTPConnection], Answer],
) -> Any:  # Starlette's types say that a handler takes only requests, but it calls it with WebSockets too
    async def handle(connection: Request | WebSocket, error: Exception) -> Response | None:
        if isinstance(error, HTTPException) and error.status_code < _BAD_REQUEST and isinstance(connection, Request):
            return await http_exception_handler(connection, error)
        sent = make(error, connection)
        if isinstance(connection, WebSocket):
            with _when_closed():
                await connection.close(_INTERNAL_ERROR)
            return None
        return _response(sent)

    return handle


async def _on_parting(_request: Request, _error: Exception) -> Response:
    """The client has left in the middle of its body: no fault of anybody here."""
    return Response(status_code=_CLIENT_GONE)


def _when_closed() -> suppress:
    """For closing a WebSocket that the application or the client may have closed already."""
    return suppress(RuntimeError, OSError, WebSocketDisconnect)


def _on_known(error: HuleEduError, request: HTTPConnection) -> Answer:
    return answer_known(error, _view(request))


def _on_invalid(error: RequestValidationError, request: HTTPConnection) -> Answer:
    return answer_invalid(error, list(error.errors()), _view(request))


def _on_http(error: HTTPException, request: HTTPConnection) -> Answer:
    default = HTTPException(error.status_code).detail
    said = None if error.detail == default else error.detail
    return answer_http(error, error.status_code, said, (error.headers or {}).items(), _view(request))


def _on_unexpected(error: Exception, request: HTTPConnection) -> Answer:
    return answer_unexpected(error, _view(request))


def _response(sent: Answer) -> Response:
    response = Response(sent.body, sent.status, sent.headers, sent.content_type)
    for name, value in sent.repeated_headers:
        response.headers.append(name, value)
    return response


def _view(request: HTTPConnection) -> RequestView:
    title = str(getattr(request.scope.get("app"), "title", None) or "unknown")
    return RequestView(
        method=str(request.scope.get("method", "WEBSOCKET")),
        path=request.url.path,
        accept=request.headers.get("Accept"),
        correlation_id=extract_correlation_id(request),
        service=title.lower().replace(" ", "_"),
    )
