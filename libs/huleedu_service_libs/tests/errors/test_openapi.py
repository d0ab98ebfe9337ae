"""A FastAPI service's description shows its errors, and what it answers is what the description says."""

import asyncio
from datetime import date
from typing import Annotated, Any
from uuid import UUID, uuid4

import httpx
import pytest
import schemathesis
from fastapi import FastAPI, Path
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import AfterValidator, BaseModel, Field
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling import raise_rate_limit_error, raise_resource_not_found
from huleedu_service_libs.error_handling.fastapi import register_error_handlers

_CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance, content_type_conformance]


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("odd")
    return value


class _Essay(BaseModel):
    title: str = Field(min_length=1, max_length=20)
    kind: ErrorCode
    words: Annotated[int, AfterValidator(_even)]
    written: date | None = None
    password: str = ""
    tags: dict[str, list[float]] = {}


def _app(*, http_exceptions: bool = True) -> FastAPI:
    app = FastAPI(title="Essays")
    register_error_handlers(app, http_exceptions=http_exceptions)

    @app.put("/essays/{essay_id}")
    async def put(essay_id: UUID, essay: _Essay, limit: int = 3) -> _Essay:
        if limit > 1000:
            raise_rate_limit_error("essays", "put", limit, 60, "Slower", uuid4())
        if essay_id.version != 4:
            raise_resource_not_found("essays", "put", "Essay", str(essay_id), uuid4(), essay=essay)
        return essay

    @app.get("/squares/{n}")
    async def square(n: Annotated[int, Path(ge=0, lt=1000)]) -> int:
        return n * n

    return app


def test_the_description_shows_the_shapes() -> None:
    """Every operation has a default answer in our form, plain and as a problem; 422 is ours, not FastAPI's."""
    app = _app()
    described = app.openapi()
    assert described is app.openapi()
    for responses in (described["paths"]["/essays/{essay_id}"]["put"]["responses"],):
        for status in ("default", "422"):
            content = responses[status]["content"]
            assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/HuleEduErrorResponse"}
            assert content["application/problem+json"]["schema"] == {"$ref": "#/components/schemas/HuleEduErrorProblem"}
    error = described["components"]["schemas"]["HuleEduErrorResponse"]["properties"]["error"]
    assert set(error["required"]) == {"code", "message", "correlation_id", "service", "timestamp", "details"}
    assert "IDENTITY_ACCOUNT_LOCKED" in error["properties"]["code"]["enum"]


class ErrorResponse(BaseModel):
    """A model of a service, named as services like to."""

    mine: int


def test_a_services_own_model_stays() -> None:
    """Our shapes have names of our own: a service's ``ErrorResponse`` is described as the service wrote it."""
    app = _app()

    @app.get("/own")
    async def own() -> ErrorResponse:
        return ErrorResponse(mine=1)

    described = app.openapi()["components"]["schemas"]
    assert set(described["ErrorResponse"]["properties"]) == {"mine"}
    assert set(described["HuleEduErrorResponse"]["properties"]) == {"error"}


def test_the_frameworks_own_errors_are_described_where_they_stay() -> None:
    """Without ``http_exceptions`` FastAPI's shape stands beside ours."""
    described = _app(http_exceptions=False).openapi()
    schema = described["paths"]["/squares/{n}"]["get"]["responses"]["default"]["content"]["application/json"]["schema"]
    assert schema == {
        "anyOf": [
            {"$ref": "#/components/schemas/HuleEduErrorResponse"},
            {"$ref": "#/components/schemas/HuleEduFrameworkError"},
        ]
    }


async def _call(app: FastAPI, arguments: dict[str, Any]) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as http:
        arguments.pop("cookies", None)
        return await http.request(**{"content" if name == "data" else name: arguments[name] for name in arguments})


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
@pytest.mark.parametrize("path", ["/essays/{essay_id}", "/squares/{n}"])
def test_no_request_gets_an_answer_that_is_not_described(path: str, mode: Any) -> None:
    """Valid and invalid requests made from the description: no 500, and every error in the stated form."""
    app = _app()
    schema: Any = schemathesis.openapi.from_dict(app.openapi())
    (method,) = app.openapi()["paths"][path]

    @given(case=schema[path][method.upper()].as_strategy(generation_mode=mode))
    @settings(max_examples=60, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def run(case: Any) -> None:
        arguments = case.as_transport_kwargs(base_url="http://test")
        response = asyncio.run(_call(app, arguments))
        case.validate_response(response, checks=_CHECKS)
        if response.status_code >= 400:
            assert set(response.json()) == {"error"}

    run()
