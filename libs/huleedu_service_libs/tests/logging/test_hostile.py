"""What is done to loggers that nobody meant them for: odd values, odd calls, other people's handlers, readers that stop."""

import enum
import json
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

import pytest
import structlog
from opentelemetry import trace

from huleedu_service_libs._log_pipeline import console, sink
from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs._log_pipeline.logger import set_threshold, threshold
from huleedu_service_libs.logging_utils import (
    configure_service_logging,
    create_service_logger,
    log_context,
    swallowed_failures,
)

LOGGER = create_service_logger("essays.storage")
EARLY = logging.getLogger("essays.early")  # as other libraries have it
SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))
IDS = {"correlation_id": "c-1", "trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}
OURS = {"service_name": "essays", "service_version": "1.0.0", "environment": "production"}


@pytest.fixture(autouse=True)
def _restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SERVICE_NAME", "ENVIRONMENT", "SERVICE_VERSION", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    handlers, level, earlier = list(logging.root.handlers), logging.root.level, threshold()
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    logging.captureWarnings(capture=False)
    set_threshold(earlier)
    sink._COUNT.untold = 0
    os.environ.pop("SERVICE_NAME", None)
    os.environ.pop("ENVIRONMENT", None)


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """The lines since the last look; as JSON says it, so without NaN."""
    configure_service_logging("essays", "production", "DEBUG")

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    return lambda: [json.loads(line, parse_constant=refuse) for line in capsys.readouterr().out.splitlines()]


Lines = Callable[[], list[dict[str, Any]]]


@dataclass
class Unshown:
    """Its representation leaves the secret out; a renderer that looks at the fields would show it."""

    user: str
    password: str = field(default="hunter2", repr=False)


@dataclass
class Quiet:
    """Has a representation that tells nothing."""

    user: str
    api_key: str = "hunter2"

    def __repr__(self) -> str:
        return "<quiet>"


class Pair(NamedTuple):
    """Has names that a tuple's elements have not."""

    user: str
    password: str


class Url(enum.Enum):
    """Its representation tells the name alone."""

    DATABASE = "postgresql://u:hunter2@db/x"

    def __repr__(self) -> str:
        return self.name


@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("value", [Unshown("kalle"), Quiet("kalle"), Pair("kalle", "hunter2"), Url.DATABASE])
def test_a_secret_that_the_representation_hides_stays_hidden(
    environment: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data classes, named tuples and enumerations are shown by their fields, so their fields are what is looked at."""
    configure_service_logging("essays", environment)
    LOGGER.info("login", who=value)
    LOGGER.info("login", who=[{"deep": value}])
    LOGGER.info(value)
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert out.count("\n") == 3


def test_values_have_the_text_that_people_know(lines: Lines) -> None:
    """A decimal, a path, a duration are no calls of constructors, at the top or within."""
    values: dict[str, Any] = {"cost": Decimal("1.50"), "path": Path("/a/b"), "took": timedelta(seconds=90)}
    LOGGER.info("x", **values, within=values)
    (line,) = lines()
    shown = {"cost": "1.50", "path": "/a/b", "took": "0:01:30"}
    assert line.items() >= {**shown, "within": shown}.items()


def test_a_line_with_several_odd_values_is_json(lines: Lines) -> None:
    """One that JSON does not know beside one that the fast encoder refuses; the others keep their form."""
    LOGGER.info("x", share=float("nan"), text="\ud800", number=2**70, essay_id=UUID(int=1), on=date(2026, 5, 4))
    (line,) = lines()
    assert line["share"] is None
    assert (
        line.items() >= {"number": 2**70, "essay_id": str(UUID(int=1)), "on": "2026-05-04", "text": "\\ud800"}.items()
    )


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


@contextmanager
def _piped(monkeypatch: pytest.MonkeyPatch, patience_s: float = 0.2) -> Iterator[int]:
    """Standard output is a pipe; gives the end to read from."""
    reader, writer = os.pipe()
    monkeypatch.setattr(sink, "PATIENCE_S", patience_s)
    monkeypatch.setattr(sink, "_WRITER", sink._Writer())
    with os.fdopen(writer, "w") as stream:
        configure_service_logging("essays", "production")
        monkeypatch.setattr(sys, "stdout", stream)
        yield reader
    os.close(reader)


def _read_all(reader: int) -> list[dict[str, Any]]:
    os.set_blocking(reader, False)
    data = b""
    try:
        while part := os.read(reader, 65_536):
            data += part
    except BlockingIOError:
        pass
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.skipif(not hasattr(os, "RWF_NOWAIT"), reason="Linux only")
def test_a_reader_who_stops_reading_does_not_stop_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line waits, for a limited time; what does not fit is lost and counted, and told when there is room again."""
    with _piped(monkeypatch) as pipe:
        before, started = swallowed_failures(), time.monotonic()
        for number in range(2_000):
            LOGGER.info("line", number=number)
        lost = swallowed_failures() - before
        assert time.monotonic() - started < 10  # a blocking write would never end
        assert lost > 1_000
        kept = _read_all(pipe)
        assert [line["number"] for line in kept] == list(range(2_000 - lost))  # whole lines, in order
        LOGGER.info("again")
        again, told = _read_all(pipe)
        assert (again["event"], told["event"], told["lost"]) == ("again", "log_lines_lost", lost)
        assert told.items() >= OURS.items()


def test_a_slow_reader_gets_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long lines and short ones, larger together than the pipe: nothing is lost, nothing is torn."""
    with _piped(monkeypatch, patience_s=30.0) as pipe:
        read = bytearray()
        before = swallowed_failures()

        def slowly() -> None:
            while read.count(b"\n") < 200:
                read.extend(os.read(pipe, 10_000))
                time.sleep(0.001)

        thread = threading.Thread(target=slowly)
        thread.start()
        for number in range(200):
            LOGGER.info("line", number=number, text="word " * (number % 7) * 400)
        thread.join(timeout=30)
        assert [json.loads(line)["number"] for line in read.splitlines()] == list(range(200))
        assert swallowed_failures() == before


def test_a_reader_who_is_too_slow_does_not_set_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line would be taken a while later; together they wait a second, and then a tenth of the time."""
    now = waited = 0.0
    taken = False

    def ready(_descriptor: int, seconds: float) -> bool:
        nonlocal now, waited, taken
        wait = max(0.0, min(seconds, 0.05))
        now, waited, taken = now + wait, waited + wait, wait == 0.05
        return taken

    def write(_descriptor: int, data: bytes) -> int:
        nonlocal taken
        if not taken:
            raise BlockingIOError
        taken = False
        return len(data)

    monkeypatch.setattr(sink, "_monotonic", lambda: now)
    monkeypatch.setattr(sink, "_is_ready", ready)
    writer, lost = sink._Writer(), 0
    monkeypatch.setattr(writer, "_write", write)
    for _ in range(1_000):
        now += 0.01
        try:
            writer.write(1, b"line")
        except BlockingIOError:
            lost += 1
    assert waited <= 1.0 + 0.1 * now + 0.05
    assert 0 < lost < 1_000


def _console(capsys: pytest.CaptureFixture[str], call: Callable[[], None]) -> list[str]:
    configure_service_logging("essays", "development", "DEBUG")
    call()
    return capsys.readouterr().out.splitlines()


def test_what_is_logged_cannot_pass_for_something_else(capsys: pytest.CaptureFixture[str]) -> None:
    """No colour, no cursor, no line of its own; a text of several lines is indented."""
    text = "first\n2026-01-01T00:00:00Z [info     ] forged\x1b[2J\rover"
    shown = _console(capsys, lambda: LOGGER.info(text, **{"a\nb": text, "nested": [text]}, exc_info=ValueError(text)))
    assert "\x1b" not in "".join(shown)
    assert shown[0].startswith("20")
    assert all(line.startswith("    ") for line in shown[1:])
    assert r"a\nb=" in "".join(shown)


def test_columns_are_aligned_and_the_place_stands_last(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields begin at the same column, with wide letters in the event too, which take two places each."""

    def call() -> None:
        LOGGER.info("stored", essay_id=UUID(int=1))
        LOGGER.warning("日本語", essay_id=UUID(int=1))
        create_service_logger("x").critical("e\u0301", essay_id=UUID(int=1))

    plain, wide, accent = _console(capsys, call)
    begin = plain.index("essay_id=")
    assert plain[begin:].startswith("essay_id=00000000-0000-0000-0000-000000000001 test_hostile.py:")
    assert wide.index("essay_id=") == begin - 3
    assert accent.index("essay_id=") == begin + 1


def test_further_lines_of_a_text_stand_below_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """The columns stay columns: the first line has them all, the others come behind it."""
    first, second, third = _console(capsys, lambda: LOGGER.info("first\nsecond\nthird", words=3))
    assert "first   " in first
    assert " words=3 test_hostile.py:" in first
    assert (second, third) == ("    second", "    third")


def test_a_value_too_long_to_read_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    """The terminal stays usable; how long it was is told."""
    (line,) = _console(capsys, lambda: LOGGER.info("x", text="word " * 10_000, on=datetime(2026, 5, 4, 12, 0)))  # noqa: DTZ001
    assert len(line) < 2_500
    assert "(50002 characters)" in line
    assert "on=2026-05-04T12:00:00 " in line


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal that takes them, the variables decide."""

    class Terminal:
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    assert console.has_colours()
    monkeypatch.setenv(name, value)
    assert not console.has_colours()
