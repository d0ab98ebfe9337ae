"""Section 8: errors. The exception, its detail, the body that both frameworks send, the statuses."""

import subprocess
import sys
from uuid import UUID, uuid4

import pytest
from quart import Quart

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorDetail
from huleedu_service_libs.error_handling import (
    HuleEduError,
    create_error_detail_with_context,
    format_error_for_logging,
    raise_external_service_error,
    raise_resource_not_found,
)
from huleedu_service_libs.error_handling.quart import create_error_response
from huleedu_service_libs.error_handling.quart_handlers import ERROR_CODE_TO_HTTP_STATUS
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
class error_handling.huleedu_error:HuleEduError(error_detail)
def error_handling.huleedu_error:HuleEduError.to_dict()
def error_handling.huleedu_error:HuleEduError.add_detail(key, value)
def error_handling.error_detail_factory:create_error_detail_with_context(error_code, message, service, operation, correlation_id=None, details=None, capture_stack=True)
def error_handling:format_error_for_logging(error_detail)
def error_handling.quart:create_error_response(error_detail, status_code=None)
def error_handling.quart:register_error_handlers(app)
def error_handling.quart:extract_correlation_id(request)
def error_handling.fastapi:register_error_handlers(app)
def error_handling.fastapi:extract_correlation_id(request)
def error_handling.testing:assert_raises_huleedu_error(error_code, service=None, operation=None, message_contains=None, details_contain=None)
def error_handling.testing:create_test_error_detail(error_code=ErrorCode.UNKNOWN_ERROR, message='Test error', service='test_service', operation='test_operation', **kwargs)
def error_handling.testing:create_test_huleedu_error(error_code=ErrorCode.UNKNOWN_ERROR, message='Test error', service='test_service', operation='test_operation', **kwargs)
def error_handling.testing:ErrorDetailMatcher.matches(detail)
def error_handling:raise_unknown_error(service, operation, message, correlation_id, **additional_context)
def error_handling:raise_validation_error(service, operation, field, message, correlation_id, value=None, **additional_context)
def error_handling:raise_resource_not_found(service, operation, resource_type, resource_id, correlation_id, **additional_context)
def error_handling:raise_external_service_error(service, operation, external_service, message, correlation_id, status_code=None, **additional_context)
def error_handling:raise_invalid_api_key(service, operation, correlation_id, **additional_context)
"""
ID = UUID(int=7)
STATUSES = {
    202: "REQUEST_QUEUED",
    400: "VALIDATION_ERROR MISSING_REQUIRED_FIELD INVALID_REQUEST PARSING_ERROR COURSE_VALIDATION_ERROR EMPTY_CONTENT "
    "CONTENT_TOO_SHORT CONTENT_TOO_LONG UNKNOWN_VALIDATION_ERROR SPELL_EVENT_CORRELATION_ERROR",
    401: "AUTHENTICATION_ERROR INVALID_API_KEY",
    403: "AUTHORIZATION_ERROR",
    404: "RESOURCE_NOT_FOUND COURSE_NOT_FOUND CLASS_NOT_FOUND STUDENT_NOT_FOUND",
    409: "MULTIPLE_COURSE_ERROR",
    429: "RATE_LIMIT QUOTA_EXCEEDED",
    500: "UNKNOWN_ERROR CONFIGURATION_ERROR INVALID_CONFIGURATION PROCESSING_ERROR INITIALIZATION_FAILED "
    "RAW_STORAGE_FAILED TEXT_EXTRACTION_FAILED",
    502: "EXTERNAL_SERVICE_ERROR CONTENT_SERVICE_ERROR SPELLCHECK_SERVICE_ERROR NLP_SERVICE_ERROR "
    "AI_FEEDBACK_SERVICE_ERROR CJ_ASSESSMENT_SERVICE_ERROR INVALID_RESPONSE",
    503: "KAFKA_PUBLISH_ERROR CONNECTION_ERROR SERVICE_UNAVAILABLE CIRCUIT_BREAKER_OPEN",
    504: "TIMEOUT",
}


@pytest.mark.parametrize("wanted", lines("08 errors", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _detail(**details: object) -> ErrorDetail:
    return create_error_detail_with_context(ErrorCode.TIMEOUT, "late", "svc", "op", ID, details, capture_stack=False)


def test_the_exception() -> None:
    """Path of the class, text, representation, properties; adding a detail leaves the original alone."""
    error = HuleEduError(_detail(a=1))
    assert HuleEduError.__module__ == "huleedu_service_libs.error_handling.huleedu_error"
    assert (str(error), error.correlation_id, error.error_code) == ("[TIMEOUT] late", str(ID), "TIMEOUT")
    assert (error.service, error.operation) == ("svc", "op")
    expected = "HuleEduError(code=TIMEOUT, message=late, service=svc, operation=op, correlation_id="
    assert repr(error).replace("'", "").startswith(expected)
    assert (error.add_detail("b", 2).error_detail.details, error.error_detail.details) == ({"a": 1, "b": 2}, {"a": 1})


def test_as_a_dict() -> None:
    """Two keys; inside, the id stays a UUID and the code compares equal to its text."""
    found = HuleEduError(_detail()).to_dict()
    assert set(found) == {"error", "error_detail"}
    assert found["error"] == "[TIMEOUT] late"
    assert (found["error_detail"]["correlation_id"], found["error_detail"]["error_code"]) == (ID, "TIMEOUT")


def test_a_subclass_may_fix_its_code() -> None:
    """A service overrides `error_code` with an attribute of the class."""
    assert type("Mine", (HuleEduError,), {"error_code": "MINE"})(_detail()).error_code == "MINE"


def test_the_detail_has_no_status() -> None:
    """A service reads `status_code` with a default of its own, and expects that."""
    assert getattr(_detail(), "status_code", 400) == 400


def test_context_is_kept_verbatim() -> None:
    """Any further keyword lands in the details, also `message` where the factory builds its own."""
    with pytest.raises(HuleEduError) as caught:
        raise_resource_not_found(
            service="s",
            operation="o",
            resource_type="Essay",
            resource_id="1",
            correlation_id=uuid4(),
            message="m",
            x=[1],
        )
    assert str(caught.value) == "[RESOURCE_NOT_FOUND] Essay with ID '1' not found"
    expected = {"resource_type": "Essay", "resource_id": "1", "message": "m", "x": [1]}
    assert caught.value.error_detail.details == expected
    with pytest.raises(HuleEduError) as caught:
        raise_external_service_error(
            service="s", operation="o", external_service="e", message="m", correlation_id=uuid4(), error_type="T"
        )
    assert caught.value.error_detail.details == {"external_service": "e", "error_type": "T"}


@pytest.mark.parametrize(
    ("code", "status"), [(code, status) for status, codes in STATUSES.items() for code in codes.split()]
)
def test_status(code: str, status: int) -> None:
    """The status of a code, looked up by its text."""
    assert ERROR_CODE_TO_HTTP_STATUS[code] == status


async def test_the_body() -> None:
    """One top-level key with six below it, and never a stack; a status of the caller's wins."""
    detail = create_error_detail_with_context(ErrorCode.TIMEOUT, "late", "svc", "op", ID, {"a": 1})
    async with Quart("x").app_context():
        response, status = create_error_response(detail)
        _, override = create_error_response(detail, 418)
    body = await response.get_json()
    assert (status, override, set(body)) == (504, 418, {"error"})
    assert set(body["error"]) == {"code", "message", "correlation_id", "service", "timestamp", "details"}
    assert (body["error"]["code"], body["error"]["correlation_id"]) == ("TIMEOUT", str(ID))
    assert "stack_trace" not in await response.get_data(as_text=True)


def test_for_the_log() -> None:
    """Flat keys with dots."""
    found = format_error_for_logging(_detail(a=1, b=[2]))
    assert found.items() >= {"error.code": "TIMEOUT", "error.message": "late", "error.service": "svc"}.items()
    assert found.items() >= {"error.operation": "op", "correlation_id": str(ID), "error.details.a": 1}.items()
    assert (found["error.details.b"], "error.timestamp" in found) == ("[2]", True)


def test_handlers_of_fastapi_load_no_quart() -> None:
    """A FastAPI service does without Quart, even for the handlers of its errors."""
    code = "import sys, huleedu_service_libs.error_handling.fastapi; sys.exit('quart' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0  # noqa: S603
