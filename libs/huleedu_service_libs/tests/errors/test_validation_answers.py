"""What the handlers say of input that is not valid: encodable, cut, and without what was typed where that is a secret."""

from typing import Annotated, Any, Self

import pytest
from fastapi import FastAPI
from pydantic import AfterValidator, BaseModel, SecretStr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling.fastapi import register_error_handlers as register_fastapi

from .applications import (
    CORRELATION,
    HEADERS,
    client,
)


def _refuse(value: str) -> str:
    raise ValueError(f"not {value}")


class _Body(BaseModel):
    kind: ErrorCode = ErrorCode.TIMEOUT
    name: Annotated[str, AfterValidator(_refuse)] = "x"
    password: SecretStr = SecretStr("")


@pytest.mark.parametrize(
    ("content", "kind", "loc"),
    [
        ('{"kind": "no"}', "enum", ["body", "kind"]),
        ('{"name": "no"}', "value_error", ["body", "name"]),
        ('{"password": 7031}', "string_type", ["body", "password"]),
        ('{"password": ["7031"], "name": "n"}', "value_error", ["body", "name"]),
        ("{", "json_invalid", ["body", 1]),
        ("[]", "model_attributes_type", ["body"]),
        (b"\xff\xfe", "json_invalid", ["body", 0]),
    ],
)
async def test_validation_errors_of_any_content(content: str | bytes, kind: str, loc: list[Any]) -> None:
    """422 with pydantic's list, encodable whatever validators raised, and without what was typed as a password."""
    app = FastAPI(title="Essay Service")
    register_fastapi(app)

    @app.post("/body")
    async def view(body: _Body) -> _Body:
        return body

    async with client(app) as http:
        response = await http.post("/body", content=content, headers={"content-type": "application/json", **HEADERS})
    error = response.json().get("error", response.json())
    assert response.status_code == 422
    assert (error["code"], error["correlation_id"], error["service"]) == (
        "VALIDATION_ERROR",
        CORRELATION,
        "essay_service",
    )
    faults = error["details"]["validation_errors"]
    assert [kind, loc] in [[fault["type"], fault["loc"]] for fault in faults]
    assert error["message"] == faults[0]["msg"]
    assert "7031" not in response.text


class _Account(BaseModel):
    name: str = ""
    password: str = ""
    token: int = 0

    @field_validator("password")
    @classmethod
    def _common(cls, value: str) -> str:
        if value.startswith("own"):
            raise PydanticCustomError("too_common", "{given} is too common", {"given": value})
        assert not value.startswith("bad"), f"{value} is bad"
        raise ValueError(f"password {value} is too common")

    @field_validator("name")
    @classmethod
    def _no_name(cls, value: str) -> str:
        raise ValueError("no such name")


async def _faults_of(content: Any) -> tuple[dict[str, Any], str]:
    app = FastAPI()
    register_fastapi(app)

    @app.post("/accounts")
    async def view(accounts: list[_Account]) -> int:
        return len(accounts)

    async with client(app) as http:
        response = await http.post("/accounts", json=content)
    assert response.status_code == 422
    return response.json()["error"], response.text


@pytest.mark.parametrize("given", ["hunter2", "bad-hunter2", "own-hunter2"])
async def test_a_validator_that_repeats_a_secret(given: str) -> None:
    """Its text gives way to a neutral one, in the list and as the message; pydantic's own texts and other fields' stay."""
    error, text = await _faults_of([{"password": given}])
    assert "hunter2" not in text
    assert error["message"] == error["details"]["validation_errors"][0]["msg"] == "The value is not valid"
    error, _ = await _faults_of([{"token": "hunter2"}])
    assert error["message"].startswith("Input should be a valid integer")
    error, _ = await _faults_of([{"name": "n"}])
    assert error["message"] == "Value error, no such name"


class _Pair(BaseModel):
    password: str
    again: str = ""
    inner: dict[str, Any] = {}

    @model_validator(mode="after")
    def _same(self) -> Self:
        secret = self.password or str(self.inner["credentials"]["pins"][0])
        raise ValueError(f"{secret} differs") if self.again != "quiet" else ValueError("the two differ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"password": "hunter2"}, "The value is not valid"),
        ({"password": "", "inner": {"credentials": {"pins": ["hunter2"]}}}, "The value is not valid"),
        (
            {"password": "", "inner": {"credentials": {"pins": ["hunter2"]}, "many": [0] * 3000}},
            "The value is not valid",
        ),
        ({"password": "hunter2", "again": "quiet"}, "Value error, the two differ"),
    ],
)
async def test_a_validator_of_the_whole_model_that_repeats_a_secret(content: Any, message: str) -> None:
    """It sees every field, so its text gives way to a neutral one when it holds what stands under a secret's name."""
    app = FastAPI()
    register_fastapi(app)

    @app.post("/pair")
    async def view(pair: _Pair) -> None: ...

    async with client(app) as http:
        response = await http.post("/pair", json=content)
    assert response.status_code == 422
    assert response.json()["error"]["message"] == message
    assert "hunter2" not in response.text


async def test_what_was_sent_is_shown_in_part() -> None:
    """200 characters of an input, be it text or structure; secrets are taken out first."""
    (fault,) = (await _faults_of([{"name": "n" * 5000}]))[0]["details"]["validation_errors"]
    assert fault["input"] == "n" * 200 + "… (5000 characters)"
    error, text = await _faults_of({"password": "hunter2", "many": list(range(500))})
    assert len(error["details"]["validation_errors"][0]["input"]) < 250
    assert "hunter2" not in text


async def test_many_faults_are_cut_between_two() -> None:
    """Each fault that is shown is whole, and the number of all is told."""
    error, _ = await _faults_of([{"token": "x"}] * 3000)
    faults = error["details"]["validation_errors"]
    assert 100 < len(faults) < 3000
    assert all({"type", "loc", "msg", "input"} <= set(fault) for fault in faults)
    assert faults[-1]["loc"] == ["body", len(faults) - 1, "token"]
    assert error["details"]["validation_errors_in_all"] == 3000
