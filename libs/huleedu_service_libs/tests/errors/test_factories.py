"""The factories against the contract: names, signatures, codes, messages and details, written down here once more."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest

from common_core.error_enums import ErrorCode
from huleedu_service_libs import error_handling
from huleedu_service_libs.error_handling import (
    ErrorContext,
    HuleEduError,
    StackCapture,
    configure_stack_capture,
    raise_processing_error,
    raise_rate_limit_error,
    raise_resource_not_found,
    raise_validation_error,
)

# module; name; specific parameters; optional parameters; code's value; own message ("" where the caller gives it)
CONTRACT = """
factories; raise_unknown_error; ; ; UNKNOWN_ERROR;
factories; raise_validation_error; field; value; VALIDATION_ERROR;
factories; raise_resource_not_found; resource_type resource_id; ; RESOURCE_NOT_FOUND; <resource_type> with ID '<resource_id>' not found
factories; raise_configuration_error; config_key; ; CONFIGURATION_ERROR;
factories; raise_external_service_error; external_service; status_code; EXTERNAL_SERVICE_ERROR;
factories; raise_kafka_publish_error; topic; ; KAFKA_PUBLISH_ERROR;
factories; raise_content_service_error; ; ; CONTENT_SERVICE_ERROR;
factories; raise_spellcheck_service_error; ; ; SPELLCHECK_SERVICE_ERROR;
factories; raise_nlp_service_error; ; ; NLP_SERVICE_ERROR;
factories; raise_ai_feedback_service_error; ; ; AI_FEEDBACK_SERVICE_ERROR;
factories; raise_cj_assessment_service_error; ; ; CJ_ASSESSMENT_SERVICE_ERROR;
factories; raise_missing_required_field; field_name; ; MISSING_REQUIRED_FIELD; Required field '<field_name>' is missing
factories; raise_invalid_configuration; ; ; INVALID_CONFIGURATION;
factories; raise_timeout_error; timeout_seconds; ; TIMEOUT;
factories; raise_connection_error; target; ; CONNECTION_ERROR;
factories; raise_service_unavailable; unavailable_service; ; SERVICE_UNAVAILABLE;
factories; raise_rate_limit_error; limit window_seconds; ; RATE_LIMIT;
factories; raise_quota_exceeded; quota_type limit; ; QUOTA_EXCEEDED;
factories; raise_authentication_error; ; ; AUTHENTICATION_ERROR;
factories; raise_authorization_error; ; ; AUTHORIZATION_ERROR;
factories; raise_invalid_api_key; ; ; INVALID_API_KEY; Invalid or missing API key
factories; raise_invalid_request; ; ; INVALID_REQUEST;
factories; raise_invalid_response; ; ; INVALID_RESPONSE;
factories; raise_parsing_error; parse_target; ; PARSING_ERROR;
factories; raise_circuit_breaker_open; circuit_name; ; CIRCUIT_BREAKER_OPEN;
factories; raise_request_queued; queue_name; ; REQUEST_QUEUED;
factories; raise_processing_error; ; ; PROCESSING_ERROR;
factories; raise_initialization_failed; component; ; INITIALIZATION_FAILED;
class_management_factories; raise_course_not_found; course_id; ; COURSE_NOT_FOUND; Course with ID '<course_id>' not found
class_management_factories; raise_course_validation_error; ; ; COURSE_VALIDATION_ERROR;
class_management_factories; raise_multiple_course_error; ; ; MULTIPLE_COURSE_ERROR;
class_management_factories; raise_class_not_found; class_id; ; CLASS_NOT_FOUND; Class with ID '<class_id>' not found
class_management_factories; raise_student_not_found; student_id; ; STUDENT_NOT_FOUND; Student with ID '<student_id>' not found
file_validation_factories; raise_empty_content_error; file_name; ; EMPTY_CONTENT; File '<file_name>' has empty content
file_validation_factories; raise_content_too_short; file_name min_length actual_length; ; CONTENT_TOO_SHORT; File '<file_name>' content is too short (minimum: <min_length>, actual: <actual_length>)
file_validation_factories; raise_content_too_long; file_name max_length actual_length; ; CONTENT_TOO_LONG; File '<file_name>' content is too long (maximum: <max_length>, actual: <actual_length>)
file_validation_factories; raise_raw_storage_failed; file_name; ; RAW_STORAGE_FAILED;
file_validation_factories; raise_text_extraction_failed; file_name; ; TEXT_EXTRACTION_FAILED;
file_validation_factories; raise_encrypted_file_error; file_name; ; ENCRYPTED_FILE_UNSUPPORTED; File '<file_name>' is encrypted and cannot be processed.
file_validation_factories; raise_unknown_validation_error; ; ; UNKNOWN_VALIDATION_ERROR;
identity_factories; raise_invalid_credentials_error; email; ; IDENTITY_INVALID_CREDENTIALS; Invalid email or password
identity_factories; raise_user_not_found_error; identifier; ; IDENTITY_USER_NOT_FOUND; User not found: <identifier>
identity_factories; raise_user_already_exists_error; email; ; IDENTITY_USER_ALREADY_EXISTS; User already exists with email: <email>
identity_factories; raise_email_not_verified_error; email; ; IDENTITY_EMAIL_NOT_VERIFIED; Email not verified: <email>
identity_factories; raise_account_locked_error; email; ; IDENTITY_ACCOUNT_LOCKED; Account is locked: <email>
identity_factories; raise_token_expired_error; token_type; ; IDENTITY_TOKEN_EXPIRED; <token_type> token has expired
identity_factories; raise_token_invalid_error; token_type; ; IDENTITY_TOKEN_INVALID; <token_type> token is invalid
identity_factories; raise_refresh_token_invalid_error; ; ; IDENTITY_REFRESH_TOKEN_INVALID; Refresh token is invalid or revoked
identity_factories; raise_refresh_token_expired_error; ; ; IDENTITY_REFRESH_TOKEN_EXPIRED; Refresh token has expired
identity_factories; raise_verification_token_expired_error; ; ; IDENTITY_VERIFICATION_TOKEN_EXPIRED; Email verification token has expired
identity_factories; raise_verification_token_invalid_error; ; ; IDENTITY_VERIFICATION_TOKEN_INVALID; Email verification token is invalid
identity_factories; raise_email_already_verified_error; email; ; IDENTITY_EMAIL_ALREADY_VERIFIED; Email is already verified: <email>
identity_factories; raise_reset_token_expired_error; ; ; IDENTITY_RESET_TOKEN_EXPIRED; Password reset token has expired
identity_factories; raise_reset_token_invalid_error; ; ; IDENTITY_RESET_TOKEN_INVALID; Password reset token is invalid
identity_factories; raise_password_reset_not_requested_error; email; ; IDENTITY_PASSWORD_RESET_NOT_REQUESTED; Password reset was not requested for: <email>
identity_factories; raise_invalid_token_error; ; ; IDENTITY_TOKEN_INVALID;
identity_factories; raise_missing_token_error; ; ; IDENTITY_TOKEN_INVALID;
batch_conductor_factories; raise_pipeline_dependency_resolution_failed; ; batch_id requested_pipeline resolution_stage dependency_error; BCS_PIPELINE_DEPENDENCY_RESOLUTION_FAILED;
batch_conductor_factories; raise_pipeline_dependency_cycle_detected; ; pipeline_name cycle_steps detection_stage; BCS_PIPELINE_DEPENDENCY_CYCLE_DETECTED;
batch_conductor_factories; raise_pipeline_compatibility_failed; ; pipeline_name batch_metadata compatibility_issue; BCS_PIPELINE_COMPATIBILITY_FAILED;
cj_assessment_factories; raise_cj_insufficient_comparisons; ; batch_id comparison_count required_count; CJ_INSUFFICIENT_COMPARISONS;
cj_assessment_factories; raise_cj_score_convergence_failed; ; batch_id iteration_count convergence_error; CJ_SCORE_CONVERGENCE_FAILED;
cj_assessment_factories; raise_cj_comparison_imbalance; ; batch_id imbalance_details min_comparisons max_comparisons; CJ_COMPARISON_IMBALANCE;
cj_assessment_factories; raise_cj_callback_correlation_failed; ; callback_correlation_id batch_id; CJ_CALLBACK_CORRELATION_FAILED;
llm_provider_factories; raise_llm_provider_service_error; ; ; LLM_PROVIDER_SERVICE_ERROR;
llm_provider_factories; raise_llm_provider_error; provider_name; status_code; EXTERNAL_SERVICE_ERROR;
llm_provider_factories; raise_llm_model_not_found; provider_name model_name; ; RESOURCE_NOT_FOUND; Model '<model_name>' not found for provider '<provider_name>'
llm_provider_factories; raise_llm_response_validation_error; provider_name validation_error; ; PARSING_ERROR; LLM response validation failed: <validation_error>
llm_provider_factories; raise_llm_queue_full_error; queue_size; ; REQUEST_QUEUED;
spellchecker_factories; raise_spell_event_correlation_error; ; missing_field; SPELL_EVENT_CORRELATION_ERROR;
"""
ROWS = [[part.strip() for part in line.split(";")] for line in CONTRACT.strip().splitlines()]
IDS = [row[1] for row in ROWS]
KEEPS_NONE = {"batch_conductor_factories", "cj_assessment_factories"}
NOT_EXPORTED = {"raise_invalid_token_error", "raise_missing_token_error"}
NOT_EXPORTED_MODULES = {"batch_conductor_factories", "llm_provider_factories"}
TYPED = {
    "timeout_seconds": float,
    "limit": int,
    "window_seconds": int,
    "queue_size": int,
    "cycle_steps": list[str] | None,
    "imbalance_details": dict[str, int] | None,
    "callback_correlation_id": UUID | None,
    "correlation_id": UUID,
    "message": str,
    "service": str,
    "operation": str,
}


def _factory(row: list[str]) -> Callable[..., NoReturn]:
    module = importlib.import_module(f"huleedu_service_libs.error_handling.{row[0]}")
    factory: Callable[..., NoReturn] = getattr(module, row[1])
    return factory


def _raised(factory: Callable[..., NoReturn], **arguments: Any) -> HuleEduError:
    with pytest.raises(HuleEduError) as caught:
        factory(**arguments)
    return caught.value


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_signatures_are_those_of_the_contract(row: list[str]) -> None:
    """Names, order, defaults and types; every factory takes any extra keyword and never returns."""
    _, _, required, optional, _, own = row
    names = ["service", "operation", *required.split(), *([] if own else ["message"]), "correlation_id"]
    signature = inspect.signature(_factory(row))
    parameters = signature.parameters
    assert list(parameters) == [*names, *optional.split(), "additional_context"]
    assert [parameters[name].default for name in names] == [inspect.Parameter.empty] * len(names)
    assert [parameters[name].default for name in optional.split()] == [None] * len(optional.split())
    assert parameters["additional_context"].kind is inspect.Parameter.VAR_KEYWORD
    assert signature.return_annotation is NoReturn
    assert {name: each.annotation for name, each in parameters.items() if name in TYPED} == {
        name: TYPED[name] for name in parameters if name in TYPED
    }


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_code_message_and_details(row: list[str]) -> None:
    """The code, the message by its template or the caller's, and details of the parameters and every extra keyword."""
    module, _, required, optional, code, own = row
    correlation_id = uuid4()
    given = {name: f"v-{name}" for name in required.split()}
    extra = {"details": {"a": 1}, "error_type": "E", "extra": None}
    if own:
        extra["message"] = "theirs"
    arguments = {"service": "svc", "operation": "op", "correlation_id": correlation_id, **given, **extra}
    error = _raised(_factory(row), **({"message": "mine"} | arguments))

    message = own or "mine"
    for name in required.split():
        message = message.replace(f"<{name}>", f"v-{name}")
    none = dict.fromkeys(optional.split()) if module in KEEPS_NONE else {}
    detail = error.error_detail
    assert (error.error_code, detail.message, detail.correlation_id) == (code, message, correlation_id)
    assert (detail.service, detail.operation) == ("svc", "op")
    assert detail.details == {**given, **none, **extra}
    assert "test_code_message_and_details" in (detail.stack_trace or "")
    assert "error_handling" not in (detail.stack_trace or "")

    if optional:
        filled = {name: f"o-{name}" for name in optional.split()}
        detail = _raised(_factory(row), **({"message": "mine"} | arguments | filled)).error_detail
        assert detail.details == {**given, **filled, **extra}


def test_outbox_storage_error() -> None:
    """The one factory with a template around the caller's message and a constant among its details."""
    given = {"aggregate_id": "a", "aggregate_type": "essay", "event_type": "e"}
    signature = inspect.signature(error_handling.raise_outbox_storage_error)
    assert list(signature.parameters)[:7] == ["service", "operation", *given, "message", "correlation_id"]
    error = _raised(
        error_handling.raise_outbox_storage_error,
        service="s",
        operation="o",
        message="disk full",
        correlation_id=uuid4(),
        **given,
    )
    assert str(error) == "[KAFKA_PUBLISH_ERROR] Outbox storage failed: disk full"
    assert error.error_detail.details == {**given, "outbox_operation": "store"}


def test_the_package_hands_on_what_the_contract_says() -> None:
    """Every factory but the named exceptions is the same function in the package, and nothing else raises there."""
    for module, name, *_ in ROWS:
        if name in NOT_EXPORTED or module in NOT_EXPORTED_MODULES:
            assert not hasattr(error_handling, name)
        else:
            assert getattr(error_handling, name).__module__.endswith(module)
    exported = {name for name in error_handling.__all__ if name.startswith("raise_")}
    assert exported <= {*IDS, "raise_outbox_storage_error"}


def test_ids_may_be_text() -> None:
    """A correlation id given as text becomes a UUID, and a dictionary may bring the specific parameters."""
    context: dict[str, Any] = {"limit": 3, "window_seconds": 60}
    text = "6f1d8f5e-0f0a-4b53-9a3c-0d9c4f1f2a3b"
    error = _raised(raise_rate_limit_error, service="s", operation="o", message="m", correlation_id=text, **context)
    assert error.error_detail.correlation_id == UUID(text)
    assert error.error_detail.details == context


def _typed_for_checkers(context: ErrorContext) -> int:
    # Checked by mypy, not run: without NoReturn a return would be missing here.
    raise_validation_error(field="f", message="m", **context.arguments())


def test_a_context_completes_a_factory() -> None:
    """Ids, coordinates and causes come from an `ErrorContext`; the details say nothing of the context itself."""
    context = ErrorContext.current(service="svc", operation="op", error=KeyError("k"), topic="t", offset=7)
    error = _raised(raise_resource_not_found, resource_type="Essay", resource_id="1", **context.arguments())
    assert error.error_detail.correlation_id == context.correlation_id
    assert (error.service, error.operation) == ("svc", "op")
    assert error.error_detail.details == {
        "topic": "t",
        "offset": 7,
        "causes": ["KeyError"],
        "resource_type": "Essay",
        "resource_id": "1",
    }


def test_stack_capture_can_be_limited_and_turned_off() -> None:
    """A process decides how many frames its errors carry, or none; zero frames is a mistake that is named."""
    arguments: dict[str, Any] = {"service": "s", "operation": "o", "message": "m", "correlation_id": uuid4()}
    try:
        configure_stack_capture(StackCapture(frames=1))
        stack = _raised(raise_processing_error, **arguments).error_detail.stack_trace or ""
        assert stack.count("  File ") == 1
        assert "_raised" in stack
        configure_stack_capture(StackCapture(enabled=False))
        assert _raised(raise_processing_error, **arguments).error_detail.stack_trace is None
    finally:
        configure_stack_capture(StackCapture())
    with pytest.raises(ValueError, match="enabled=False takes none"):
        StackCapture(frames=0)


def test_codes_work_as_text() -> None:
    """A code compares and hashes like its value."""
    error = _raised(raise_processing_error, service="s", operation="o", message="m", correlation_id=uuid4())
    assert error.error_detail.error_code == "PROCESSING_ERROR" == ErrorCode.PROCESSING_ERROR
