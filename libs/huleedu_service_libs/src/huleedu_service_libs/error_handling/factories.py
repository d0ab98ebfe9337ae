"""Factories of errors. General.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling._raising import given, make_error

__all__ = [
    "raise_ai_feedback_service_error",
    "raise_authentication_error",
    "raise_authorization_error",
    "raise_circuit_breaker_open",
    "raise_cj_assessment_service_error",
    "raise_configuration_error",
    "raise_connection_error",
    "raise_content_service_error",
    "raise_external_service_error",
    "raise_initialization_failed",
    "raise_invalid_api_key",
    "raise_invalid_configuration",
    "raise_invalid_request",
    "raise_invalid_response",
    "raise_kafka_publish_error",
    "raise_missing_required_field",
    "raise_nlp_service_error",
    "raise_outbox_storage_error",
    "raise_parsing_error",
    "raise_processing_error",
    "raise_quota_exceeded",
    "raise_rate_limit_error",
    "raise_request_queued",
    "raise_resource_not_found",
    "raise_service_unavailable",
    "raise_spellcheck_service_error",
    "raise_timeout_error",
    "raise_unknown_error",
    "raise_validation_error",
]


def raise_unknown_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """Something failed that nobody foresaw. Raises UNKNOWN_ERROR, HTTP 500."""
    raise make_error(
        ErrorCode.UNKNOWN_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_validation_error(
    service: str,
    operation: str,
    field: str,
    message: str,
    correlation_id: UUID,
    value: Any | None = None,
    **additional_context: Any,
) -> NoReturn:
    """A value of the request is not valid. Raises VALIDATION_ERROR, HTTP 400."""
    raise make_error(
        ErrorCode.VALIDATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"field": field, **given(value=value), **additional_context},
    )


def raise_resource_not_found(
    service: str,
    operation: str,
    resource_type: str,
    resource_id: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """What was asked for does not exist. Raises RESOURCE_NOT_FOUND, HTTP 404."""
    raise make_error(
        ErrorCode.RESOURCE_NOT_FOUND,
        f"{resource_type} with ID '{resource_id}' not found",
        service,
        operation,
        correlation_id,
        {"resource_type": resource_type, "resource_id": resource_id, **additional_context},
    )


def raise_configuration_error(
    service: str,
    operation: str,
    config_key: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A setting of the service is wrong. Raises CONFIGURATION_ERROR, HTTP 500."""
    raise make_error(
        ErrorCode.CONFIGURATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"config_key": config_key, **additional_context},
    )


def raise_external_service_error(
    service: str,
    operation: str,
    external_service: str,
    message: str,
    correlation_id: UUID,
    status_code: int | None = None,
    **additional_context: Any,
) -> NoReturn:
    """Another service answered with an error. Raises EXTERNAL_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.EXTERNAL_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"external_service": external_service, **given(status_code=status_code), **additional_context},
    )


def raise_kafka_publish_error(
    service: str,
    operation: str,
    topic: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """An event could not be stored or published. Raises KAFKA_PUBLISH_ERROR, HTTP 503."""
    raise make_error(
        ErrorCode.KAFKA_PUBLISH_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"topic": topic, **additional_context},
    )


def raise_outbox_storage_error(
    service: str,
    operation: str,
    aggregate_id: str,
    aggregate_type: str,
    event_type: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """An event could not be stored in the outbox. Raises KAFKA_PUBLISH_ERROR, HTTP 503."""
    raise make_error(
        ErrorCode.KAFKA_PUBLISH_ERROR,
        f"Outbox storage failed: {message}",
        service,
        operation,
        correlation_id,
        {
            "aggregate_id": aggregate_id,
            "aggregate_type": aggregate_type,
            "event_type": event_type,
            "outbox_operation": "store",
            **additional_context,
        },
    )


def raise_content_service_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The content service failed. Raises CONTENT_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.CONTENT_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_spellcheck_service_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The spell checker failed. Raises SPELLCHECK_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.SPELLCHECK_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_nlp_service_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The language-analysis service failed. Raises NLP_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.NLP_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_ai_feedback_service_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The feedback service failed. Raises AI_FEEDBACK_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.AI_FEEDBACK_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_cj_assessment_service_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The comparative-judgement service failed. Raises CJ_ASSESSMENT_SERVICE_ERROR, HTTP 502."""
    raise make_error(
        ErrorCode.CJ_ASSESSMENT_SERVICE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_missing_required_field(
    service: str,
    operation: str,
    field_name: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A required field is missing. Raises MISSING_REQUIRED_FIELD, HTTP 400."""
    raise make_error(
        ErrorCode.MISSING_REQUIRED_FIELD,
        f"Required field '{field_name}' is missing",
        service,
        operation,
        correlation_id,
        {"field_name": field_name, **additional_context},
    )


def raise_invalid_configuration(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """Settings of the service contradict each other. Raises INVALID_CONFIGURATION, HTTP 500."""
    raise make_error(
        ErrorCode.INVALID_CONFIGURATION,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_timeout_error(
    service: str,
    operation: str,
    timeout_seconds: float,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """Something took longer than its limit. Raises TIMEOUT, HTTP 504."""
    raise make_error(
        ErrorCode.TIMEOUT,
        message,
        service,
        operation,
        correlation_id,
        {"timeout_seconds": timeout_seconds, **additional_context},
    )


def raise_connection_error(
    service: str,
    operation: str,
    target: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A connection could not be made or broke. Raises CONNECTION_ERROR, HTTP 503."""
    raise make_error(
        ErrorCode.CONNECTION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"target": target, **additional_context},
    )


def raise_service_unavailable(
    service: str,
    operation: str,
    unavailable_service: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A service cannot answer at present. Raises SERVICE_UNAVAILABLE, HTTP 503."""
    raise make_error(
        ErrorCode.SERVICE_UNAVAILABLE,
        message,
        service,
        operation,
        correlation_id,
        {"unavailable_service": unavailable_service, **additional_context},
    )


def raise_rate_limit_error(
    service: str,
    operation: str,
    limit: int,
    window_seconds: int,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """Too many requests in the time that the limit counts. Raises RATE_LIMIT, HTTP 429."""
    raise make_error(
        ErrorCode.RATE_LIMIT,
        message,
        service,
        operation,
        correlation_id,
        {"limit": limit, "window_seconds": window_seconds, **additional_context},
    )


def raise_quota_exceeded(
    service: str,
    operation: str,
    quota_type: str,
    limit: int,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The quota is used up. Raises QUOTA_EXCEEDED, HTTP 429."""
    raise make_error(
        ErrorCode.QUOTA_EXCEEDED,
        message,
        service,
        operation,
        correlation_id,
        {"quota_type": quota_type, "limit": limit, **additional_context},
    )


def raise_authentication_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """It is not known who calls. Raises AUTHENTICATION_ERROR, HTTP 401."""
    raise make_error(
        ErrorCode.AUTHENTICATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_authorization_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The caller may not do this. Raises AUTHORIZATION_ERROR, HTTP 403."""
    raise make_error(
        ErrorCode.AUTHORIZATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_invalid_api_key(
    service: str,
    operation: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The API key is missing or wrong. Raises INVALID_API_KEY, HTTP 401."""
    raise make_error(
        ErrorCode.INVALID_API_KEY,
        "Invalid or missing API key",
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_invalid_request(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The request makes no sense as a whole. Raises INVALID_REQUEST, HTTP 400."""
    raise make_error(
        ErrorCode.INVALID_REQUEST,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_invalid_response(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """Another service answered something unusable. Raises INVALID_RESPONSE, HTTP 502."""
    raise make_error(
        ErrorCode.INVALID_RESPONSE,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_parsing_error(
    service: str,
    operation: str,
    parse_target: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The content could not be read. Raises PARSING_ERROR, HTTP 400."""
    raise make_error(
        ErrorCode.PARSING_ERROR,
        message,
        service,
        operation,
        correlation_id,
        {"parse_target": parse_target, **additional_context},
    )


def raise_circuit_breaker_open(
    service: str,
    operation: str,
    circuit_name: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A dependency failed so often that it is left alone for a while. Raises CIRCUIT_BREAKER_OPEN, HTTP 503."""
    raise make_error(
        ErrorCode.CIRCUIT_BREAKER_OPEN,
        message,
        service,
        operation,
        correlation_id,
        {"circuit_name": circuit_name, **additional_context},
    )


def raise_request_queued(
    service: str,
    operation: str,
    queue_name: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The request waits in a queue. Raises REQUEST_QUEUED, HTTP 202."""
    raise make_error(
        ErrorCode.REQUEST_QUEUED,
        message,
        service,
        operation,
        correlation_id,
        {"queue_name": queue_name, **additional_context},
    )


def raise_processing_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The work on the request failed. Raises PROCESSING_ERROR, HTTP 500."""
    raise make_error(
        ErrorCode.PROCESSING_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_initialization_failed(
    service: str,
    operation: str,
    component: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """A part of the service could not start. Raises INITIALIZATION_FAILED, HTTP 500."""
    raise make_error(
        ErrorCode.INITIALIZATION_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {"component": component, **additional_context},
    )
