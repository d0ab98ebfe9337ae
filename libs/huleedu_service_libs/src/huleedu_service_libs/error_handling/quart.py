"""Errors in Quart services: the handlers' home is ``middleware.frameworks.quart_errors``.

Loads Quart when a name is first used, not before.
"""

from typing import TYPE_CHECKING

from huleedu_service_libs._lazy import lazy_exports

if TYPE_CHECKING:
    from huleedu_service_libs.middleware.frameworks.quart_errors import (
        create_error_response,
        extract_correlation_id,
        register_error_handlers,
    )

__all__ = ["create_error_response", "extract_correlation_id", "register_error_handlers"]

__getattr__, __dir__ = lazy_exports(
    __name__, dict.fromkeys(__all__, "huleedu_service_libs.middleware.frameworks.quart_errors")
)
