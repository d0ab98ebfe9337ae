"""What type checkers and editors see, from outside the package: real signatures, and that a factory never returns."""

import subprocess
import sys
from pathlib import Path

GOOD = """
from uuid import UUID
from common_core.error_enums import ErrorCode
from huleedu_service_libs.error_handling import HuleEduError, assert_raises_huleedu_error, raise_validation_error
from huleedu_service_libs.error_handling.identity_factories import raise_missing_token_error
from huleedu_service_libs.error_handling.quart import register_error_handlers
from huleedu_service_libs.error_handling.quart_handlers import ERROR_CODE_TO_HTTP_STATUS

def one(id_: UUID, ready: bool) -> int:
    if ready:
        return 1
    raise_validation_error(service="s", operation="o", field="f", message="m", correlation_id=id_, extra=1)

def status(code: str) -> int:
    return ERROR_CODE_TO_HTTP_STATUS[code] + ERROR_CODE_TO_HTTP_STATUS[ErrorCode.TIMEOUT]

def two(id_: UUID) -> str:
    raise_missing_token_error("s", "o", "m", id_)
"""
BAD = """
from uuid import UUID
from huleedu_service_libs.error_handling import raise_rate_limit_error, raise_validation_error

def one(id_: UUID) -> None:
    raise_validation_error(service="s", operation="o", message="m", correlation_id=id_)

def two(id_: UUID) -> None:
    raise_rate_limit_error(service="s", operation="o", limit="3", window_seconds=1, message="m", correlation_id=id_)
"""


def test_mypy_sees_signatures_and_noreturn(tmp_path: Path) -> None:
    """Good calls pass strict mypy, without a return after a factory; a missing field and a wrong type are found."""
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path / "c")]
    done = subprocess.run(  # noqa: S603  # our own command
        [*command, "good.py", "bad.py"], cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False
    )
    lines = [line for line in done.stdout.splitlines() if "note:" not in line]
    assert [line.split(" error: ")[0] for line in lines] == ["bad.py:6:", "bad.py:9:"]
    assert 'Missing positional argument "field" in call to "raise_validation_error"' in lines[0]
    assert '"limit"' in lines[1]
