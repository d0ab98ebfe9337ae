"""Every test of this folder starts unconfigured, and leaves the process as it was."""

import json
import logging
import os
from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog

from huleedu_service_libs._log_pipeline import sink
from huleedu_service_libs.logging_utils import configure_service_logging

from .lines import Lines

VARIABLES = ("SERVICE_NAME", "ENVIRONMENT", "SERVICE_VERSION", "NO_COLOR")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    handlers, level = list(logging.root.handlers), logging.root.level
    structlog.reset_defaults()
    with structlog.contextvars.bound_contextvars():
        yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(capture=False)
    sink._COUNT.untold = 0
    for name in VARIABLES:  # what the configuration has set
        os.environ.pop(name, None)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """The lines since the last look; as JSON says it, so without NaN."""
    configure_service_logging("essays", "production", "DEBUG")

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    return lambda: [json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines()]
