"""No log call ever raises: odd values, broken pipelines and outputs cost the line at most, and are counted."""

import io
import json
import logging
import sys
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from huleedu_service_libs.logging_utils import configure_service_logging, swallowed_failures

from .lines import IMPORTED_EARLY, line_of, production


def test_standard_library_record_that_does_not_format_keeps_both(capsys: pytest.CaptureFixture[str]) -> None:
    """A record whose arguments do not fit is shown with them, as our own loggers do; nothing is printed elsewhere."""
    production()
    logging.root.handlers[:] = logging.root.handlers[-1:]  # pytest's own raises
    before = swallowed_failures()
    logging.getLogger("lib").error("number %d", "password=hunter2")
    out, err = capsys.readouterr()
    assert (json.loads(out)["event"], err) == ("number %d ('password=***,)", "")
    assert swallowed_failures() == before


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
    calls: list[tuple[Callable[[], Any], str]] = [
        (lambda: IMPORTED_EARLY.info(value), shown),
        (lambda: IMPORTED_EARLY.info(value, "argument"), shown),
        (lambda: IMPORTED_EARLY.info("essay %s of %s", value, "kept"), "'kept')"),
        (lambda: IMPORTED_EARLY.info("essay", value=value), "essay"),
        (lambda: IMPORTED_EARLY.bind(value=value).info("essay"), "essay"),
    ]
    for call, event in calls:
        call()
        out = capsys.readouterr().out
        assert out.count("\n") == 1
        assert event in out
        assert shown in out


def test_a_broken_pipeline_survives_a_broken_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Even the line that stands for a failed one can be written when the event has no text."""
    production()
    structlog.configure(processors=[])  # what comes out of it is no line
    before = swallowed_failures()
    IMPORTED_EARLY.error(Mute())
    assert line_of(capsys)["event"] == "<unprintable Mute>"
    assert swallowed_failures() == before + 1


def test_failures_are_a_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `swallowed_failures` says can be watched from outside as well."""
    production()

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
        assert (line["event"], line["other"], "log_failure" in line) == ("odd", "kept", False)
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
    production()
    capsys.readouterr()
    IMPORTED_EARLY.info(event, **{name: value for name, value in fields.items() if name != "exc_info"})
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert "event" in json.loads(line)


def test_broken_stdout_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed, broken or missing standard output neither raises nor stays unseen."""
    production()
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
    production()

    def broken(*_args: Any) -> Any:
        raise RuntimeError("processor")

    structlog.configure(processors=[broken])
    before = swallowed_failures()
    IMPORTED_EARLY.error("important")
    line = line_of(capsys)
    assert (line["event"], line["level"]) == ("important", "error")
    assert "processor" in line["log_failure"]
    assert swallowed_failures() == before + 1
