"""Contracts of the HuleEdu services: the event envelope, error codes and enums. Pydantic only, no I/O."""

from common_core.config_enums import Environment, LLMProviderType
from common_core.domain_enums import ContentType
from common_core.error_enums import ErrorCode
from common_core.events.envelope import EventEnvelope
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from common_core.status_enums import (
    CircuitBreakerState,
    OperationStatus,
    ProcessingStage,
    ProcessingStatus,
    QueueStatus,
)

__all__ = [
    "CircuitBreakerState",
    "ContentType",
    "Environment",
    "ErrorCode",
    "ErrorCodeType",
    "ErrorDetail",
    "EventEnvelope",
    "LLMProviderType",
    "OperationStatus",
    "ProcessingStage",
    "ProcessingStatus",
    "QueueStatus",
]
