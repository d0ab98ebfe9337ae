"""Errors that carry code, context and correlation id."""

from huleedu_service_libs.error_handling.error_detail_factory import create_error_detail_with_context
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError

__all__ = ["HuleEduError", "create_error_detail_with_context"]
