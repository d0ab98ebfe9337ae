"""What the tests of this folder log with and read: loggers made at import, and lines of JSON."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger

IMPORTED_EARLY = create_service_logger("early.module")
LOGGER = create_service_logger("essays.storage")
OURS = {"service_name": "essays", "service_version": "1.0.0", "environment": "production"}

Lines = Callable[[], list[dict[str, Any]]]


def production(level: str = "DEBUG") -> None:
    """Configure as a service in production does."""
    configure_service_logging("essay-service", "production", level)


def lines_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines since the last look."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def line_of(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The only one of them."""
    (line,) = lines_of(capsys)
    return line
