"""Factories of errors. Uploaded files.

Made by ``make generate`` from ``error_handling/catalogue``; change that.
"""

from typing import Any, NoReturn
from uuid import UUID

from common_core.error_enums import FileValidationErrorCode
from huleedu_service_libs.error_handling._raising import make_error

__all__ = [
    "raise_content_too_long",
    "raise_content_too_short",
    "raise_empty_content_error",
    "raise_encrypted_file_error",
    "raise_raw_storage_failed",
    "raise_text_extraction_failed",
    "raise_unknown_validation_error",
]


def raise_empty_content_error(
    service: str,
    operation: str,
    file_name: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The file has no text. Raises EMPTY_CONTENT, HTTP 400."""
    raise make_error(
        FileValidationErrorCode.EMPTY_CONTENT,
        f"File '{file_name}' has empty content",
        service,
        operation,
        correlation_id,
        {"file_name": file_name, **additional_context},
    )


def raise_content_too_short(
    service: str,
    operation: str,
    file_name: str,
    min_length: int,
    actual_length: int,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The text is too short. Raises CONTENT_TOO_SHORT, HTTP 400."""
    raise make_error(
        FileValidationErrorCode.CONTENT_TOO_SHORT,
        f"File '{file_name}' content is too short (minimum: {min_length}, actual: {actual_length})",
        service,
        operation,
        correlation_id,
        {"file_name": file_name, "min_length": min_length, "actual_length": actual_length, **additional_context},
    )


def raise_content_too_long(
    service: str,
    operation: str,
    file_name: str,
    max_length: int,
    actual_length: int,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The text is too long. Raises CONTENT_TOO_LONG, HTTP 400."""
    raise make_error(
        FileValidationErrorCode.CONTENT_TOO_LONG,
        f"File '{file_name}' content is too long (maximum: {max_length}, actual: {actual_length})",
        service,
        operation,
        correlation_id,
        {"file_name": file_name, "max_length": max_length, "actual_length": actual_length, **additional_context},
    )


def raise_raw_storage_failed(
    service: str,
    operation: str,
    file_name: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The file could not be stored. Raises RAW_STORAGE_FAILED, HTTP 500."""
    raise make_error(
        FileValidationErrorCode.RAW_STORAGE_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {"file_name": file_name, **additional_context},
    )


def raise_text_extraction_failed(
    service: str,
    operation: str,
    file_name: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """No text could be taken from the file. Raises TEXT_EXTRACTION_FAILED, HTTP 500."""
    raise make_error(
        FileValidationErrorCode.TEXT_EXTRACTION_FAILED,
        message,
        service,
        operation,
        correlation_id,
        {"file_name": file_name, **additional_context},
    )


def raise_encrypted_file_error(
    service: str,
    operation: str,
    file_name: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The file is encrypted. Raises ENCRYPTED_FILE_UNSUPPORTED, HTTP 422."""
    raise make_error(
        FileValidationErrorCode.ENCRYPTED_FILE_UNSUPPORTED,
        f"File '{file_name}' is encrypted and cannot be processed.",
        service,
        operation,
        correlation_id,
        {"file_name": file_name, **additional_context},
    )


def raise_unknown_validation_error(
    service: str,
    operation: str,
    message: str,
    correlation_id: UUID,
    **additional_context: Any,
) -> NoReturn:
    """The file is not acceptable, for a reason that the message gives. Raises UNKNOWN_VALIDATION_ERROR, HTTP 400."""
    raise make_error(
        FileValidationErrorCode.UNKNOWN_VALIDATION_ERROR,
        message,
        service,
        operation,
        correlation_id,
        additional_context,
    )
