"""Section 8.4: every factory of errors, with its parameters, its code, its message and what it puts into the details."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider

from common_core.error_enums import ErrorCode
from huleedu_service_libs import error_handling
from huleedu_service_libs.error_handling import (
    HuleEduError,
    create_error_detail_with_context,
    format_error_for_logging,
    raise_rate_limit_error,
    raise_resource_not_found,
)
from tests.contract.tables import claimed

# module; name; specific parameters; optional parameters; value of the code; own message, empty where the caller gives it
TABLE = """
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
ROWS = [[part.strip() for part in line.split(";")] for line in TABLE.strip().splitlines()]
EVERY_ROW = pytest.mark.parametrize(
    ("module", "name", "specific", "optional", "code", "own"),
    [claimed(f"8.4-{row[1].replace('_', '-')}", *row) for row in ROWS],
)
KEEP_NONE = ("batch_conductor_factories", "cj_assessment_factories")
NOT_HANDED_ON = ("batch_conductor_factories", "llm_provider_factories")
ALONE = ("raise_invalid_token_error", "raise_missing_token_error")
WHERE: dict[str, Any] = {"service": "svc", "operation": "op", "correlation_id": UUID(int=7)}


def factory(module: str, name: str) -> Callable[..., NoReturn]:
    """The factory of that module."""
    found: Callable[..., NoReturn] = getattr(
        importlib.import_module(f"huleedu_service_libs.error_handling.{module}"), name
    )
    return found


def raised(call: Callable[..., NoReturn], **arguments: Any) -> HuleEduError:
    """The error that a call raises."""
    with pytest.raises(HuleEduError) as caught:
        call(**arguments)
    return caught.value


@pytest.mark.contract("8.4-shape")
@EVERY_ROW
def test_parameters(module: str, name: str, specific: str, optional: str, code: str, own: str) -> None:
    """Names and their order, `None` for what is optional, and room for any further keyword."""
    found = inspect.signature(factory(module, name)).parameters
    names = [one for one in found if one != "message"]
    last = names[-1]
    assert names == ["service", "operation", *specific.split(), "correlation_id", *optional.split(), last]
    assert found[last].kind is inspect.Parameter.VAR_KEYWORD
    assert ("message" in found) == (not own)
    without = {one for one, parameter in found.items() if parameter.default is inspect.Parameter.empty}
    assert without == set(found) - set(optional.split())
    assert all(found[one].default is None for one in optional.split())


@pytest.mark.contract("8.4-extra-keywords", "8.4-value-only-if-given", "8.4-optional-none", "8.4-stack")
@EVERY_ROW
def test_what_it_raises(module: str, name: str, specific: str, optional: str, code: str, own: str) -> None:
    """Code, message, and details of what was given and of every further keyword, verbatim; with the stack."""
    given: dict[str, Any] = {one: f"v-{one}" for one in specific.split()}
    extra: dict[str, Any] = {"details": {"a": [1]}, "error_type": "E", "more": None}
    if own:
        extra["message"] = "theirs"
    if "status_code" not in optional:
        extra["status_code"] = 418
    call, message = factory(module, name), own or "mine"
    for one in specific.split():
        message = message.replace(f"<{one}>", f"v-{one}")
    error = raised(call, **{"message": "mine", **WHERE, **given, **extra})
    found = error.error_detail
    assert (error.error_code, found.message, found.correlation_id) == (code, message, UUID(int=7))
    assert (found.service, found.operation) == ("svc", "op")
    absent = dict.fromkeys(optional.split()) if module in KEEP_NONE else {}
    assert found.details == {**given, **absent, **extra}
    assert "test_what_it_raises" in (found.stack_trace or "")
    filled: dict[str, Any] = {one: f"o-{one}" for one in optional.split()}
    found = raised(call, **{"message": "mine", **WHERE, **given, **extra, **filled}).error_detail
    assert found.details == {**given, **filled, **extra}


@pytest.mark.contract("8.4-raise-outbox-storage-error")
def test_the_one_of_the_outbox() -> None:
    """A template around the caller's message, and one constant among the details."""
    given = {"aggregate_id": "a", "aggregate_type": "essay", "event_type": "e"}
    names = list(inspect.signature(error_handling.raise_outbox_storage_error).parameters)
    assert [one for one in names[:-1] if one != "message"] == ["service", "operation", *given, "correlation_id"]
    error = raised(error_handling.raise_outbox_storage_error, message="disk full", **WHERE, **given)
    assert str(error) == "[KAFKA_PUBLISH_ERROR] Outbox storage failed: disk full"
    assert error.error_detail.details == {**given, "outbox_operation": "store"}


@pytest.mark.contract("8.4-context-dictionary")
def test_parameters_out_of_a_dictionary() -> None:
    """As one service calls it: the limits are in the context."""
    context: dict[str, Any] = {"limit": 3, "window_seconds": 60, "provider": "p"}
    assert raised(raise_rate_limit_error, message="m", **WHERE, **context).error_detail.details == context


@pytest.mark.contract("8.4-re-exports")
def test_what_the_package_hands_on() -> None:
    """The same functions, but for five and three and two."""
    for module, name, *_ in ROWS:
        if name in ALONE or module in NOT_HANDED_ON:
            assert not hasattr(error_handling, name)
        else:
            assert getattr(error_handling, name) is factory(module, name)


@pytest.mark.contract("8.4-extra-keywords")
def test_a_message_beside_the_own_one() -> None:
    """It lands in the details and changes nothing else."""
    error = raised(raise_resource_not_found, resource_type="Essay", resource_id="1", message="m", **WHERE)
    assert str(error) == "[RESOURCE_NOT_FOUND] Essay with ID '1' not found"
    assert error.error_detail.details["message"] == "m"


@pytest.mark.contract("8.4-format-for-logging")
def test_for_the_log() -> None:
    """Flat keys with dots; ids of the trace only where there is one; what is no scalar is text."""

    def make() -> dict[str, Any]:
        return format_error_for_logging(
            create_error_detail_with_context(ErrorCode.TIMEOUT, "late", "svc", "op", own, {"a": 1, "b": [2], "c": True})
        )

    own = uuid4()
    found = make()
    timestamp = found.pop("error.timestamp")
    assert "T" in timestamp
    assert timestamp.endswith("+00:00")
    assert found == {
        "error.code": "TIMEOUT",
        "error.message": "late",
        "error.service": "svc",
        "error.operation": "op",
        "correlation_id": str(own),
        "error.details.a": 1,
        "error.details.b": "[2]",
        "error.details.c": True,
    }
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        inside = make()
    context = span.get_span_context()
    assert (inside["trace.id"], inside["span.id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
