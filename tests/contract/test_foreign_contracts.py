"""The library beside somebody else's contracts package: the services bring one of their own, with the same names.

`foreign/common_core` has them in another layout, with classes of its own, and nothing else.
"""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import huleedu_service_libs

FOREIGN = Path(__file__).with_name("foreign")
CODES = {
    "BatchConductorErrorCode",
    "CJAssessmentErrorCode",
    "ClassManagementErrorCode",
    "ErrorCode",
    "FileValidationErrorCode",
    "IdentityErrorCode",
    "LLMErrorCode",
    "SpellcheckerErrorCode",
}
BOUND = {
    "common_core": {"EventEnvelope", "CircuitBreakerState", "Environment"},
    "common_core.events": {"EventEnvelope"},
    "common_core.events.envelope": {"EventEnvelope", "T_EventData"},
    "common_core.models.error_models": {"ErrorDetail", "ErrorCodeType"},
    "common_core.error_enums": CODES,
    "common_core.status_enums": {"CircuitBreakerState"},
    "common_core.config_enums": {"Environment"},
    "common_core.domain_enums": {"ContentType"},
}
"""What the library may import, from where: the contract's own paths."""


@pytest.mark.integration
@pytest.mark.contract("16-foreign-package")
def test_a_service_on_a_foreign_package(postgres_database: str, redis_url: str, unique_name: str) -> None:
    """Every module loads; an event is stored, relayed, decoded and handled once; errors are raised and answered."""
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(FOREIGN / "program.py"), postgres_database, redis_url, unique_name],
        env={key: value for key, value in os.environ.items() if key not in {"ENVIRONMENT", "PYTHONPATH"}},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["package"]) == FOREIGN / "common_core" / "__init__.py"
    assert found["modules"] > 100
    data = {"essay_id": "e-1", "text": "räksmörgås", "kind": "original_essay"}
    outbox, correlation_id = found["outbox"], "00000000-0000-0000-0000-000000000007"
    assert (outbox["row"]["data"], outbox["row"]["correlation_id"]) == (data, correlation_id)
    assert (outbox["row"]["topic"], outbox["class"], outbox["same"], outbox["data"]) == ("essays", True, True, data)
    assert found["consumed"] == ["done", None, ["räksmörgås"]]
    assert found["answered"] == {
        f"{framework} {path}": answer
        for framework in ("quart", "fastapi")
        for path, answer in (
            ("missing", [404, "RESOURCE_NOT_FOUND", False]),
            ("refused", [401, "IDENTITY_INVALID_CREDENTIALS", False]),
        )
    }
    assert found["raised"] == {
        "classes": [True, True],
        "text": "[PROCESSING_ERROR] broke",
        "details": {"a": 1, "b": 2},
        "mapped": "IDENTITY_TOKEN_INVALID",
    }
    assert found["broken"] == [True, "Circuit breaker 'b' is OPEN"]
    assert found["stored"] == "raw_upload_blob"
    assert "environment=development" in found["settings"]


def _imported() -> Iterator[tuple[str, str, str]]:
    for path in Path(huleedu_service_libs.__path__[0]).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "common_core":
                yield from ((path.name, node.module or "", alias.name) for alias in node.names)
            elif isinstance(node, ast.Import):
                yield from (
                    (path.name, alias.name, "*")
                    for alias in node.names
                    if alias.name.partition(".")[0] == "common_core"
                )


@pytest.mark.contract("16-imports")
def test_the_library_imports_only_what_is_bound() -> None:
    """Each import of `common_core` is a name of the contract, by a path of the contract."""
    found = list(_imported())
    assert len(found) > 20
    assert [one for one in found if one[2] not in BOUND.get(one[1], ())] == []
