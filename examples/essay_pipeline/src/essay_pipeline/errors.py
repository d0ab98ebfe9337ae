"""Errors on the way to a client: from a code to a status and a body.

*intake* and *notify* answer with it. It knows no web framework. Until the
library brings its own handlers for both frameworks this does their work.
"""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context

__all__ = ["ApiError", "api_error", "error_body", "status_of"]

_STATUS_OF_CODE: Mapping[ErrorCodeType, int] = {
    ErrorCode.VALIDATION_ERROR: 400,
    ErrorCode.AUTHENTICATION_ERROR: 401,
    ErrorCode.RESOURCE_NOT_FOUND: 404,
    ErrorCode.EXTERNAL_SERVICE_ERROR: 502,
    ErrorCode.SERVICE_UNAVAILABLE: 503,
}


class ApiError(HuleEduError):
    """An error that a client is told of.

    Args:
        error_detail: What is known of it.
        status_code: HTTP status; by default the one of the error's code.
    """

    def __init__(self, error_detail: ErrorDetail, status_code: int | None = None) -> None:
        super().__init__(error_detail)
        self.status_code = status_code


def status_of(error: HuleEduError) -> int:
    """The HTTP status of an error; 500 for codes without one."""
    own = error.status_code if isinstance(error, ApiError) else None
    return own or _STATUS_OF_CODE.get(error.error_detail.error_code, 500)


def api_error(
    code: ErrorCode,
    message: str,
    *,
    service: str,
    operation: str,
    correlation_id: UUID | None = None,
    status_code: int | None = None,
    details: dict[str, Any] | None = None,
) -> ApiError:
    """Make an `ApiError`; the arguments are those of `create_error_detail_with_context`."""
    detail = create_error_detail_with_context(
        code, message, service, operation, correlation_id, details, capture_stack=False
    )
    return ApiError(detail, status_code)


def error_body(detail: ErrorDetail) -> dict[str, Any]:
    """What a client may see: no stack, no operation."""
    fields = detail.model_dump(mode="json")
    return {
        "error": {
            "code": fields["error_code"],
            "message": fields["message"],
            "correlation_id": fields["correlation_id"],
            "service": fields["service"],
            "timestamp": fields["timestamp"],
            "details": fields["details"],
        }
    }
