"""Factories of errors. Language-model provider: factories over general codes.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling._raising import given, make_error

__all__ = [
    "raise_llm_model_not_found",
    "raise_llm_provider_error",
    "raise_llm_provider_service_error",
    "raise_llm_queue_full_error",
    "raise_llm_response_validation_error",
]


def raise_llm_provider_service_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The language-model service failed. Raises LLM_PROVIDER_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.LLM_PROVIDER_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_llm_provider_error(
    service: str,
    operation: str,
    provider_name: str,
    message: str,
    correlation_id: UUID,
    status_code: int | None = None,
    **additional_context: Any,
) -> NoReturn:
    """The provider of a language model answered with an error. Raises EXTERNAL_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.EXTERNAL_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"provider_name": provider_name, **given(status_code=status_code), **additional_context},
    )


def raise_llm_model_not_found(
    service: str,
    operation: str,
    provider_name: str,
    model_name: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The provider has no such language model. Raises RESOURCE_NOT_FOUND, HTTP 404."""
    raise make_error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"Model '{model_name}' not found for provider '{provider_name}'",
        service,
        operation,
        correlation_id,
        {"provider_name": provider_name, "model_name": model_name, **additional_context},
    )


def raise_llm_response_validation_error(
    service: str,
    operation: str,
    provider_name: str,
    validation_error: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A language model's answer could not be used. Raises PARSING_ERROR, HTTP 400."""
    raise make_error(
        ErrorCode.PARSING_ERROR,
        f"LLM response validation failed: {validation_error}",
        service,
        operation,
        correlation_id,
        {"provider_name": provider_name, "validation_error": validation_error, **additional_context},
    )


def raise_llm_queue_full_error(
    service: str,
    operation: str,
    queue_size: int,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The queue before the language model is full. Raises REQUEST_QUEUED, HTTP 202."""
    raise make_error(
        ErrorCode.REQUEST_QUEUED,
        message,
        service,
        operation,
        correlation_id,
        {"queue_size": queue_size, **additional_context},
    )
