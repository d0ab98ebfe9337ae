"""Models that services exchange."""

from common_core.models.error_models import ErrorCodeType, ErrorDetail

__all__ = ["ErrorCodeType", "ErrorDetail"]
