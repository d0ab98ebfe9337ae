"""The FastAPI application of *notify*: the page, what it asks for, and the WebSocket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from typing import Any
from uuid import uuid4

from fastapi import APIRouter, FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from pydantic import TypeAdapter
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from essay_pipeline.contracts import LEAST_CHARACTERS, MOST_BODY_BYTES, MOST_CHARACTERS
from essay_pipeline.health import make_health, shared_probes
from essay_pipeline.notify.di import make_container
from essay_pipeline.notify.settings import NotifySettings
from essay_pipeline.notify.sockets import UserSockets
from essay_pipeline.slips import make_slips
from essay_pipeline.texts import Essay, load_essays
from essay_pipeline.tokens import InvalidTokenError, issue_token, verify_token
from essay_pipeline.traces import start_tracing
from huleedu_service_libs.error_handling import ErrorContext, raise_resource_not_found
from huleedu_service_libs.error_handling.fastapi import register_error_handlers
from huleedu_service_libs.health import ServiceHealth, consumer_probe
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.exposition import render_metrics
from huleedu_service_libs.middleware.frameworks.fastapi_health import setup_health
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware,
)
from huleedu_service_libs.middleware.frameworks.fastapi_middleware import setup_tracing_middleware

__all__ = ["create_app"]

_logger = create_service_logger("notify.app")

WRONG_TOKEN = 4401
_PAGE = {"index.html": "text/html", "app.js": "text/javascript", "style.css": "text/css"}

_routes = APIRouter()


def create_app(settings: NotifySettings) -> FastAPI:
    """The application; nothing connects before it is served."""
    health = make_health(settings)
    app = FastAPI(
        title=settings.SERVICE_NAME,
        lifespan=partial(_lifespan, settings, health),
        docs_url=None,
        redoc_url=None,
    )
    app.state.settings = settings
    setup_health(app, health)
    app.add_middleware(_SecurityHeaders, intake_url=settings.INTAKE_URL)
    register_error_handlers(app, http_exceptions=True)
    setup_standard_service_metrics_middleware(app, settings.SERVICE_NAME)
    setup_tracing_middleware(app, start_tracing(settings.SERVICE_NAME))
    app.include_router(_routes)
    return app


@asynccontextmanager
async def _lifespan(settings: NotifySettings, health: ServiceHealth, app: FastAPI) -> AsyncIterator[None]:
    container = make_container(settings)
    try:
        consumer = await container.get(EventConsumer)
        app.state.sockets = await container.get(UserSockets)
        health.watch(*shared_probes(settings), consumer_probe(consumer))
        health.drain.finish_with("consumer", consumer.stop)
        await consumer.start()
        await health.start()
        _logger.info("service_started", host=settings.HOST, port=settings.PORT)
        try:
            yield
        finally:
            await consumer.stop()
    finally:
        await health.stop()
        await container.close()


@_routes.get("/")
async def index() -> Response:
    """The page."""
    return _page_file("index.html")


@_routes.get("/app.js")
async def script() -> Response:
    """The page's script."""
    return _page_file("app.js")


@_routes.get("/style.css")
async def style() -> Response:
    """The page's style."""
    return _page_file("style.css")


@_routes.get("/config.json")
async def config(request: Request) -> JSONResponse:
    """Where things are, what *intake* takes, the texts to pick from, and a new anonymous user for this page."""
    settings: NotifySettings = request.app.state.settings
    user_id = f"user-{uuid4().hex[:16]}"
    essays = [_shown(essay, exclude={"text", "source"}) for essay in load_essays()]
    token = issue_token(user_id, settings.get_internal_api_key())
    body = {
        "intake_url": settings.INTAKE_URL,
        "user_id": user_id,
        "token": token,
        "essays": essays,
        "limits": {
            "least_characters": LEAST_CHARACTERS,
            "most_characters": MOST_CHARACTERS,
            "most_bytes": MOST_BODY_BYTES,
        },
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


@_routes.get("/texts/{essay_id}")
async def text(request: Request, essay_id: str, slips: int | None = None) -> JSONResponse:
    """One of the shipped texts, with ``slips`` (a seed) misspelt here and there; 404 for an unknown id."""
    essay = next((each for each in load_essays() if each.id == essay_id), None)
    if essay is None:
        raise_resource_not_found(
            resource_type="Text", resource_id=essay_id, hint="/config.json lists them", **_context(request).arguments()
        )
    shown = _shown(essay)
    if slips is not None:
        slipped = make_slips(essay.text, seed=slips, language=essay.language)
        shown |= {"text": slipped.text, "slips": len(slipped.slips)}
    return JSONResponse(shown)


def _context(request: Request) -> ErrorContext:
    settings: NotifySettings = request.app.state.settings
    return ErrorContext.current(service=settings.SERVICE_NAME)


@_routes.websocket("/ws")
async def notifications(socket: WebSocket, token: str = "", last_id: str | None = None) -> None:
    """Push the notifications of the token's user after ``last_id``; code 4401 for a wrong token, 4400 for a wrong id."""
    settings: NotifySettings = socket.app.state.settings
    await socket.accept()  # before any verdict: a close code reaches only who was accepted
    try:
        user_id = verify_token(token, settings.get_internal_api_key())
    except InvalidTokenError as error:
        await socket.close(WRONG_TOKEN, str(error))
        return
    sockets: UserSockets = socket.app.state.sockets
    await sockets.serve(socket, user_id, last_id)


@_routes.get("/metrics")
async def metrics(request: Request) -> Response:
    """The collectors, for Prometheus."""
    body, content_type = render_metrics(request.headers.get("Accept"))
    return Response(body, headers={"Content-Type": content_type})


def _page_file(name: str) -> Response:
    content = files("essay_pipeline.notify").joinpath("page", name).read_bytes()
    return Response(content, media_type=_PAGE[name], headers={"Cache-Control": "no-cache"})


def _shown(essay: Essay, exclude: set[str] | None = None) -> dict[str, Any]:
    shown: dict[str, Any] = TypeAdapter(Essay).dump_python(essay, mode="json", exclude=exclude)
    return shown


class _SecurityHeaders:
    """What the page may load and call; plain ASGI, since Starlette's base class costs more than the headers."""

    def __init__(self, app: ASGIApp, intake_url: str) -> None:
        self._app = app
        self._policy = (
            f"default-src 'self'; connect-src 'self' {intake_url}; img-src 'self' data:; base-uri 'none'; "
            "form-action 'self'; frame-ancestors 'none'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = self._policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        await self._app(scope, receive, send_with_headers)
