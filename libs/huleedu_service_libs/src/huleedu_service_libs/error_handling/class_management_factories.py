"""Factories of errors. Classes.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import ClassManagementErrorCode
from huleedu_service_libs.error_handling._raising import make_error

__all__ = [
    "raise_class_not_found",
    "raise_course_not_found",
    "raise_course_validation_error",
    "raise_multiple_course_error",
    "raise_student_not_found",
]


def raise_course_not_found(
    service: str,
    operation: str,
    course_id: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The course does not exist. Raises COURSE_NOT_FOUND, HTTP 404."""
    raise make_error(
        ClassManagementErrorCode.COURSE_NOT_FOUND,
        f"Course with ID '{course_id}' not found",
        service,
        operation,
        correlation_id,
        {"course_id": course_id, **additional_context},
    )


def raise_course_validation_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The course is not valid. Raises COURSE_VALIDATION_ERROR, HTTP 400."""
    raise make_error(
        ClassManagementErrorCode.COURSE_VALIDATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_multiple_course_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """More than one course where only one may be. Raises MULTIPLE_COURSE_ERROR, HTTP 409."""
    raise make_error(
        ClassManagementErrorCode.MULTIPLE_COURSE_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )


def raise_class_not_found(
    service: str,
    operation: str,
    class_id: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The class does not exist. Raises CLASS_NOT_FOUND, HTTP 404."""
    raise make_error(
        ClassManagementErrorCode.CLASS_NOT_FOUND,
        f"Class with ID '{class_id}' not found",
        service,
        operation,
        correlation_id,
        {"class_id": class_id, **additional_context},
    )


def raise_student_not_found(
    service: str,
    operation: str,
    student_id: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The student does not exist. Raises STUDENT_NOT_FOUND, HTTP 404."""
    raise make_error(
        ClassManagementErrorCode.STUDENT_NOT_FOUND,
        f"Student with ID '{student_id}' not found",
        service,
        operation,
        correlation_id,
        {"student_id": student_id, **additional_context},
    )
