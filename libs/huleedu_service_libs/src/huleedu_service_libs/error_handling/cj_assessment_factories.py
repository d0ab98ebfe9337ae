"""Factories of errors. Comparative judgement.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import CJAssessmentErrorCode
from huleedu_service_libs.error_handling._raising import make_error

__all__ = [
    "raise_cj_callback_correlation_failed",
    "raise_cj_comparison_imbalance",
    "raise_cj_insufficient_comparisons",
    "raise_cj_score_convergence_failed",
]


def raise_cj_insufficient_comparisons(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    batch_id: str | None = None,
    comparison_count: int | None = None,
    required_count: int | None = None,
    **additional_context: Any,
) -> NoReturn:
    """There are too few comparisons to rank by. Raises CJ_INSUFFICIENT_COMPARISONS, HTTP 409."""
    raise make_error(
        CJAssessmentErrorCode.CJ_INSUFFICIENT_COMPARISONS,
        message,
        service,
        operation,
        correlation_id,
        {
            "batch_id": batch_id,
            "comparison_count": comparison_count,
            "required_count": required_count,
            **additional_context,
        },
    )


def raise_cj_score_convergence_failed(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    batch_id: str | None = None,
    iteration_count: int | None = None,
    convergence_error: str | None = None,
    **additional_context: Any,
) -> NoReturn:
    """The scores did not settle. Raises CJ_SCORE_CONVERGENCE_FAILED, HTTP 500."""
    raise make_error(
        CJAssessmentErrorCode.CJ_SCORE_CONVERGENCE_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {
            "batch_id": batch_id,
            "iteration_count": iteration_count,
            "convergence_error": convergence_error,
            **additional_context,
        },
    )


def raise_cj_comparison_imbalance(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    batch_id: str | None = None,
    imbalance_details: dict[str, int] | None = None,
    min_comparisons: int | None = None,
    max_comparisons: int | None = None,
    **additional_context: Any,
) -> NoReturn:
    """Some essays were compared far more often than others. Raises CJ_COMPARISON_IMBALANCE, HTTP 409."""
    raise make_error(
        CJAssessmentErrorCode.CJ_COMPARISON_IMBALANCE,
        message,
        service,
        operation,
        correlation_id,
        {
            "batch_id": batch_id,
            "imbalance_details": imbalance_details,
            "min_comparisons": min_comparisons,
            "max_comparisons": max_comparisons,
            **additional_context,
        },
    )


def raise_cj_callback_correlation_failed(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    callback_correlation_id: UUID | None = None,
    batch_id: str | None = None,
    **additional_context: Any,
) -> NoReturn:
    """A callback belongs to no known request. Raises CJ_CALLBACK_CORRELATION_FAILED, HTTP 404."""
    raise make_error(
        CJAssessmentErrorCode.CJ_CALLBACK_CORRELATION_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {"callback_correlation_id": callback_correlation_id, "batch_id": batch_id, **additional_context},
    )
