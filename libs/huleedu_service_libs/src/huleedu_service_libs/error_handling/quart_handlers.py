"""The earlier library's module of the handlers and the table of statuses.

The table comes without loading Quart, so that FastAPI services may take it from here.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports
from huleedu_service_libs.error_handling.http_mapping import ERROR_CODE_TO_HTTP_STATUS

if TYPE_CHECKING:
    from huleedu_service_libs.middleware.frameworks.quart_errors import (
        create_error_response,
        extract_correlation_id,
        register_error_handlers,
    )

__all__ = ["ERROR_CODE_TO_HTTP_STATUS", "create_error_response", "extract_correlation_id", "register_error_handlers"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    dict.fromkeys(
        ("create_error_response", "extract_correlation_id", "register_error_handlers"),
        "huleedu_service_libs.middleware.frameworks.quart_errors",
    ),
)
