"""Codes of what is done with essays: files, spelling, pipelines, judgement, language models."""

from common_core.error_enums import (
    BatchConductorErrorCode,
    CJAssessmentErrorCode,
    FileValidationErrorCode,
    LLMErrorCode,
    SpellcheckerErrorCode,
)
from huleedu_service_libs.error_handling.catalogue.model import CodeDescription as Code
from huleedu_service_libs.error_handling.catalogue.model import FactoryDescription as Factory
from huleedu_service_libs.error_handling.catalogue.model import Family

__all__ = ["BATCH_CONDUCTOR", "CJ_ASSESSMENT", "FILE_VALIDATION", "LLM", "SPELLCHECKER"]

_FAULT = "Report it with the correlation id; the service's log has the cause under that id."
_LATER = "Try again later."

FILE_VALIDATION = Family(
    title="Uploaded files",
    module="file_validation_factories",
    codes=(
        Code(FileValidationErrorCode.EMPTY_CONTENT, 400, "The file has no text.", "Upload a file with text."),
        Code(FileValidationErrorCode.CONTENT_TOO_SHORT, 400, "The text is too short.", "Upload a longer text."),
        Code(FileValidationErrorCode.CONTENT_TOO_LONG, 400, "The text is too long.", "Shorten or split the text."),
        Code(FileValidationErrorCode.RAW_STORAGE_FAILED, 500, "The file could not be stored.", _LATER),
        Code(
            FileValidationErrorCode.TEXT_EXTRACTION_FAILED,
            500,
            "No text could be taken from the file.",
            "Save the document anew, or upload it in another format.",
        ),
        Code(
            FileValidationErrorCode.ENCRYPTED_FILE_UNSUPPORTED,
            422,
            "The file is encrypted.",
            "Upload the file without its password.",
        ),
        Code(
            FileValidationErrorCode.UNKNOWN_VALIDATION_ERROR,
            400,
            "The file is not acceptable, for a reason that the message gives.",
            "Correct the file as the message says.",
        ),
    ),
    factories=(
        Factory(
            "raise_empty_content_error",
            FileValidationErrorCode.EMPTY_CONTENT,
            "file_name: str",
            message="File '{file_name}' has empty content",
        ),
        Factory(
            "raise_content_too_short",
            FileValidationErrorCode.CONTENT_TOO_SHORT,
            "file_name: str",
            "min_length: int",
            "actual_length: int",
            message="File '{file_name}' content is too short (minimum: {min_length}, actual: {actual_length})",
        ),
        Factory(
            "raise_content_too_long",
            FileValidationErrorCode.CONTENT_TOO_LONG,
            "file_name: str",
            "max_length: int",
            "actual_length: int",
            message="File '{file_name}' content is too long (maximum: {max_length}, actual: {actual_length})",
        ),
        Factory("raise_raw_storage_failed", FileValidationErrorCode.RAW_STORAGE_FAILED, "file_name: str"),
        Factory("raise_text_extraction_failed", FileValidationErrorCode.TEXT_EXTRACTION_FAILED, "file_name: str"),
        Factory(
            "raise_encrypted_file_error",
            FileValidationErrorCode.ENCRYPTED_FILE_UNSUPPORTED,
            "file_name: str",
            message="File '{file_name}' is encrypted and cannot be processed.",
        ),
        Factory("raise_unknown_validation_error", FileValidationErrorCode.UNKNOWN_VALIDATION_ERROR),
    ),
)

SPELLCHECKER = Family(
    title="Spell checker",
    module="spellchecker_factories",
    codes=(
        Code(
            SpellcheckerErrorCode.SPELL_EVENT_CORRELATION_ERROR,
            400,
            "An event cannot be matched with the request that caused it.",
            "Look at the event's producer; the details name the field that is missing.",
        ),
    ),
    factories=(
        Factory(
            "raise_spell_event_correlation_error",
            SpellcheckerErrorCode.SPELL_EVENT_CORRELATION_ERROR,
            "missing_field: str | None = None",
        ),
    ),
)

BATCH_CONDUCTOR = Family(
    title="Pipelines",
    module="batch_conductor_factories",
    codes=(
        Code(
            BatchConductorErrorCode.PIPELINE_DEPENDENCY_RESOLUTION_FAILED,
            422,
            "What the requested pipeline depends on could not be resolved.",
            "Ask for a pipeline whose dependencies exist; the details name the stage.",
        ),
        Code(
            BatchConductorErrorCode.PIPELINE_DEPENDENCY_CYCLE_DETECTED,
            500,
            "Pipelines are configured to depend on each other in a circle.",
            "Break the circle in the configuration; the details list its steps.",
        ),
        Code(
            BatchConductorErrorCode.PIPELINE_COMPATIBILITY_FAILED,
            409,
            "The pipeline does not fit the batch in its present state.",
            "Choose another pipeline, or bring the batch into the state that the details name.",
        ),
    ),
    factories=(
        Factory(
            "raise_pipeline_dependency_resolution_failed",
            BatchConductorErrorCode.PIPELINE_DEPENDENCY_RESOLUTION_FAILED,
            "batch_id: str | None = None",
            "requested_pipeline: str | None = None",
            "resolution_stage: str | None = None",
            "dependency_error: str | None = None",
            keeps_none=True,
        ),
        Factory(
            "raise_pipeline_dependency_cycle_detected",
            BatchConductorErrorCode.PIPELINE_DEPENDENCY_CYCLE_DETECTED,
            "pipeline_name: str | None = None",
            "cycle_steps: list[str] | None = None",
            "detection_stage: str | None = None",
            keeps_none=True,
        ),
        Factory(
            "raise_pipeline_compatibility_failed",
            BatchConductorErrorCode.PIPELINE_COMPATIBILITY_FAILED,
            "pipeline_name: str | None = None",
            "batch_metadata: dict[str, Any] | None = None",
            "compatibility_issue: str | None = None",
            keeps_none=True,
        ),
    ),
    not_exported=frozenset(
        {
            "raise_pipeline_dependency_resolution_failed",
            "raise_pipeline_dependency_cycle_detected",
            "raise_pipeline_compatibility_failed",
        }
    ),
)

CJ_ASSESSMENT = Family(
    title="Comparative judgement",
    module="cj_assessment_factories",
    codes=(
        Code(
            CJAssessmentErrorCode.CJ_INSUFFICIENT_COMPARISONS,
            409,
            "There are too few comparisons to rank by.",
            "Wait for more comparisons, or ask for more.",
        ),
        Code(CJAssessmentErrorCode.CJ_SCORE_CONVERGENCE_FAILED, 500, "The scores did not settle.", _FAULT),
        Code(
            CJAssessmentErrorCode.CJ_COMPARISON_IMBALANCE,
            409,
            "Some essays were compared far more often than others.",
            "Ask for comparisons of the essays that the details name.",
        ),
        Code(
            CJAssessmentErrorCode.CJ_CALLBACK_CORRELATION_FAILED,
            404,
            "A callback belongs to no known request.",
            "Send the correlation id of the request; it may have expired.",
        ),
    ),
    factories=(
        Factory(
            "raise_cj_insufficient_comparisons",
            CJAssessmentErrorCode.CJ_INSUFFICIENT_COMPARISONS,
            "batch_id: str | None = None",
            "comparison_count: int | None = None",
            "required_count: int | None = None",
            keeps_none=True,
        ),
        Factory(
            "raise_cj_score_convergence_failed",
            CJAssessmentErrorCode.CJ_SCORE_CONVERGENCE_FAILED,
            "batch_id: str | None = None",
            "iteration_count: int | None = None",
            "convergence_error: str | None = None",
            keeps_none=True,
        ),
        Factory(
            "raise_cj_comparison_imbalance",
            CJAssessmentErrorCode.CJ_COMPARISON_IMBALANCE,
            "batch_id: str | None = None",
            "imbalance_details: dict[str, int] | None = None",
            "min_comparisons: int | None = None",
            "max_comparisons: int | None = None",
            keeps_none=True,
        ),
        Factory(
            "raise_cj_callback_correlation_failed",
            CJAssessmentErrorCode.CJ_CALLBACK_CORRELATION_FAILED,
            "callback_correlation_id: UUID | None = None",
            "batch_id: str | None = None",
            keeps_none=True,
        ),
    ),
)

LLM = Family(
    title="Language models",
    module=None,
    codes=(
        Code(LLMErrorCode.PROVIDER_UNAVAILABLE, 503, "The provider does not answer.", _LATER, 10),
        Code(LLMErrorCode.PROVIDER_RATE_LIMIT, 429, "The provider's rate limit is reached.", _LATER, 60),
        Code(LLMErrorCode.PROVIDER_TIMEOUT, 504, "The provider took too long.", _LATER),
        Code(LLMErrorCode.PROVIDER_API_ERROR, 502, "The provider answered with an error.", _LATER),
        Code(LLMErrorCode.INVALID_PROMPT, 400, "The prompt is not acceptable.", "Change the prompt."),
        Code(LLMErrorCode.CONTENT_TOO_LONG, 400, "The text is longer than the model takes.", "Shorten the text."),
        Code(LLMErrorCode.INVALID_CONFIG, 400, "The request's model settings are not valid.", "Correct them."),
        Code(LLMErrorCode.QUEUE_FULL, 503, "The queue before the model is full.", _LATER, 30),
        Code(LLMErrorCode.INTERNAL_ERROR, 500, "The language-model service failed.", _FAULT),
        Code(LLMErrorCode.CALLBACK_TOPIC_MISSING, 400, "No topic for the result was given.", "Name one."),
        Code(LLMErrorCode.INVALID_CALLBACK_TOPIC, 400, "The topic for the result is not valid.", "Name another."),
        Code(LLMErrorCode.PARSING_ERROR, 502, "The model's answer could not be read.", _LATER),
        Code(LLMErrorCode.INVALID_RESPONSE, 502, "The model's answer is not usable.", _LATER),
        Code(LLMErrorCode.COST_LIMIT_EXCEEDED, 429, "The limit of costs is reached.", "Raise it, or wait.", 3600),
        Code(LLMErrorCode.CONFIGURATION_ERROR, 500, "The language-model service is set up wrongly.", _FAULT),
    ),
    factories=(),
)
