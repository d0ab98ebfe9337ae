"""`ErrorDetail`: immutable, and the same after a journey through JSON."""

import json
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import uuid4

import pytest
from pydantic import ValidationError

from common_core import error_enums
from common_core.error_enums import ErrorCode, LLMErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail


def _detail(**changes: Any) -> ErrorDetail:
    fields: dict[str, Any] = {
        "error_code": ErrorCode.TIMEOUT,
        "message": "för långsamt",
        "correlation_id": uuid4(),
        "timestamp": datetime.now(UTC),
        "service": "s",
        "operation": "o",
        **changes,
    }
    return ErrorDetail(**fields)


def test_defaults() -> None:
    """Details are an own empty mapping; stack and trace are unknown."""
    detail = _detail()
    assert (detail.details, detail.stack_trace, detail.trace_id, detail.span_id) == ({}, None, None, None)
    assert detail.details is not _detail().details


def test_assignment_raises() -> None:
    """An error that happened does not change."""
    with pytest.raises(ValidationError):
        _detail().message = "other"  # type: ignore[misc]


def test_has_no_status_code() -> None:
    """A service looks for `status_code` and counts on its absence."""
    assert not hasattr(_detail(), "status_code")


def test_union_of_codes_is_ordered() -> None:
    """Texts are read as the first family that knows them, so the order of families is fixed."""
    assert [member.__name__ for member in get_args(ErrorCodeType)] == [
        "ErrorCode",
        "BatchConductorErrorCode",
        "CJAssessmentErrorCode",
        "ClassManagementErrorCode",
        "FileValidationErrorCode",
        "IdentityErrorCode",
        "LLMErrorCode",
        "SpellcheckerErrorCode",
    ]


@pytest.mark.parametrize("family", [getattr(error_enums, name) for name in error_enums.__all__])
def test_every_code_round_trips(family: Any) -> None:
    """Each code of each family survives `model_dump` and JSON; in JSON it is its value."""
    for code in family:
        detail = _detail(error_code=code, details={"a": [1, None]}, trace_id="0" * 32)
        assert ErrorDetail(**detail.model_dump()) == detail
        text = detail.model_dump_json()
        assert json.loads(text)["error_code"] == code.value
        assert ErrorDetail.model_validate_json(text).error_code == code
        assert ErrorDetail.model_validate_json(text).message == "för långsamt"


def test_code_keeps_its_family() -> None:
    """A member passed in stays the member of its own enum."""
    assert type(_detail(error_code=LLMErrorCode.PARSING_ERROR).error_code) is LLMErrorCode


def test_unknown_code_is_refused() -> None:
    """A code of no family is an error."""
    with pytest.raises(ValidationError):
        _detail(error_code="NO_SUCH_CODE")
