"""Factories of errors. Spell checker.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import SpellcheckerErrorCode
from huleedu_service_libs.error_handling._raising import given, make_error

__all__ = [
    "raise_spell_event_correlation_error",
]


def raise_spell_event_correlation_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    missing_field: str | None = None,
    **additional_context: Any,
) -> NoReturn:
    """An event cannot be matched with the request that caused it. Raises SPELL_EVENT_CORRELATION_ERROR, HTTP 400."""
    raise make_error(
        SpellcheckerErrorCode.SPELL_EVENT_CORRELATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {**given(missing_field=missing_field), **additional_context},
    )
