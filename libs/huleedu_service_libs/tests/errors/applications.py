"""The same small service in both frameworks, for tests that compare them."""

from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from quart import Quart
from starlette.exceptions import HTTPException
from werkzeug.exceptions import Forbidden

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorDetail
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.error_handling.fastapi import register_error_handlers as register_fastapi
from huleedu_service_libs.error_handling.quart import register_error_handlers as register_quart

CORRELATION = "6f1d8f5e-0f0a-4b53-9a3c-0d9c4f1f2a3b"
TRACE = "0af7651916cd43dd8448eb211c80319c"
HEADERS = {"X-Correlation-ID": CORRELATION, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}

Make = Callable[..., Any]


def known(detail: ErrorDetail) -> Callable[[], Any]:
    """A view that raises that error."""

    async def view() -> dict[str, Any]:
        raise HuleEduError(detail)

    return view


def failing(error: Exception) -> Callable[[], Any]:
    """A view that raises any exception."""

    async def view() -> dict[str, Any]:
        raise error

    return view


def make_fastapi(view: Callable[[], Any], **options: Any) -> FastAPI:
    """FastAPI with the view at ``/it``."""
    app = FastAPI(title="Essay Service", **options)
    register_fastapi(app, http_exceptions=True)
    app.get("/it")(view)
    app.get("/forbidden")(failing(HTTPException(403)))
    return app


def make_quart(view: Callable[[], Any], **_options: Any) -> Quart:
    """Quart with the view at ``/it``."""
    app = Quart(__name__)
    app.config["SERVICE_NAME"] = "essay_service"
    register_quart(app)
    app.get("/it")(view)
    app.add_url_rule("/forbidden", "forbidden", failing(Forbidden()))
    return app


@asynccontextmanager
async def client(app: Any) -> Any:
    """An HTTP client of the application, without a network."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        yield http


async def ask(app: Any, path: str = "/it", method: str = "GET", **headers: str) -> httpx.Response:
    """One request."""
    async with client(app) as http:
        response: httpx.Response = await http.request(method, path, headers=headers)
        return response


def detail_of(code: ErrorCode = ErrorCode.VALIDATION_ERROR, **details: Any) -> ErrorDetail:
    """A fixed error, so that both frameworks answer with the same bytes."""
    return ErrorDetail(
        error_code=code,
        message="Nej, så går det inte",
        correlation_id=UUID(CORRELATION),
        timestamp="2026-01-02T03:04:05+00:00",
        service="svc",
        operation="op",
        details=details,
        stack_trace="STACK of /secret/path.py",
    )


class OwnStatusError(HuleEduError):
    """An error that brings its own status along."""

    status_code = 500
