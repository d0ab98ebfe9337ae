"""Section 16: the contracts package: enums with their members and values, and the model of an error."""

import importlib
import json
from datetime import UTC, datetime
from enum import Enum
from importlib import metadata
from typing import Any, get_args
from uuid import UUID

import pytest
from packaging.requirements import Requirement
from pydantic import BaseModel, ValidationError

import common_core
from common_core import error_enums
from common_core.error_enums import ErrorCode, IdentityErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from common_core.status_enums import ProcessingStage

# id of the row; module; enum; prefix of the values, "lower" for the lower-case name; members
TABLE = """
16.2-error-code; error_enums; ErrorCode; ; UNKNOWN_ERROR VALIDATION_ERROR RESOURCE_NOT_FOUND CONFIGURATION_ERROR EXTERNAL_SERVICE_ERROR KAFKA_PUBLISH_ERROR CONTENT_SERVICE_ERROR SPELLCHECK_SERVICE_ERROR NLP_SERVICE_ERROR AI_FEEDBACK_SERVICE_ERROR CJ_ASSESSMENT_SERVICE_ERROR LLM_PROVIDER_SERVICE_ERROR MISSING_REQUIRED_FIELD INVALID_CONFIGURATION TIMEOUT CONNECTION_ERROR SERVICE_UNAVAILABLE RATE_LIMIT QUOTA_EXCEEDED AUTHENTICATION_ERROR AUTHORIZATION_ERROR INVALID_API_KEY INVALID_REQUEST INVALID_RESPONSE PARSING_ERROR CIRCUIT_BREAKER_OPEN REQUEST_QUEUED PROCESSING_ERROR INITIALIZATION_FAILED
16.2-class-management-error-code; error_enums; ClassManagementErrorCode; ; COURSE_NOT_FOUND COURSE_VALIDATION_ERROR MULTIPLE_COURSE_ERROR CLASS_NOT_FOUND STUDENT_NOT_FOUND
16.2-file-validation-error-code; error_enums; FileValidationErrorCode; ; EMPTY_CONTENT CONTENT_TOO_SHORT CONTENT_TOO_LONG RAW_STORAGE_FAILED TEXT_EXTRACTION_FAILED ENCRYPTED_FILE_UNSUPPORTED UNKNOWN_VALIDATION_ERROR
16.2-spellchecker-error-code; error_enums; SpellcheckerErrorCode; ; SPELL_EVENT_CORRELATION_ERROR
16.2-batch-conductor-error-code; error_enums; BatchConductorErrorCode; BCS_; PIPELINE_DEPENDENCY_RESOLUTION_FAILED PIPELINE_DEPENDENCY_CYCLE_DETECTED PIPELINE_COMPATIBILITY_FAILED
16.2-cj-assessment-error-code; error_enums; CJAssessmentErrorCode; ; CJ_INSUFFICIENT_COMPARISONS CJ_SCORE_CONVERGENCE_FAILED CJ_COMPARISON_IMBALANCE CJ_CALLBACK_CORRELATION_FAILED
16.2-identity-error-code; error_enums; IdentityErrorCode; IDENTITY_; INVALID_CREDENTIALS USER_NOT_FOUND USER_ALREADY_EXISTS EMAIL_NOT_VERIFIED ACCOUNT_LOCKED TOKEN_EXPIRED TOKEN_INVALID REFRESH_TOKEN_INVALID REFRESH_TOKEN_EXPIRED VERIFICATION_TOKEN_EXPIRED VERIFICATION_TOKEN_INVALID EMAIL_ALREADY_VERIFIED RESET_TOKEN_EXPIRED RESET_TOKEN_INVALID PASSWORD_RESET_NOT_REQUESTED
16.2-llm-error-code; error_enums; LLMErrorCode; LLM_; PROVIDER_UNAVAILABLE PROVIDER_RATE_LIMIT PROVIDER_TIMEOUT PROVIDER_API_ERROR INVALID_PROMPT CONTENT_TOO_LONG INVALID_CONFIG QUEUE_FULL INTERNAL_ERROR CALLBACK_TOPIC_MISSING INVALID_CALLBACK_TOPIC PARSING_ERROR INVALID_RESPONSE COST_LIMIT_EXCEEDED CONFIGURATION_ERROR
16.3-circuit-breaker-state; status_enums; CircuitBreakerState; lower; CLOSED OPEN HALF_OPEN
16.3-environment; config_enums; Environment; lower; DEVELOPMENT STAGING PRODUCTION TESTING
16.3-content-type; domain_enums; ContentType; lower; ORIGINAL_ESSAY CORRECTED_TEXT PROCESSING_LOG NLP_METRICS_JSON STUDENT_FACING_AI_FEEDBACK_TEXT AI_EDITOR_REVISION_TEXT AI_DETAILED_ANALYSIS_JSON GRAMMAR_ANALYSIS_JSON CJ_RESULTS_JSON RAW_UPLOAD_BLOB EXTRACTED_PLAINTEXT
16.3-processing-stage; status_enums; ProcessingStage; lower; PENDING INITIALIZED PROCESSING COMPLETED FAILED CANCELLED
16.3-operation-status; status_enums; OperationStatus; lower; SUCCESS FAILED ERROR NOT_FOUND
16.3-processing-status; status_enums; ProcessingStatus; lower; PENDING IN_PROGRESS COMPLETED FAILED
16.3-queue-status; status_enums; QueueStatus; lower; QUEUED PROCESSING COMPLETED EXPIRED FAILED
16.3-observability-enums; observability_enums; OperationType; lower; UPLOAD DOWNLOAD CREATE UPDATE DELETE PUBLISH CONSUME
16.3-observability-enums; observability_enums; MetricName; lower; PIPELINE_EXECUTION_TIME ESSAY_PROCESSING_RATE KAFKA_CONSUMER_LAG CONTENT_SERVICE_LATENCY LLM_API_CALL_DURATION
16.3-observability-enums; observability_enums; CacheOperation; lower; GET SET DELETE CLEAR
"""
ROWS = [[part.strip() for part in line.split(";")] for line in TABLE.strip().splitlines()]
EVERY_ENUM = pytest.mark.parametrize(
    ("module", "name", "prefix", "members"),
    [pytest.param(*row, id=row[1], marks=pytest.mark.contract(identity)) for identity, *row in ROWS],
)
UNION = (
    "ErrorCode",
    "BatchConductorErrorCode",
    "CJAssessmentErrorCode",
    "ClassManagementErrorCode",
    "FileValidationErrorCode",
    "IdentityErrorCode",
    "LLMErrorCode",
    "SpellcheckerErrorCode",
)


def _detail(**more: Any) -> ErrorDetail:
    return ErrorDetail(
        **{
            "error_code": IdentityErrorCode.TOKEN_INVALID,
            "message": "m",
            "correlation_id": UUID(int=7),
            "timestamp": datetime(2026, 1, 1, tzinfo=UTC),
            "service": "s",
            "operation": "o",
            **more,
        }
    )


@pytest.mark.contract("16.3-environment", "16.3-circuit-breaker-state")
@pytest.mark.parametrize("name", ["Environment", "CircuitBreakerState"])
def test_enums_of_the_root(name: str) -> None:
    """The same class by both paths."""
    module = "config_enums" if name == "Environment" else "status_enums"
    assert getattr(common_core, name) is getattr(importlib.import_module(f"common_core.{module}"), name)


@pytest.mark.contract("16-text-enums")
@EVERY_ENUM
def test_an_enum(module: str, name: str, prefix: str, members: str) -> None:
    """Its members and values, all of them; each equals and hashes as its text, and says otherwise in `str`."""
    found: Any = getattr(importlib.import_module(f"common_core.{module}"), name)
    expected = {one: one.lower() if prefix == "lower" else prefix + one for one in members.split()}
    assert {one.name: one.value for one in found} == expected
    assert issubclass(found, str)
    assert issubclass(found, Enum)
    for one in found:
        assert one == one.value
        assert hash(one) == hash(one.value)
        assert str(one) != one.value


@pytest.mark.contract("16.3-llm-provider-type")
def test_providers_of_language_models() -> None:
    """Five, in the root."""
    values = {one.name: one.value for one in common_core.LLMProviderType}
    names = ("ANTHROPIC", "OPENAI", "GOOGLE", "OPENROUTER", "MOCK")
    assert values == {name: name.lower() for name in names}


@pytest.mark.contract("16.3-processing-stage")
def test_stages() -> None:
    """Which are terminal, and which active."""
    stage = ProcessingStage
    assert set(stage.terminal()) == {stage.COMPLETED, stage.FAILED, stage.CANCELLED}
    assert set(stage.active()) == {stage.COMPLETED, stage.INITIALIZED, stage.PROCESSING}


@pytest.mark.contract("16.1-error-code-type")
def test_the_union_of_codes() -> None:
    """Eight, in this order: it decides about values that two families share."""
    assert get_args(ErrorCodeType) == tuple(getattr(error_enums, name) for name in UNION)


@pytest.mark.contract("16.1-error-detail-fields", "16.1-error-detail-frozen")
def test_the_detail_of_an_error() -> None:
    """Ten fields; four have defaults; nothing can be assigned."""
    assert issubclass(ErrorDetail, BaseModel)
    fields = ErrorDetail.model_fields
    required = {name for name, field in fields.items() if field.is_required()}
    assert required == {"error_code", "message", "correlation_id", "timestamp", "service", "operation"}
    found = _detail()
    assert {name: getattr(found, name) for name in set(fields) - required} == {
        "details": {},
        "stack_trace": None,
        "trace_id": None,
        "span_id": None,
    }
    frozen: Any = found
    with pytest.raises(ValidationError):
        frozen.message = "other"


@pytest.mark.contract("16.1-error-detail-round-trip")
def test_a_detail_makes_the_journey() -> None:
    """Through a dictionary and through JSON, where the code is its text; the stack stays in the process."""
    given = _detail(details={"å": [1]}, trace_id="a" * 32, span_id="b" * 16)
    assert ErrorDetail.model_validate(given.model_dump()) == given
    assert ErrorDetail.model_validate_json(given.model_dump_json()) == given
    assert json.loads(given.model_dump_json())["error_code"] == "IDENTITY_TOKEN_INVALID"
    assert given.model_dump(mode="json")["error_code"] == "IDENTITY_TOKEN_INVALID"
    stacked = _detail(stack_trace="Traceback ...")
    assert stacked.stack_trace == "Traceback ..."
    assert "Traceback" not in stacked.model_dump_json()
    text: Any = "TIMEOUT"
    assert _detail(error_code=text).error_code is ErrorCode.TIMEOUT


@pytest.mark.contract("16-distribution")
def test_the_distribution() -> None:
    """Its name, and the two packages that it depends on."""
    needed = [Requirement(line) for line in metadata.requires("huleedu-common-core") or []]
    assert {(one.name, *sorted(one.extras)) for one in needed} == {("pydantic", "email"), ("typing-extensions",)}
