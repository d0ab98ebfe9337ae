"""What is done to loggers that nobody meant them for: odd calls, fields with names of ours, lines that cannot be drawn, other people's handlers."""

import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from opentelemetry import trace

from huleedu_service_libs._log_pipeline import sink
from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs.logging_utils import configure_service_logging, log_context, swallowed_failures

from .lines import LOGGER, OURS, Lines

EARLY = logging.getLogger("essays.early")  # as other libraries have it
SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))
IDS = {"correlation_id": "c-1", "trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}


def test_fields_may_have_the_names_of_parameters(lines: Lines) -> None:
    """Nothing that a caller calls a field makes the call an error."""
    LOGGER.info("x", self=1, name=2, args=3, event_name=4)
    LOGGER.bind(self=1).new(self=5).error("x")
    LOGGER.log(logging.WARNING, "x", level="mine", self=6)
    first, second, third = lines()
    assert first.items() >= {"self": 1, "name": 2, "args": 3, "event_name": 4}.items()
    assert (second["self"], third["self"], third["level"], third["level_"]) == (5, 6, "warning", "mine")


@pytest.mark.parametrize(
    ("level", "shown"), [("error", "error"), ("WARN", "warning"), (35, "warning"), ("loud", "info"), (None, "info")]
)
def test_a_level_may_be_a_name(level: Any, shown: str, lines: Lines) -> None:
    """An unknown one costs neither the line nor the caller."""
    LOGGER.log(level, "x")
    assert [line["level"] for line in lines()] == [shown]


async def test_what_structlogs_loggers_have_ours_have(lines: Lines) -> None:
    """Names that code written for structlog or the standard library may use."""
    native = structlog.make_filtering_bound_logger(logging.INFO)
    assert not [name for name in dir(native) if not name.startswith("_") and not hasattr(LOGGER, name)]
    assert LOGGER.isEnabledFor(logging.DEBUG)
    assert LOGGER.getEffectiveLevel() == LOGGER.get_effective_level() == logging.DEBUG
    await LOGGER.alog(logging.ERROR, "x")
    assert lines()[-1]["level"] == "error"


@pytest.mark.parametrize("asked", [(1, 2, 3), (ValueError,), ("a", None, None), "yes", ValueError, 17])
def test_an_odd_exc_info_costs_itself(asked: Any, lines: Lines) -> None:
    """The line and its fields are there."""
    LOGGER.error("x", exc_info=asked, essay_id="e")
    (line,) = lines()
    assert (line["event"], line["essay_id"], "exception" in line) == ("x", "e", False)


def _there(depth: int) -> None:
    if not depth:
        raise ValueError("what happened, password=hunter2")
    _and_back(depth)


def _and_back(depth: int) -> None:
    _there(depth - 1)


def test_a_traceback_without_end_keeps_its_end(lines: Lines) -> None:
    """Two functions that call each other fill any line; what happened stands last and is kept, and so is where it began."""
    try:
        _there(400)
    except ValueError:
        LOGGER.exception("x")
    (line,) = lines()
    assert len(line["exception"]) < 70_000
    assert line["exception"].splitlines()[-1] == "ValueError: what happened, password=***"
    assert "test_a_traceback_without_end" in line["exception"]
    assert "characters left out" in line["exception"]


def test_fields_beside_a_traceback_are_kept(lines: Lines) -> None:
    """A field `exception` or `stack` gives way to the real one."""
    LOGGER.error("x", exception="mine", stack="mine", exc_info=ValueError("real"), stack_info=True)
    LOGGER.error("x", exception="mine", stack="mine")
    first, second = lines()
    assert (first["exception_"], first["stack_"], first["exception"]) == ("mine", "mine", "ValueError: real")
    assert first["stack"].startswith("Stack")
    assert (second["exception"], second["stack"]) == ("mine", "mine")


def test_whose_line_it_is_says_the_process_alone(lines: Lines) -> None:
    """A field about another service does not send the line to that service's readers."""
    LOGGER.info("x", service_name="other", environment="test", service_version="2")
    with log_context(service_name="essays"):
        EARLY.info("x")
    first, second = lines()
    assert first.items() >= {**OURS, "service_name_": "other", "environment_": "test", "service_version_": "2"}.items()
    assert second.items() >= OURS.items()
    assert "service_name_" not in second


def test_a_line_that_cannot_be_drawn_says_whose_it_was(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of it has service, environment and ids too, from either kind of logger."""

    def broken(*_args: Any) -> NoReturn:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(Line, "draw", broken)
    monkeypatch.setattr(Line, "draw_record", broken)
    before = swallowed_failures()
    with log_context(correlation_id="c-1"), trace.use_span(SPAN):
        LOGGER.error("important")
        EARLY.error("important")
    for line in lines():
        assert line.items() >= {**OURS, **IDS, "event": "important", "level": "error"}.items()
        assert "password=***" in line["log_failure"]
    assert swallowed_failures() == before + 2


def test_a_counter_that_fails_does_not_reach_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several processes the counter is a file, on the disk that is full."""
    configure_service_logging("essays", "production")

    class Full:
        def inc(self) -> None:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(sink, "_SWALLOWED", Full())
    monkeypatch.setattr(sys, "stdout", None)
    before = swallowed_failures()
    LOGGER.info("lost")
    assert swallowed_failures() == before + 1


def test_a_level_without_a_name_is_the_next_lower_one(lines: Lines) -> None:
    """So that whoever counts lines by level counts these; names of other libraries stay."""
    logging.addLevelName(5, "TRACE")
    logging.root.setLevel(1)
    EARLY.log(25, "x")
    EARLY.log(5, "x")
    assert [line["level"] for line in lines()] == ["info", "trace"]


def test_warnings_are_lines(lines: Lines) -> None:
    """A warning has the ids and no secrets, as any record."""
    with log_context(correlation_id="c-1"), warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # `catch_warnings` put its own hook there
        configure_service_logging("essays", "production")
        warnings.warn("password=hunter2", DeprecationWarning, stacklevel=1)
    (line,) = lines()
    assert line.items() >= {**OURS, "correlation_id": "c-1", "level": "warning", "logger_name": "py.warnings"}.items()
    assert "DeprecationWarning: password=***" in line["event"]


PROGRAM_OF_A_SERVER = """
import logging, sys, uvicorn
from huleedu_service_libs.logging_utils import configure_service_logging
uvicorn.Config(None)  # as its command does, before the application is imported
logging.basicConfig(stream=sys.stdout, force=True)
hypercorn = logging.getLogger("hypercorn.error")
hypercorn.addHandler(logging.StreamHandler(sys.stderr))
kept = logging.FileHandler(sys.argv[1])
logging.getLogger("audit").addHandler(kept)
configure_service_logging("essays", "production")
logging.getLogger("uvicorn.access").info('%s - "%s %s HTTP/%s" %d', "1.2.3.4:5", "GET", "/x?token=hunter2", "1.1", 200)
logging.getLogger("uvicorn.error").warning("slow")
hypercorn.warning("slow")
logging.getLogger("audit").warning("seen")
"""


def test_what_servers_write_past_the_lines_becomes_lines(tmp_path: Path) -> None:
    """uvicorn, hypercorn and `basicConfig` bring handlers for the terminal; each record is one line of ours instead."""
    audit = tmp_path / "audit"
    done = subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-c", PROGRAM_OF_A_SERVER, str(audit)], capture_output=True, text=True, check=True
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["logger_name"] for line in found] == ["uvicorn.access", "uvicorn.error", "hypercorn.error", "audit"]
    assert found[0]["event"] == '1.2.3.4:5 - "GET /x?token=*** HTTP/1.1" 200'
    assert done.stderr == ""
    assert audit.read_text() == "seen\n"  # a file is no terminal


UNCONFIGURED = """
import atexit, logging
from huleedu_service_libs.logging_utils import create_service_logger
logger = create_service_logger("early")
try:
    raise ValueError("redis://:hunter2@host")
except ValueError:
    logging.getLogger("aiokafka").exception("password=hunter2")
    logger.exception("password=hunter2")
atexit.register(logger.info, "bye")
"""


def test_nothing_is_told_before_configuration() -> None:
    """Neither by our loggers nor by what the standard library prints; and the last line, that nobody calls, is whole."""
    done = subprocess.run(  # noqa: S603  # our own
        [sys.executable, "-c", UNCONFIGURED],
        env={**os.environ, "ENVIRONMENT": "production"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "hunter2" not in done.stdout + done.stderr
    assert "ValueError: redis://:***@host" in done.stderr
    first, last = map(json.loads, done.stdout.splitlines())
    assert "redis://:***@host" in first["exception"]
    assert last.items() >= {"event": "bye", "service_name": "unknown_service", "func_name": "?"}.items()
