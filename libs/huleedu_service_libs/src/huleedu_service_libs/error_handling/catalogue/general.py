"""Codes that any service may use, with their factories and those of the language-model provider."""

from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling.catalogue.model import CodeDescription as Code
from huleedu_service_libs.error_handling.catalogue.model import FactoryDescription as Factory
from huleedu_service_libs.error_handling.catalogue.model import Family

__all__ = ["GENERAL", "LLM_PROVIDER"]

_FAULT = "Report it with the correlation id; the service's log has the cause under that id."
_DEPENDENCY = "Try again later; if it lasts, look at the dependency's health and log under the same correlation id."
_CONFIGURE = "Correct the setting that the details name, and restart the service."
_CORRECT = "Correct the request as the message and the details say, and send it again."

GENERAL = Family(
    title="General",
    module="factories",
    codes=(
        Code(ErrorCode.UNKNOWN_ERROR, 500, "Something failed that nobody foresaw.", _FAULT),
        Code(ErrorCode.VALIDATION_ERROR, 400, "A value of the request is not valid.", _CORRECT),
        Code(ErrorCode.RESOURCE_NOT_FOUND, 404, "What was asked for does not exist.", "Check the id."),
        Code(ErrorCode.CONFIGURATION_ERROR, 500, "A setting of the service is wrong.", _CONFIGURE),
        Code(ErrorCode.EXTERNAL_SERVICE_ERROR, 502, "Another service answered with an error.", _DEPENDENCY),
        Code(
            ErrorCode.KAFKA_PUBLISH_ERROR,
            503,
            "An event could not be stored or published.",
            "Try again later; if it lasts, look at the broker and the outbox table.",
            5,
        ),
        Code(ErrorCode.CONTENT_SERVICE_ERROR, 502, "The content service failed.", _DEPENDENCY),
        Code(ErrorCode.SPELLCHECK_SERVICE_ERROR, 502, "The spell checker failed.", _DEPENDENCY),
        Code(ErrorCode.NLP_SERVICE_ERROR, 502, "The language-analysis service failed.", _DEPENDENCY),
        Code(ErrorCode.AI_FEEDBACK_SERVICE_ERROR, 502, "The feedback service failed.", _DEPENDENCY),
        Code(ErrorCode.CJ_ASSESSMENT_SERVICE_ERROR, 502, "The comparative-judgement service failed.", _DEPENDENCY),
        Code(ErrorCode.LLM_PROVIDER_SERVICE_ERROR, 502, "The language-model service failed.", _DEPENDENCY),
        Code(ErrorCode.MISSING_REQUIRED_FIELD, 400, "A required field is missing.", "Add the field that is named."),
        Code(ErrorCode.INVALID_CONFIGURATION, 500, "Settings of the service contradict each other.", _CONFIGURE),
        Code(
            ErrorCode.TIMEOUT,
            504,
            "Something took longer than its limit.",
            "Try again; whether it was done may be unknown, so use an idempotency key where there is one.",
        ),
        Code(ErrorCode.CONNECTION_ERROR, 503, "A connection could not be made or broke.", _DEPENDENCY, 5),
        Code(ErrorCode.SERVICE_UNAVAILABLE, 503, "A service cannot answer at present.", _DEPENDENCY, 5),
        Code(
            ErrorCode.RATE_LIMIT,
            429,
            "Too many requests in the time that the limit counts.",
            "Wait as long as Retry-After says.",
            60,
        ),
        Code(
            ErrorCode.QUOTA_EXCEEDED,
            429,
            "The quota is used up.",
            "Wait for the next period or ask for a larger quota.",
            3600,
        ),
        Code(ErrorCode.AUTHENTICATION_ERROR, 401, "It is not known who calls.", "Sign in and send valid credentials."),
        Code(ErrorCode.AUTHORIZATION_ERROR, 403, "The caller may not do this.", "Ask for the permission."),
        Code(ErrorCode.INVALID_API_KEY, 401, "The API key is missing or wrong.", "Send a valid key."),
        Code(ErrorCode.INVALID_REQUEST, 400, "The request makes no sense as a whole.", _CORRECT),
        Code(ErrorCode.INVALID_RESPONSE, 502, "Another service answered something unusable.", _DEPENDENCY),
        Code(ErrorCode.PARSING_ERROR, 400, "The content could not be read.", _CORRECT),
        Code(
            ErrorCode.CIRCUIT_BREAKER_OPEN,
            503,
            "A dependency failed so often that it is left alone for a while.",
            "Wait as long as Retry-After says; look at the dependency that the circuit is named after.",
            30,
        ),
        Code(ErrorCode.REQUEST_QUEUED, 202, "The request waits in a queue.", "Wait for its result; do not repeat it."),
        Code(ErrorCode.PROCESSING_ERROR, 500, "The work on the request failed.", _FAULT),
        Code(ErrorCode.INITIALIZATION_FAILED, 500, "A part of the service could not start.", _FAULT),
    ),
    factories=(
        Factory("raise_unknown_error", ErrorCode.UNKNOWN_ERROR),
        Factory("raise_validation_error", ErrorCode.VALIDATION_ERROR, "field: str", "value: Any | None = None"),
        Factory(
            "raise_resource_not_found",
            ErrorCode.RESOURCE_NOT_FOUND,
            "resource_type: str",
            "resource_id: str",
            message="{resource_type} with ID '{resource_id}' not found",
        ),
        Factory("raise_configuration_error", ErrorCode.CONFIGURATION_ERROR, "config_key: str"),
        Factory(
            "raise_external_service_error",
            ErrorCode.EXTERNAL_SERVICE_ERROR,
            "external_service: str",
            "status_code: int | None = None",
        ),
        Factory("raise_kafka_publish_error", ErrorCode.KAFKA_PUBLISH_ERROR, "topic: str"),
        Factory(
            "raise_outbox_storage_error",
            ErrorCode.KAFKA_PUBLISH_ERROR,
            "aggregate_id: str",
            "aggregate_type: str",
            "event_type: str",
            message="Outbox storage failed: {message}",
            constants=(("outbox_operation", "store"),),
            about="An event could not be stored in the outbox.",
        ),
        Factory("raise_content_service_error", ErrorCode.CONTENT_SERVICE_ERROR),
        Factory("raise_spellcheck_service_error", ErrorCode.SPELLCHECK_SERVICE_ERROR),
        Factory("raise_nlp_service_error", ErrorCode.NLP_SERVICE_ERROR),
        Factory("raise_ai_feedback_service_error", ErrorCode.AI_FEEDBACK_SERVICE_ERROR),
        Factory("raise_cj_assessment_service_error", ErrorCode.CJ_ASSESSMENT_SERVICE_ERROR),
        Factory(
            "raise_missing_required_field",
            ErrorCode.MISSING_REQUIRED_FIELD,
            "field_name: str",
            message="Required field '{field_name}' is missing",
        ),
        Factory("raise_invalid_configuration", ErrorCode.INVALID_CONFIGURATION),
        Factory("raise_timeout_error", ErrorCode.TIMEOUT, "timeout_seconds: float"),
        Factory("raise_connection_error", ErrorCode.CONNECTION_ERROR, "target: str"),
        Factory("raise_service_unavailable", ErrorCode.SERVICE_UNAVAILABLE, "unavailable_service: str"),
        Factory("raise_rate_limit_error", ErrorCode.RATE_LIMIT, "limit: int", "window_seconds: int"),
        Factory("raise_quota_exceeded", ErrorCode.QUOTA_EXCEEDED, "quota_type: str", "limit: int"),
        Factory("raise_authentication_error", ErrorCode.AUTHENTICATION_ERROR),
        Factory("raise_authorization_error", ErrorCode.AUTHORIZATION_ERROR),
        Factory("raise_invalid_api_key", ErrorCode.INVALID_API_KEY, message="Invalid or missing API key"),
        Factory("raise_invalid_request", ErrorCode.INVALID_REQUEST),
        Factory("raise_invalid_response", ErrorCode.INVALID_RESPONSE),
        Factory("raise_parsing_error", ErrorCode.PARSING_ERROR, "parse_target: str"),
        Factory("raise_circuit_breaker_open", ErrorCode.CIRCUIT_BREAKER_OPEN, "circuit_name: str"),
        Factory("raise_request_queued", ErrorCode.REQUEST_QUEUED, "queue_name: str"),
        Factory("raise_processing_error", ErrorCode.PROCESSING_ERROR),
        Factory("raise_initialization_failed", ErrorCode.INITIALIZATION_FAILED, "component: str"),
    ),
)

LLM_PROVIDER = Family(
    title="Language-model provider: factories over general codes",
    module="llm_provider_factories",
    codes=(),
    factories=(
        Factory("raise_llm_provider_service_error", ErrorCode.LLM_PROVIDER_SERVICE_ERROR),
        Factory(
            "raise_llm_provider_error",
            ErrorCode.EXTERNAL_SERVICE_ERROR,
            "provider_name: str",
            "status_code: int | None = None",
            about="The provider of a language model answered with an error.",
        ),
        Factory(
            "raise_llm_model_not_found",
            ErrorCode.RESOURCE_NOT_FOUND,
            "provider_name: str",
            "model_name: str",
            message="Model '{model_name}' not found for provider '{provider_name}'",
            about="The provider has no such language model.",
        ),
        Factory(
            "raise_llm_response_validation_error",
            ErrorCode.PARSING_ERROR,
            "provider_name: str",
            "validation_error: str",
            message="LLM response validation failed: {validation_error}",
            about="A language model's answer could not be used.",
        ),
        Factory(
            "raise_llm_queue_full_error",
            ErrorCode.REQUEST_QUEUED,
            "queue_size: int",
            about="The queue before the language model is full.",
        ),
    ),
    not_exported=frozenset(
        {
            "raise_llm_provider_service_error",
            "raise_llm_provider_error",
            "raise_llm_model_not_found",
            "raise_llm_response_validation_error",
            "raise_llm_queue_full_error",
        }
    ),
)
