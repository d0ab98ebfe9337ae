"""An error whose HTTP status is not that of its code. The library answers everything else."""

from typing import Any

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorDetail
from huleedu_service_libs.error_handling import ErrorContext, HuleEduError

__all__ = ["ConflictError"]


class ConflictError(HuleEduError):
    """The request cannot be met in the present state: 409, which the handlers take from ``status_code``."""

    status_code = 409

    @classmethod
    def here(cls, message: str, **details: Any) -> "ConflictError":
        """Make it in the running context."""
        detail: ErrorDetail = ErrorContext.current().detail(ErrorCode.PROCESSING_ERROR, message, **details)
        return cls(detail)
