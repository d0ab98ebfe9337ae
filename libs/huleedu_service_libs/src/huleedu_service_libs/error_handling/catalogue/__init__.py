"""Every error code and every factory, described once.

``scripts/generate_errors.py`` writes the modules of factories, the package's
exports and ``docs/reference/errors.md`` from it; the HTTP mapping reads it when
it is imported.
"""

from huleedu_service_libs.error_handling.catalogue.essays import (
    BATCH_CONDUCTOR,
    CJ_ASSESSMENT,
    FILE_VALIDATION,
    LLM,
    SPELLCHECKER,
)
from huleedu_service_libs.error_handling.catalogue.general import GENERAL, LLM_PROVIDER
from huleedu_service_libs.error_handling.catalogue.model import CodeDescription, FactoryDescription, Family, Parameter
from huleedu_service_libs.error_handling.catalogue.people import CLASS_MANAGEMENT, IDENTITY

__all__ = ["FAMILIES", "CodeDescription", "FactoryDescription", "Family", "Parameter"]

FAMILIES: tuple[Family, ...] = (
    GENERAL,
    CLASS_MANAGEMENT,
    FILE_VALIDATION,
    SPELLCHECKER,
    IDENTITY,
    BATCH_CONDUCTOR,
    CJ_ASSESSMENT,
    LLM,
    LLM_PROVIDER,
)
