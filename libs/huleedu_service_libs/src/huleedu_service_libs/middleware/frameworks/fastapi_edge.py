"""Puts the one layer around a FastAPI or Starlette application, and finds the route of each request.

The set-up functions for metrics, tracing and errors share it, so that an application is wrapped once. Works
before and after the application has started serving.
"""

from collections.abc import Callable
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("fastapi", module=__name__):
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.types import ASGIApp

from huleedu_service_libs._asgi import Scope
from huleedu_service_libs.middleware.edge import Edge
from huleedu_service_libs.middleware.exchange import Exchange
from huleedu_service_libs.middleware.request_context import RequestContextMiddleware

__all__ = ["edge_of", "template_of"]

_MARK = "_huleedu_edge"
_MOST_PREFIXES = 1024


def edge_of(app: Starlette) -> Edge:
    """What the layer around ``app`` does; ``app`` is wrapped when it was not yet."""
    edge = getattr(app, _MARK, None)
    if isinstance(edge, Edge):
        return edge
    edge = Edge(route=template_of)
    setattr(app, _MARK, edge)
    build: Callable[[], ASGIApp] = app.build_middleware_stack

    def build_inside() -> ASGIApp:
        return RequestContextMiddleware(build(), edge)

    # The only place outside Starlette's outermost layer, which answers unexpected errors.
    app.build_middleware_stack = build_inside  # type: ignore[method-assign]
    if app.middleware_stack is not None:  # it serves already
        app.middleware_stack = RequestContextMiddleware(app.middleware_stack, edge)
    return edge


def template_of(scope: Scope, exchange: Exchange) -> str | None:
    """The template of the route that has answered, with those of the mounts around it."""
    if scope.get("root_path", "") != _base(scope, exchange):
        return _mounted(scope, exchange)
    route = _route_of(scope)
    if route is not None:
        return _text(route)
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    # A route of Starlette's inside FastAPI, such as /docs, leaves no trace of its own.
    routes = getattr(scope.get("app"), "routes", ())
    return next((_text(each) for each in routes if getattr(each, "endpoint", None) is endpoint), None)


def _base(scope: Scope, exchange: Exchange) -> str:
    base = scope.get("app_root_path")  # what Starlette began with, once a mount has matched
    return base if isinstance(base, str) else scope.get("root_path", exchange.root_path)


def _route_of(scope: Scope) -> Any:
    route = scope.get("route")
    known = scope.get("fastapi")
    context = known.get("effective_route_context") if isinstance(known, dict) else None
    if context is not None:  # FastAPI's routes do not know the prefixes of the routers that include them
        original = getattr(context, "original_route", None)
        if route is None or original is route:
            return getattr(context, "starlette_route", None) or context
    return route


def _text(route: Any) -> str | None:
    text = getattr(route, "path_format", None) or getattr(route, "path", None)
    return text if isinstance(text, str) else None


_PREFIXES = "_huleedu_prefixes"


def _mounted(scope: Scope, exchange: Exchange) -> str | None:
    found = _prefix(scope, exchange)
    if found is None:
        return None
    prefix, mount = found
    inner = _route_of(scope)
    if inner is None or isinstance(inner, Mount) or isinstance(getattr(inner, "original_route", None), Mount):
        return None if mount.routes else prefix or "/"  # static files and the like have no routes of their own
    text = _text(inner)
    return None if text is None else prefix + text


def _prefix(scope: Scope, exchange: Exchange) -> tuple[str, Mount] | None:
    """The templates of the mounts, joined, and the innermost mount."""
    outermost = scope.get("router")
    if outermost is None:
        return None
    rest = scope["root_path"].removeprefix(_base(scope, exchange))
    # On the router, so that they go with it; routers are equal by their routes, hence no keys.
    known: dict[str, tuple[str, Mount] | None] = outermost.__dict__.setdefault(_PREFIXES, {})
    if rest not in known:
        if len(known) >= _MOST_PREFIXES:  # a mount whose path has parameters
            known.clear()
        known[rest] = _search(getattr(outermost, "routes", ()), rest, "")
    return known[rest]


def _search(routes: Any, rest: str, before: str) -> tuple[str, Mount] | None:
    for mount in _mounts(routes):
        match = mount.path_regex.match(f"{rest}/")
        if match is None:
            continue
        prefix = before + mount.path_format.removesuffix("/{path}")
        beyond = match["path"].rstrip("/")
        if not beyond:
            return prefix, mount
        deeper = _search(mount.routes, f"/{beyond}", prefix)
        if deeper is not None:
            return deeper
    return None


def _mounts(routes: Any) -> list[Mount]:
    found: list[Mount] = []
    for each in routes:
        if isinstance(each, Mount):
            found.append(each)
        elif callable(contexts := getattr(each, "effective_route_contexts", None)):  # a router that FastAPI includes
            shown = (getattr(context, "starlette_route", None) for context in contexts())
            found.extend(mount for mount in shown if isinstance(mount, Mount))
    return found
