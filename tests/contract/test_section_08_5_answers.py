"""Section 8.5: statuses by code, the body of an error, and the handlers of both frameworks."""

import importlib
import subprocess
import sys
from enum import Enum
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from fastapi import FastAPI, Request
from pydantic import BaseModel
from quart import Quart, request

from common_core.error_enums import (
    BatchConductorErrorCode,
    CJAssessmentErrorCode,
    ErrorCode,
    FileValidationErrorCode,
    IdentityErrorCode,
    LLMErrorCode,
)
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context
from huleedu_service_libs.error_handling import fastapi as fastapi_errors
from huleedu_service_libs.error_handling import quart as quart_errors
from huleedu_service_libs.error_handling.quart import create_error_response
from huleedu_service_libs.error_handling.quart_handlers import ERROR_CODE_TO_HTTP_STATUS
from tests.contract.statuses import STATUSES
from tests.contract.tables import claimed

ID = UUID(int=7)
FIELDS = {"code", "message", "correlation_id", "service", "timestamp", "details"}
UNEXPECTED = "An unexpected error occurred"


class Colour(str, Enum):
    """Of a thing."""

    RED = "red"


class Later(str, Enum):
    """Codes of a contracts package that is newer than the library."""

    LATER = "LATER"


class Thing(BaseModel):
    """What a request holds."""

    colour: Colour


def _error() -> HuleEduError:
    return HuleEduError(create_error_detail_with_context(ErrorCode.TIMEOUT, "late", "svc", "op", ID, {"a": 1}))


def make_quart() -> Quart:
    """A service on Quart."""
    app = Quart("x")
    quart_errors.register_error_handlers(app)

    @app.get("/known")
    async def known() -> str:
        raise _error()

    @app.get("/unexpected")
    async def unexpected() -> str:
        raise KeyError("x")

    @app.get("/id")
    async def ids() -> str:
        return quart_errors.extract_correlation_id(request)

    return app


def make_fastapi() -> FastAPI:
    """The same on FastAPI, with one route that takes a body and one whose middleware has set an id."""
    app = FastAPI(title="My Gateway Service")
    fastapi_errors.register_error_handlers(app)

    @app.get("/known")
    async def known() -> None:
        raise _error()

    @app.get("/unexpected")
    async def unexpected() -> None:
        raise KeyError("x")

    @app.post("/things")
    async def things(thing: Thing) -> Thing:
        return thing

    @app.get("/state")
    async def state(request: Request) -> str:
        request.state.correlation_id = str(ID)
        assert fastapi_errors.extract_correlation_id(request) == str(ID)
        raise KeyError("x")

    @app.get("/id")
    async def ids(request: Request) -> str:
        return fastapi_errors.extract_correlation_id(request)

    return app


async def ask(app: Any, path: str, method: str = "GET", **options: Any) -> httpx.Response:
    """One request."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.request(method, path, **options)


def error_of(answer: httpx.Response) -> dict[str, Any]:
    """The one top-level key of the body."""
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) == FIELDS
    assert "stack_trace" not in answer.text
    assert "Traceback" not in answer.text
    return error


BOTH = pytest.mark.parametrize("make", [make_quart, make_fastapi], ids=["quart", "fastapi"])


@pytest.mark.parametrize(
    ("status", "codes"), [claimed(f"8.5-status-{status}", status, codes) for status, codes in STATUSES.items()]
)
def test_a_status(status: int, codes: str) -> None:
    """Of all its codes, by text."""
    assert {code: ERROR_CODE_TO_HTTP_STATUS[code] for code in codes.split()} == dict.fromkeys(codes.split(), status)


@pytest.mark.contract("8.5-lookup-by-text")
def test_by_member_and_by_text() -> None:
    """A code and its text find the same status."""
    text: dict[Any, int] = dict(ERROR_CODE_TO_HTTP_STATUS)
    assert text[ErrorCode.TIMEOUT] == text["TIMEOUT"] == 504
    assert text[FileValidationErrorCode.EMPTY_CONTENT] == 400


@pytest.mark.contract("8.5-status-unmapped")
async def test_codes_without_a_row() -> None:
    """The families that had none answer as errors, wrong credentials with 401; what no table knows is 500."""
    families = (BatchConductorErrorCode, CJAssessmentErrorCode, IdentityErrorCode, LLMErrorCode)
    codes = [code for family in families for code in family]
    codes += [ErrorCode.LLM_PROVIDER_SERVICE_ERROR, FileValidationErrorCode.ENCRYPTED_FILE_UNSUPPORTED]  # type: ignore[list-item]
    assert all(400 <= ERROR_CODE_TO_HTTP_STATUS.get(code, 500) < 600 for code in codes)
    assert ERROR_CODE_TO_HTTP_STATUS[IdentityErrorCode.INVALID_CREDENTIALS] == 401
    detail = _error().error_detail.model_copy(update={"error_code": Later.LATER})
    async with Quart("x").app_context():
        assert create_error_response(detail)[1] == 500


@pytest.mark.contract("8.5-body", "8.5-no-stack", "8.5-create-response")
async def test_an_answer_made_by_hand() -> None:
    """Response and status; the body as it is; a status of the caller's wins."""
    async with Quart("x").app_context():
        response, status = create_error_response(_error().error_detail)
        _, override = create_error_response(_error().error_detail, 418)
        again = create_error_response(error_detail=_error().error_detail, status_code=400)
    assert (status, override, again[1]) == (504, 418, 400)
    body = await response.get_json()
    timestamp = body["error"].pop("timestamp")
    assert "T" in timestamp
    assert body == {
        "error": {
            "code": "TIMEOUT",
            "message": "late",
            "correlation_id": str(ID),
            "service": "svc",
            "details": {"a": 1},
        }
    }
    assert "stack_trace" not in await response.get_data(as_text=True)


@BOTH
@pytest.mark.contract("8.5-known-error", "8.5-body", "8.5-no-stack")
async def test_a_known_error(make: Any) -> None:
    """The status of its code, and its own fields."""
    answer = await ask(make(), "/known")
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["message"]) == (504, "TIMEOUT", "late")
    assert (error["correlation_id"], error["service"], error["details"]) == (str(ID), "svc", {"a": 1})


@BOTH
@pytest.mark.contract("8.5-unexpected", "8.5-unexpected-service", "8.5-unexpected-correlation")
async def test_an_unexpected_error(make: Any) -> None:
    """500 with the class name and a new id each time; the client learns no more."""
    app = make()
    answer, other = await ask(app, "/unexpected"), await ask(app, "/unexpected")
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["message"]) == (500, "UNKNOWN_ERROR", UNEXPECTED)
    assert error["details"] == {"error_type": "KeyError"}
    assert error["service"] == ("unknown" if isinstance(app, Quart) else "my_gateway_service")
    assert UUID(error["correlation_id"]) != UUID(error_of(other)["correlation_id"])


@pytest.mark.contract("8.5-unexpected-service")
async def test_the_service_of_quart_has_a_name() -> None:
    """An unexpected error is answered under the configured `SERVICE_NAME`."""
    app = make_quart()
    app.config["SERVICE_NAME"] = "essay-service"
    assert error_of(await ask(app, "/unexpected"))["service"] == "essay-service"


@BOTH
@pytest.mark.contract("8.5-quart-correlation", "8.5-fastapi-correlation")
async def test_where_the_id_of_a_request_comes_from(make: Any) -> None:
    """The header wins over the query, and without both it is a new UUID."""
    app, header, query = make(), str(uuid4()), str(uuid4())

    def text(answer: httpx.Response) -> str:
        return answer.text.strip('"\n')

    path = f"/id?correlation_id={query}"
    assert text(await ask(app, path, headers={"X-Correlation-ID": header})) == header
    assert text(await ask(app, path)) == query
    assert UUID(text(await ask(app, "/id"))) != UUID(text(await ask(app, "/id")))


@pytest.mark.contract("8.5-fastapi-correlation", "8.5-state-correlation")
async def test_an_id_in_the_state() -> None:
    """What a service's own middleware has set comes first."""
    answer = await ask(make_fastapi(), "/state", headers={"X-Correlation-ID": str(uuid4())})
    assert error_of(answer)["correlation_id"] == str(ID)


@pytest.mark.contract("8.5-validation", "8.5-validation-enum")
async def test_a_request_that_does_not_fit() -> None:
    """422, the first message, and the whole list with type and place."""
    answer = await ask(make_fastapi(), "/things", "POST", json={"colour": "blue"})
    error = error_of(answer)
    (fault,) = error["details"]["validation_errors"]
    assert (answer.status_code, error["code"], error["message"]) == (422, "VALIDATION_ERROR", fault["msg"])
    assert (fault["type"], fault["loc"]) == ("enum", ["body", "colour"])
    assert error["service"] == "my_gateway_service"


@pytest.mark.contract("8.5-fastapi-own")
async def test_what_fastapi_refuses_itself() -> None:
    """404 and 405 keep FastAPI's own form."""
    app = make_fastapi()
    found = [await ask(app, "/nothing"), await ask(app, "/known", "POST")]
    assert [(one.status_code, one.json()) for one in found] == [
        (404, {"detail": "Not Found"}),
        (405, {"detail": "Method Not Allowed"}),
    ]


@pytest.mark.contract("8.5-internal-modules")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("quart_handlers", "ERROR_CODE_TO_HTTP_STATUS"),
        ("quart_handlers", "register_error_handlers"),
        ("fastapi_handlers", "register_error_handlers"),
        ("logging_utils", "format_error_for_logging"),
        ("testing", "assert_raises_huleedu_error"),
    ],
)
def test_modules_behind_the_package(module: str, name: str) -> None:
    """Each can be imported and has its name."""
    assert hasattr(importlib.import_module(f"huleedu_service_libs.error_handling.{module}"), name)


@pytest.mark.contract("8.5-no-quart")
def test_handlers_of_fastapi_load_no_quart() -> None:
    """A FastAPI service does without Quart, also when its handlers are used."""
    code = (
        "import sys; from huleedu_service_libs.error_handling.fastapi import register_error_handlers; "
        "from fastapi import FastAPI; register_error_handlers(FastAPI()); sys.exit('quart' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0  # noqa: S603
