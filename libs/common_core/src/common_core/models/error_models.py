"""What is known of one error, in a form that crosses process borders."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, field_serializer

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
        stack_trace: Text of the stack. It never leaves the process: every dump has ``None`` in its place, no ``repr`` shows it,
            and two details that differ in it alone are equal.
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
    stack_trace: str | None = Field(default=None, repr=False)
    trace_id: str | None = None
    span_id: str | None = None

    @field_serializer("stack_trace")
    def _keep_stack_here(self, _stack: str | None) -> None:
        return None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ErrorDetail):
            return NotImplemented
        return self._without_stack() == other._without_stack()

    __hash__ = None  # type: ignore[assignment]  # the details are a dictionary

    def _without_stack(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "stack_trace"}
