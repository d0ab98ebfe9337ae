"""The contract's path to the codes."""

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

__all__ = [
    "BatchConductorErrorCode",
    "CJAssessmentErrorCode",
    "ClassManagementErrorCode",
    "ErrorCode",
    "FileValidationErrorCode",
    "IdentityErrorCode",
    "LLMErrorCode",
    "SpellcheckerErrorCode",
]
