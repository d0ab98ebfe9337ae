"""Factories of errors. Pipelines.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import BatchConductorErrorCode
from huleedu_service_libs.error_handling._raising import make_error

__all__ = [
    "raise_pipeline_compatibility_failed",
    "raise_pipeline_dependency_cycle_detected",
    "raise_pipeline_dependency_resolution_failed",
]


def raise_pipeline_dependency_resolution_failed(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    batch_id: str | None = None,
    requested_pipeline: str | None = None,
    resolution_stage: str | None = None,
    dependency_error: str | None = None,
    **additional_context: Any,
) -> NoReturn:
    """What the requested pipeline depends on could not be resolved. Raises BCS_PIPELINE_DEPENDENCY_RESOLUTION_FAILED, HTTP 422."""
    raise make_error(
        BatchConductorErrorCode.PIPELINE_DEPENDENCY_RESOLUTION_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {
            "batch_id": batch_id,
            "requested_pipeline": requested_pipeline,
            "resolution_stage": resolution_stage,
            "dependency_error": dependency_error,
            **additional_context,
        },
    )


def raise_pipeline_dependency_cycle_detected(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    pipeline_name: str | None = None,
    cycle_steps: list[str] | None = None,
    detection_stage: str | None = None,
    **additional_context: Any,
) -> NoReturn:
    """Pipelines are configured to depend on each other in a circle. Raises BCS_PIPELINE_DEPENDENCY_CYCLE_DETECTED, HTTP 500."""
    raise make_error(
        BatchConductorErrorCode.PIPELINE_DEPENDENCY_CYCLE_DETECTED,
        message,
        service,
        operation,
        correlation_id,
        {
            "pipeline_name": pipeline_name,
            "cycle_steps": cycle_steps,
            "detection_stage": detection_stage,
            **additional_context,
        },
    )


def raise_pipeline_compatibility_failed(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    pipeline_name: str | None = None,
    batch_metadata: dict[str, Any] | None = None,
    compatibility_issue: str | None = None,
    **additional_context: Any,
) -> NoReturn:
    """The pipeline does not fit the batch in its present state. Raises BCS_PIPELINE_COMPATIBILITY_FAILED, HTTP 409."""
    raise make_error(
        BatchConductorErrorCode.PIPELINE_COMPATIBILITY_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {
            "pipeline_name": pipeline_name,
            "batch_metadata": batch_metadata,
            "compatibility_issue": compatibility_issue,
            **additional_context,
        },
    )
