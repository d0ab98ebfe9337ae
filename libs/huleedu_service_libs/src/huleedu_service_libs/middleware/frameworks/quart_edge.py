"""Puts the one layer around a Quart application, and tells it the route of each request.

The set-up functions for metrics, tracing and errors share it, so that an application is wrapped once. Works
before and after the application has started serving: services set metrics up in ``before_serving``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("quart", module=__name__):
    from quart import Quart, got_websocket_exception, request, websocket
    from werkzeug.exceptions import HTTPException, MethodNotAllowed

from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.exchange import EXCHANGE_KEY, Exchange
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware

__all__ = ["edge_of", "exchange_of", "mark_failed"]

_MARK = "_huleedu_edge"


class StrayCancellationError(RuntimeError):
    """A view was cancelled although nobody has cancelled its request: something that it awaits was."""


def edge_of(app: Quart) -> Edge:
    """What the layer around ``app`` does; ``app`` is wrapped when it was not yet."""
    edge = getattr(app, _MARK, None)
    if isinstance(edge, Edge):
        return edge
    edge = Edge()
    setattr(app, _MARK, edge)
    app.asgi_app = RequestContextMiddleware(app.asgi_app, edge)  # type: ignore[method-assign,assignment,arg-type]  # Quart's own way, but typed closely
    app.full_dispatch_request = _without_stray_cancellations(app.full_dispatch_request)  # type: ignore[method-assign,assignment]
    # Into the lists themselves: the decorators refuse once the application has served. First, since a hook of the
    # service may answer, and that answer has a route too.
    app.before_request_funcs[None].insert(0, _on_request(app, edge))
    app.before_websocket_funcs[None].insert(0, _on_websocket)
    got_websocket_exception.connect(_on_websocket_error, app)
    return edge


def exchange_of(connection: Any) -> Exchange | None:
    """What the layer knows of a request or WebSocket."""
    scope = getattr(connection, "scope", None)
    found = scope.get(EXCHANGE_KEY) if isinstance(scope, dict) else None
    return found if isinstance(found, Exchange) else None


def mark_failed(connection: Any) -> None:
    """Have a WebSocket closed with 1011: Quart would close it as if all were well."""
    exchange = exchange_of(connection)
    if exchange is not None and exchange.kind == "websocket":
        exchange.failed = True


def _without_stray_cancellations(dispatch: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """An error like others instead: Quart from 0.23 on handles requests in a task group, which waits for the client to leave."""

    async def full_dispatch_request(*args: Any, **named: Any) -> Any:
        try:
            return await dispatch(*args, **named)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise StrayCancellationError(
                "the view was cancelled, but not its request: a task or future that it awaits was cancelled by somebody else"
            ) from error

    return full_dispatch_request


def _on_request(app: Quart, edge: Edge) -> Callable[[], Awaitable[None]]:
    """One hook for all that is to be done: Quart looks at each of them anew, and at proxies at each access."""

    async def begin() -> None:
        current = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # as above
        refused = current.routing_exception
        _tell_route(current, _rule_of_others(app, current, refused) if refused is not None else current.url_rule)
        if edge.show is not None:
            edge.show(current)

    return begin


async def _on_websocket() -> None:
    current = websocket._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001  # as above
    _tell_route(current, current.url_rule)


async def _on_websocket_error(_app: Quart, **_: Any) -> None:
    mark_failed(websocket)


def _rule_of_others(app: Quart, current: Any, refused: Exception) -> Any:
    """The rule of the path when it is there for other methods only: that is known, and the answer is a 405."""
    if not isinstance(refused, MethodNotAllowed) or not refused.valid_methods:
        return None
    adapter = app.create_url_adapter(current)
    if adapter is None:
        return None
    with suppress(HTTPException):
        return adapter.match(method=min(refused.valid_methods), return_rule=True)[0]
    return None


def _tell_route(connection: Any, rule: Any) -> None:
    exchange = exchange_of(connection)
    if exchange is not None and rule is not None:
        prefix = connection.root_path.removeprefix(exchange.root_path)  # of a dispatcher in front of the application
        exchange.route = prefix + rule.rule
