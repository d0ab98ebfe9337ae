"""All models of this package: plain pydantic, with no more than the fields that the contract names."""

from datetime import UTC, datetime
from typing import Any, Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, Field

from .codes import (
    BatchConductorErrorCode,
    CJAssessmentErrorCode,
    ClassManagementErrorCode,
    ErrorCode,
    FileValidationErrorCode,
    IdentityErrorCode,
    LLMErrorCode,
    SpellcheckerErrorCode,
)

T_EventData = TypeVar("T_EventData", bound=BaseModel)
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


class EventEnvelope(BaseModel, Generic[T_EventData]):
    """An event; its fields in another order than ours."""

    model_config = ConfigDict(populate_by_name=True)

    data: Any
    metadata: dict[str, Any] | None = None
    data_schema_uri: str | None = None
    schema_version: int = 1
    source_service: str
    event_type: str
    correlation_id: UUID = Field(default_factory=uuid4)
    event_timestamp: datetime = Field(default_factory=lambda: datetime.now(UTC))
    event_id: UUID = Field(default_factory=uuid4)


class ErrorDetail(BaseModel):
    """An error; it does nothing about its stack."""

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
