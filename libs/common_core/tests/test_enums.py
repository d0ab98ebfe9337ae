"""The enums: values that other services and stored records contain."""

from enum import Enum

import pytest

from common_core import config_enums, domain_enums, error_enums, observability_enums, status_enums
from common_core.config_enums import Environment, LLMProviderType
from common_core.domain_enums import ContentType
from common_core.error_enums import (
    BatchConductorErrorCode,
    CJAssessmentErrorCode,
    ErrorCode,
    IdentityErrorCode,
    LLMErrorCode,
)
from common_core.observability_enums import CacheOperation, MetricName, OperationType
from common_core.status_enums import (
    CircuitBreakerState,
    OperationStatus,
    ProcessingStage,
    ProcessingStatus,
)

MODULES = (config_enums, domain_enums, error_enums, observability_enums, status_enums)
ENUMS = [getattr(module, name) for module in MODULES for name in module.__all__]
LOWER_CASE = [
    Environment,
    LLMProviderType,
    ContentType,
    OperationType,
    MetricName,
    CacheOperation,
    CircuitBreakerState,
    OperationStatus,
    ProcessingStatus,
    ProcessingStage,
]


@pytest.mark.parametrize("enum", ENUMS)
def test_members_are_their_values(enum: type[Enum]) -> None:
    """Members compare and hash like their text, but `str()` is not the text."""
    for member in enum:
        assert member == member.value
        assert hash(member) == hash(member.value)
        assert str(member) == f"{enum.__name__}.{member.name}"


@pytest.mark.parametrize("enum", LOWER_CASE)
def test_lower_case_values(enum: type[Enum]) -> None:
    """The value is the lower-case name."""
    assert all(member.value == member.name.lower() for member in enum)


@pytest.mark.parametrize(
    ("enum", "prefix"),
    [
        (ErrorCode, ""),
        (error_enums.ClassManagementErrorCode, ""),
        (error_enums.FileValidationErrorCode, ""),
        (error_enums.SpellcheckerErrorCode, ""),
        (CJAssessmentErrorCode, ""),
        (BatchConductorErrorCode, "BCS_"),
        (IdentityErrorCode, "IDENTITY_"),
        (LLMErrorCode, "LLM_"),
    ],
)
def test_error_code_values(enum: type[Enum], prefix: str) -> None:
    """A code's value is its name with the prefix of its family."""
    assert all(member.value == prefix + member.name for member in enum)


@pytest.mark.parametrize(
    ("enum", "size"),
    [(ErrorCode, 29), (IdentityErrorCode, 15), (LLMErrorCode, 15), (ContentType, 11), (CircuitBreakerState, 3)],
)
def test_sizes(enum: type[Enum], size: int) -> None:
    """No member was forgotten or added by mistake."""
    assert len(enum) == size


def test_stages() -> None:
    """Terminal stages are followed by nothing; active ones have or make a result."""
    assert ProcessingStage.terminal() == {
        ProcessingStage.COMPLETED,
        ProcessingStage.FAILED,
        ProcessingStage.CANCELLED,
    }
    assert ProcessingStage.active() == {
        ProcessingStage.COMPLETED,
        ProcessingStage.INITIALIZED,
        ProcessingStage.PROCESSING,
    }
