"""Service logs as configured: lazy binding, levels, environment, context, and what stands on a line."""

import asyncio
import copy
import io
import json
import logging
import os
import pickle
import sys
from datetime import datetime
from typing import Any

import pytest
import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from pydantic import BaseModel

from common_core.config_enums import Environment
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._log_pipeline.standard import RootHandler
from huleedu_service_libs.logging_utils import (
    configure_service_logging,
    create_service_logger,
    log_context,
    log_event_processing,
)

from .lines import IMPORTED_EARLY, line_of, lines_of, production

BOUND_EARLY = IMPORTED_EARLY.bind(component="c")


def test_logging_before_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """A logger works before anything is configured, also when the text does not fit its arguments."""
    create_service_logger().info("hello %s", "world")
    IMPORTED_EARLY.info("hello %d", "world")
    out = capsys.readouterr().out
    assert "hello world" in out
    assert "hello %d ('world',)" in out


@pytest.mark.parametrize("logger", [IMPORTED_EARLY, BOUND_EARLY, copy.copy(IMPORTED_EARLY)])
def test_early_logger_follows_later_configuration(logger: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What was made or bound at import renders as configured last."""
    production()
    logger.info("x")
    assert line_of(capsys)["logger_name"] == "early.module"
    configure_service_logging("essay-service", "development")
    logger.info("x")
    assert capsys.readouterr().out.startswith("20")


def test_json_lines_can_be_chosen_outside_production(capsys: pytest.CaptureFixture[str]) -> None:
    """The form of the lines and the name of the environment are two things."""
    configure_service_logging("essay-service", "development", json_lines=True)
    IMPORTED_EARLY.info("hej")
    line = line_of(capsys)
    assert (line["event"], line["environment"]) == ("hej", "development")


def test_production_line(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object a line, with place, time, service, environment and the caller's fields."""
    production()
    IMPORTED_EARLY.warning("Bok %s läst", "två", essay_id=3, extra={"a": {"b": 1}})
    line = line_of(capsys)
    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line.pop("lineno") > 0
    assert line == {
        "event": "Bok två läst",
        "level": "warning",
        "filename": "test_logging_utils.py",
        "func_name": "test_production_line",
        "logger_name": "early.module",
        "service_name": "essay-service",
        "service_version": "1.0.0",
        "environment": "production",
        "essay_id": 3,
        "extra": {"a": {"b": 1}},
    }


def test_nameless_logger_has_no_name(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a name nothing is bound."""
    production()
    create_service_logger().info("x")
    assert "logger_name" not in line_of(capsys)


@pytest.mark.parametrize("call", ["exception", "error"])
def test_exceptions_are_rendered(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback's text stands under `exception`."""
    production()
    try:
        os.environ["MISSING"]
    except KeyError:
        getattr(IMPORTED_EARLY, call)("failed", exc_info=True)
    line = line_of(capsys)
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert "KeyError: 'MISSING'" in line["exception"]


def test_exc_info_without_exception(capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for an exception where there is none costs nothing but its absence."""
    production()
    IMPORTED_EARLY.exception("no error")
    assert line_of(capsys)["event"] == "no error"


def test_context_variables_and_trace_stand_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Correlation id and the current span context reach both kinds of loggers, and end with their block."""
    production()
    parent = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))
    token = otel_context.attach(trace.set_span_in_context(parent))
    with log_context(correlation_id="c-1"):
        IMPORTED_EARLY.info("x")
        logging.getLogger("std").info("y")
    otel_context.detach(token)
    IMPORTED_EARLY.info("z")
    inside, standard, after = lines_of(capsys)
    for line in (inside, standard):
        assert (line["correlation_id"], line["trace_id"], line["span_id"]) == ("c-1", f"{0xABC:032x}", f"{0xDEF:016x}")
    assert not {"correlation_id", "trace_id"} & set(after)


def test_log_context_restores(capsys: pytest.CaptureFixture[str]) -> None:
    """A nested context gives back what it covered."""
    production()
    with log_context(a=1, b=1):
        with log_context(a=2):
            IMPORTED_EARLY.info("x")
        IMPORTED_EARLY.info("y")
    assert [(line["a"], line["b"]) for line in lines_of(capsys)] == [(2, 1), (1, 1)]


def test_standard_library_records_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """Records of other libraries have the same keys, their own call site and nested extra."""
    production()
    uvicorns = {"color_message": "\x1b[36mbroken %s\x1b[0m"}  # the same once more, for a terminal
    logging.getLogger("lib.x").error("broken %s", "pipe", extra={"peer": "h", **uvicorns})
    line = line_of(capsys)
    assert (line["event"], line["level"], line["logger_name"]) == ("broken pipe", "error", "lib.x")
    assert (line["filename"], line["func_name"]) == (
        "test_logging_utils.py",
        "test_standard_library_records_look_alike",
    )
    assert (line["service_name"], line["extra"]) == ("essay-service", {"peer": "h"})


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Handlers do not stack, other people's handlers stay."""
    others = [handler for handler in logging.root.handlers if not isinstance(handler, RootHandler)]
    for _ in range(3):
        production()
    kept = list(logging.root.handlers)
    assert [handler for handler in kept if not isinstance(handler, RootHandler)] == others
    assert len(kept) == len(others) + 1
    logging.getLogger("x").info("once")
    IMPORTED_EARLY.info("once")
    assert len(lines_of(capsys)) == 2


@pytest.mark.parametrize("level", ["warning", "WARNING", " Warn "])
def test_level_filters(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Events below the level are dropped, whichever way they come; case does not matter."""
    production(level)
    IMPORTED_EARLY.info("no")
    logging.getLogger("x").info("no")
    IMPORTED_EARLY.log(logging.INFO, "no")
    IMPORTED_EARLY.log(logging.ERROR, "yes")
    IMPORTED_EARLY.warning("yes")
    IMPORTED_EARLY.critical("yes")
    assert [line["level"] for line in lines_of(capsys)] == ["error", "warning", "critical"]
    assert not IMPORTED_EARLY.is_enabled_for(logging.INFO)


@pytest.mark.parametrize("level", ["LOUD", "", "10", None])
def test_unknown_level_is_refused(level: Any) -> None:
    """The error names the value and what is allowed; nothing is configured."""
    with pytest.raises(ValueError, match=rf"{level!r}.*DEBUG, INFO, WARNING, ERROR, CRITICAL"):
        configure_service_logging("svc", log_level=level)
    assert not structlog.is_configured()
    assert "SERVICE_NAME" not in os.environ


def test_environment_variables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Service name and environment are put into the process environment, unless they are there."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    configure_service_logging("first")
    configure_service_logging("second", log_level="info")
    assert (os.environ["SERVICE_NAME"], os.environ["ENVIRONMENT"]) == ("first", "production")
    IMPORTED_EARLY.info("x")
    assert line_of(capsys)["service_name"] == "second"


def test_environment_defaults_to_development(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an environment lines are for people; members of the enum are understood."""
    configure_service_logging("svc")
    assert os.environ["ENVIRONMENT"] == "development"
    IMPORTED_EARLY.info("hello", extra={"a": 1}, essay_id="e")
    out = capsys.readouterr().out
    assert "hello" in out
    assert "essay_id=e" in out
    assert "\x1b[" not in out
    configure_service_logging("svc", Environment.PRODUCTION)
    IMPORTED_EARLY.info("x")
    assert line_of(capsys)["environment"] == "production"


def test_colours_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours are for terminals."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    configure_service_logging("svc", "development")
    IMPORTED_EARLY.info("hello")
    assert "\x1b[" in terminal.getvalue()


def test_field_named_event_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """A field `event` does not collide with the event's text; the text may also come as a keyword."""
    production()
    IMPORTED_EARLY.info("text", event="field")
    IMPORTED_EARLY.info(event="keyword")
    first, second = lines_of(capsys)
    assert (first["event"], first["event_"], second["event"]) == ("text", "field", "keyword")


def test_ascii_terminal_gets_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON is UTF-8 whatever the locale says."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    production()
    IMPORTED_EARLY.info("åäö")
    assert json.loads(raw.getvalue().decode("utf-8"))["event"] == "åäö"


def test_structlog_tools_work() -> None:
    """`capture_logs` and `get_context` know our loggers."""
    production()
    with structlog.testing.capture_logs() as captured:
        BOUND_EARLY.info("x", a=1)
    assert captured == [{"logger_name": "early.module", "component": "c", "a": 1, "event": "x", "log_level": "info"}]
    assert structlog.get_context(BOUND_EARLY) == {"logger_name": "early.module", "component": "c"}


def test_binding(capsys: pytest.CaptureFixture[str]) -> None:
    """Binding makes new loggers, unbinding and starting anew as well."""
    production()
    logger = create_service_logger("n").bind(a=1).bind(b=2)
    logger.unbind("a").info("x")
    logger.new(c=3).info("y")
    first, second = lines_of(capsys)
    assert ("a" in first, first["b"], first["logger_name"]) == (False, 2, "n")
    assert (second["c"], "logger_name" in second) == (3, False)
    with pytest.raises(KeyError):
        logger.unbind("unknown")
    assert pickle.loads(pickle.dumps(logger))._context == logger._context  # noqa: S301  # our own


async def test_asynchronous_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """The asynchronous names of structlog exist."""
    production()
    await IMPORTED_EARLY.ainfo("x")
    await asyncio.gather(IMPORTED_EARLY.aerror("y"), IMPORTED_EARLY.awarning("z"))
    assert [line["level"] for line in lines_of(capsys)] == ["info", "error", "warning"]


class EssayReadV1(BaseModel):
    """An event's data."""

    essay_id: str


def test_log_event_processing(capsys: pytest.CaptureFixture[str]) -> None:
    """The event's identity is bound over what is there, and the rest of the context stays."""
    production()
    envelope = EventEnvelope[EssayReadV1](event_type="t", source_service="s", data=EssayReadV1(essay_id="e"))
    with log_context(request="r", correlation_id="old"):
        log_event_processing(logger=IMPORTED_EARLY, message="Processing", envelope=envelope, attempt=2)
        IMPORTED_EARLY.info("later")
    first, later = lines_of(capsys)
    identity = {
        "correlation_id": str(envelope.correlation_id),
        "event_id": str(envelope.event_id),
        "event_type": "t",
        "source_service": "s",
        "request": "r",
    }
    assert first.items() >= {**identity, "event_data_type": "EssayReadV1", "attempt": 2, "event": "Processing"}.items()
    assert later.items() >= identity.items()
    assert "event_data_type" not in later
