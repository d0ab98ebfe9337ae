"""What the generated factories call: from a description's parts to an error that can be raised."""

from typing import Any
from uuid import UUID

from common_core.models.error_models import ErrorCodeType
from huleedu_service_libs.error_handling.context import ErrorContext
from huleedu_service_libs.error_handling.error_detail_factory import create_error_detail_with_context
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError

__all__ = ["given", "make_error"]

_CONTEXT = "error_context"


def given(**optional: Any) -> dict[str, Any]:
    """Those of ``optional`` that are not ``None``."""
    return {name: value for name, value in optional.items() if value is not None}


def make_error(
    code: ErrorCodeType, message: str, service: str, operation: str, correlation_id: UUID, details: dict[str, Any]
) -> HuleEduError:
    """Make the error of a factory; ``details["error_context"]``, if it is an `ErrorContext`, completes it."""
    context = details.get(_CONTEXT)
    if isinstance(context, ErrorContext):
        del details[_CONTEXT]
        return HuleEduError(
            context.complete(
                create_error_detail_with_context(code, message, service, operation, correlation_id, details)
            )
        )
    return HuleEduError(create_error_detail_with_context(code, message, service, operation, correlation_id, details))
