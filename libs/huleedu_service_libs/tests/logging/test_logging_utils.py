"""Service logs: lazy binding, JSON lines, console lines, and that no log call ever raises."""

import asyncio
import copy
import io
import json
import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import context as otel_context
from opentelemetry import trace
from prometheus_client import REGISTRY
from pydantic import BaseModel

from common_core.config_enums import Environment
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._log_pipeline import sink
from huleedu_service_libs._log_pipeline.logger import set_threshold, threshold
from huleedu_service_libs.logging_utils import (
    configure_service_logging,
    create_service_logger,
    log_context,
    log_event_processing,
    swallowed_failures,
)

IMPORTED_EARLY = create_service_logger("early.module")
BOUND_EARLY = IMPORTED_EARLY.bind(component="c")


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test starts unconfigured, and leaves the process as it was."""
    monkeypatch.delenv("SERVICE_NAME", raising=False)
    monkeypatch.delenv("ENVIRONMENT", raising=False)
    handlers, level, earlier = list(logging.root.handlers), logging.root.level, threshold()
    structlog.reset_defaults()
    with structlog.contextvars.bound_contextvars():
        yield
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    set_threshold(earlier)
    os.environ.pop("SERVICE_NAME", None)
    os.environ.pop("ENVIRONMENT", None)
    logging.captureWarnings(capture=False)
    sink._COUNT.untold = 0


def _lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def _line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    (line,) = _lines(capsys)
    return line


def _production(level: str = "DEBUG") -> None:
    configure_service_logging("essay-service", "production", level)


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
    _production()
    logger.info("x")
    assert _line(capsys)["logger_name"] == "early.module"
    configure_service_logging("essay-service", "development")
    logger.info("x")
    assert capsys.readouterr().out.startswith("20")


def test_json_lines_can_be_chosen_outside_production(capsys: pytest.CaptureFixture[str]) -> None:
    """The form of the lines and the name of the environment are two things."""
    configure_service_logging("essay-service", "development", json_lines=True)
    IMPORTED_EARLY.info("hej")
    line = _line(capsys)
    assert (line["event"], line["environment"]) == ("hej", "development")


def test_production_line(capsys: pytest.CaptureFixture[str]) -> None:
    """One JSON object a line, with place, time, service, environment and the caller's fields."""
    _production()
    IMPORTED_EARLY.warning("Bok %s läst", "två", essay_id=3, extra={"a": {"b": 1}})
    line = _line(capsys)
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
    _production()
    create_service_logger().info("x")
    assert "logger_name" not in _line(capsys)


@pytest.mark.parametrize("call", ["exception", "error"])
def test_exceptions_are_rendered(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback's text stands under `exception`."""
    _production()
    try:
        os.environ["MISSING"]
    except KeyError:
        getattr(IMPORTED_EARLY, call)("failed", exc_info=True)
    line = _line(capsys)
    assert line["level"] == "error"
    assert "Traceback" in line["exception"]
    assert "KeyError: 'MISSING'" in line["exception"]


def test_exc_info_without_exception(capsys: pytest.CaptureFixture[str]) -> None:
    """Asking for an exception where there is none costs nothing but its absence."""
    _production()
    IMPORTED_EARLY.exception("no error")
    assert _line(capsys)["event"] == "no error"


def test_context_variables_and_trace_stand_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Correlation id and the current span context reach both kinds of loggers, and end with their block."""
    _production()
    parent = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))
    token = otel_context.attach(trace.set_span_in_context(parent))
    with log_context(correlation_id="c-1"):
        IMPORTED_EARLY.info("x")
        logging.getLogger("std").info("y")
    otel_context.detach(token)
    IMPORTED_EARLY.info("z")
    inside, standard, after = _lines(capsys)
    for line in (inside, standard):
        assert (line["correlation_id"], line["trace_id"], line["span_id"]) == ("c-1", f"{0xABC:032x}", f"{0xDEF:016x}")
    assert not {"correlation_id", "trace_id"} & set(after)


def test_log_context_restores(capsys: pytest.CaptureFixture[str]) -> None:
    """A nested context gives back what it covered."""
    _production()
    with log_context(a=1, b=1):
        with log_context(a=2):
            IMPORTED_EARLY.info("x")
        IMPORTED_EARLY.info("y")
    assert [(line["a"], line["b"]) for line in _lines(capsys)] == [(2, 1), (1, 1)]


def test_standard_library_records_look_alike(capsys: pytest.CaptureFixture[str]) -> None:
    """Records of other libraries have the same keys, their own call site and nested extra."""
    _production()
    logging.getLogger("lib.x").error("broken %s", "pipe", extra={"peer": "h"})
    line = _line(capsys)
    assert (line["event"], line["level"], line["logger_name"]) == ("broken pipe", "error", "lib.x")
    assert (line["filename"], line["func_name"]) == (
        "test_logging_utils.py",
        "test_standard_library_records_look_alike",
    )
    assert (line["service_name"], line["extra"]) == ("essay-service", {"peer": "h"})


def test_standard_library_record_that_does_not_format_keeps_both(capsys: pytest.CaptureFixture[str]) -> None:
    """A record whose arguments do not fit is shown with them, as our own loggers do; nothing is printed elsewhere."""
    _production()
    logging.root.handlers[:] = logging.root.handlers[-1:]  # pytest's own raises
    before = swallowed_failures()
    logging.getLogger("lib").error("number %d", "password=hunter2")
    out, err = capsys.readouterr()
    assert (json.loads(out)["event"], err) == ("number %d ('password=***,)", "")
    assert swallowed_failures() == before


def test_configuring_again_replaces(capsys: pytest.CaptureFixture[str]) -> None:
    """Handlers do not stack, other people's handlers stay."""
    before = list(logging.root.handlers)
    for _ in range(3):
        _production()
    assert len(logging.root.handlers) == len(before) + 1
    logging.getLogger("x").info("once")
    IMPORTED_EARLY.info("once")
    assert len(_lines(capsys)) == 2


@pytest.mark.parametrize("level", ["warning", "WARNING", " Warn "])
def test_level_filters(level: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Events below the level are dropped, whichever way they come; case does not matter."""
    _production(level)
    IMPORTED_EARLY.info("no")
    logging.getLogger("x").info("no")
    IMPORTED_EARLY.log(logging.INFO, "no")
    IMPORTED_EARLY.log(logging.ERROR, "yes")
    IMPORTED_EARLY.warning("yes")
    IMPORTED_EARLY.critical("yes")
    assert [line["level"] for line in _lines(capsys)] == ["error", "warning", "critical"]
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
    assert _line(capsys)["service_name"] == "second"


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
    assert _line(capsys)["environment"] == "production"


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


class Unprintable:
    """Raises wherever it is asked for its text."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")


class Voiceless:
    """Has a representation, but raises when it is asked for its text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")

    def __repr__(self) -> str:
        return "<voiceless>"


class Mute(Unprintable):
    """Has neither."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize(("value", "shown"), [(Voiceless(), "<voiceless>"), (Mute(), "<unprintable Mute>")])
def test_a_value_without_text_never_raises(
    environment: str, value: object, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the event, as an argument, as a field: the call returns, and a line says what can be said."""
    configure_service_logging("svc", environment)
    calls: list[Callable[[], Any]] = [
        lambda: IMPORTED_EARLY.info(value),
        lambda: IMPORTED_EARLY.info(value, "argument"),
        lambda: IMPORTED_EARLY.info("essay %s", value),
        lambda: IMPORTED_EARLY.info("essay", value=value),
        lambda: IMPORTED_EARLY.bind(value=value).info("essay"),
    ]
    for call in calls:
        call()
        out = capsys.readouterr().out
        assert shown in out or "essay" in out


def test_a_broken_pipeline_survives_a_broken_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Even the line that stands for a failed one can be written when the event has no text."""
    _production()
    structlog.configure(processors=[])  # what comes out of it is no line
    before = swallowed_failures()
    IMPORTED_EARLY.error(Mute())
    assert _line(capsys)["event"] == "<unprintable Mute>"
    assert swallowed_failures() == before + 1


def test_failures_are_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `swallowed_failures` says can be watched from outside as well."""
    _production()

    def metric() -> float:
        return REGISTRY.get_sample_value("huleedu_log_failures_total") or 0.0

    before, counted = metric(), swallowed_failures()
    monkeypatch.setattr(sys, "stdout", None)
    IMPORTED_EARLY.info("lost")
    logging.getLogger("x").info("lost")
    assert metric() - before == swallowed_failures() - counted == 2


def _cycle() -> list[Any]:
    cycle: list[Any] = []
    cycle.append(cycle)
    return cycle


@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"\xff", 2**70, float("nan"), "\ud800", {(1, 2): 3}, Unprintable(), _cycle(), ValueError("v")],
)
def test_any_value_can_be_logged(environment: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What JSON cannot hold is rendered by repr; the line arrives whatever the value is."""
    configure_service_logging("svc", environment)
    IMPORTED_EARLY.info("odd", value=value, other="kept")
    out = capsys.readouterr().out
    assert "odd" in out
    if environment == "production":
        line = json.loads(out)
        assert line["other"] == "kept" or "log_failure" in line
    if not isinstance(value, Unprintable):
        assert "kept" in out


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    event=st.text(),
    fields=st.dictionaries(
        st.text(min_size=1),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates(),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
            max_leaves=6,
        ),
        max_size=4,
    ),
)
def test_every_call_gives_one_json_line(event: str, fields: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the text and the fields, even fields named like ours: one call, one JSON object, no error."""
    _production()
    capsys.readouterr()
    IMPORTED_EARLY.info(event, **{name: value for name, value in fields.items() if name != "exc_info"})
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert "event" in json.loads(line)


def test_field_named_event_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """A field `event` does not collide with the event's text; the text may also come as a keyword."""
    _production()
    IMPORTED_EARLY.info("text", event="field")
    IMPORTED_EARLY.info(event="keyword")
    first, second = _lines(capsys)
    assert (first["event"], first["event_"], second["event"]) == ("text", "field", "keyword")


def test_broken_stdout_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed, broken or missing standard output neither raises nor stays unseen."""
    _production()
    closed = io.TextIOWrapper(io.BytesIO())
    closed.close()
    for stream in (closed, None):
        before = swallowed_failures()
        monkeypatch.setattr(sys, "stdout", stream)
        IMPORTED_EARLY.info("lost")
        logging.getLogger("x").info("lost")
        assert swallowed_failures() == before + 2


def test_failing_processor_leaves_a_short_line(capsys: pytest.CaptureFixture[str]) -> None:
    """When the pipeline itself breaks, the event still appears, with the cause."""
    _production()

    def broken(*_args: Any) -> Any:
        raise RuntimeError("processor")

    structlog.configure(processors=[broken])
    before = swallowed_failures()
    IMPORTED_EARLY.error("important")
    line = _line(capsys)
    assert (line["event"], line["level"]) == ("important", "error")
    assert "processor" in line["log_failure"]
    assert swallowed_failures() == before + 1


def test_ascii_terminal_gets_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON is UTF-8 whatever the locale says."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    _production()
    IMPORTED_EARLY.info("åäö")
    assert json.loads(raw.getvalue().decode("utf-8"))["event"] == "åäö"


def test_structlog_tools_work() -> None:
    """`capture_logs` and `get_context` know our loggers."""
    _production()
    with structlog.testing.capture_logs() as captured:
        BOUND_EARLY.info("x", a=1)
    assert captured == [{"logger_name": "early.module", "component": "c", "a": 1, "event": "x", "log_level": "info"}]
    assert structlog.get_context(BOUND_EARLY) == {"logger_name": "early.module", "component": "c"}


def test_binding(capsys: pytest.CaptureFixture[str]) -> None:
    """Binding makes new loggers, unbinding and starting anew as well."""
    _production()
    logger = create_service_logger("n").bind(a=1).bind(b=2)
    logger.unbind("a").info("x")
    logger.new(c=3).info("y")
    first, second = _lines(capsys)
    assert ("a" in first, first["b"], first["logger_name"]) == (False, 2, "n")
    assert (second["c"], "logger_name" in second) == (3, False)
    with pytest.raises(KeyError):
        logger.unbind("unknown")
    assert pickle.loads(pickle.dumps(logger))._context == logger._context  # noqa: S301  # our own


async def test_asynchronous_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """The asynchronous names of structlog exist."""
    _production()
    await IMPORTED_EARLY.ainfo("x")
    await asyncio.gather(IMPORTED_EARLY.aerror("y"), IMPORTED_EARLY.awarning("z"))
    assert [line["level"] for line in _lines(capsys)] == ["info", "error", "warning"]


class EssayReadV1(BaseModel):
    """An event's data."""

    essay_id: str


def test_log_event_processing(capsys: pytest.CaptureFixture[str]) -> None:
    """The event's identity is bound over what is there, and the rest of the context stays."""
    _production()
    envelope = EventEnvelope[EssayReadV1](event_type="t", source_service="s", data=EssayReadV1(essay_id="e"))
    with log_context(request="r", correlation_id="old"):
        log_event_processing(logger=IMPORTED_EARLY, message="Processing", envelope=envelope, attempt=2)
        IMPORTED_EARLY.info("later")
    first, later = _lines(capsys)
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
