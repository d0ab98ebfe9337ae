"""What is known of one error, in a form that crosses process borders."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from common_core.error_enums import (
    BatchConductorErrorCode,
    CJAssessmentErrorCode,
    ClassManagementErrorCode,
    ErrorCode,
    FileValidationErrorCode,
    IdentityErrorCode,
    LLMErrorCode,
    SpellcheckerErrorCode,
)

__all__ = ["ErrorCodeType", "ErrorDetail"]

# The order matters: pydantic tries the members from left to right.
ErrorCodeType = (
    ErrorCode
    | BatchConductorErrorCode
    | CJAssessmentErrorCode
    | ClassManagementErrorCode
    | FileValidationErrorCode
    | IdentityErrorCode
    | LLMErrorCode
    | SpellcheckerErrorCode
)


class ErrorDetail(BaseModel):
    """One error: code, message, where it happened and what belongs to it. Immutable.

    Attributes:
        error_code: A member of one of the code enums.
        message: For people.
        correlation_id: The request that led here.
        timestamp: When, with time zone.
        service: Where.
        operation: Doing what.
        details: Whatever helps to understand it; never a secret.
        stack_trace: Text of the stack; must never leave the process.
        trace_id: 32 hex digits of the W3C trace, if one was running.
        span_id: 16 hex digits of the span, if one was running.
    """

    model_config = ConfigDict(frozen=True)

    error_code: ErrorCodeType
    message: str
    correlation_id: UUID
    timestamp: datetime
    service: str
    operation: str
    details: dict[str, Any] = Field(default_factory=dict)
    stack_trace: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
