"""The short way to a line gives what the long way gives, or nothing."""

import enum
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace

from huleedu_service_libs._log_pipeline.line import Line
from huleedu_service_libs._log_pipeline.rendering import as_json
from huleedu_service_libs._log_pipeline.splicing import Splicer
from huleedu_service_libs._redaction import RedactionPolicy, configure_redaction

CONSTANT = {"service_name": "essay-service", "service_version": "1.0.0", "environment": "production"}
NOON = datetime(2026, 5, 4, 12, 30, 1, 250_000, tzinfo=UTC)
SHORT = Line(CONSTANT, as_json, now=lambda: NOON)
LONG = Line(CONSTANT, lambda line: as_json(line), now=lambda: NOON)  # noqa: PLW0108  # not `as_json` itself: no short way
SPLICER = Splicer(CONSTANT)
SPAN = trace.NonRecordingSpan(trace.SpanContext(0xABC, 0xDEF, is_remote=True))
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


class Grade(enum.Enum):
    """A value with a name."""

    PASS = "pass"


@dataclass(frozen=True)
class Login:
    """Holds a secret under its name."""

    password: str


def _call(line: Line, event: Any, context: dict[str, Any], fields: dict[str, Any]) -> Any:
    return line.draw("info", event, context, fields)


def _drawn(line: Line, event: Any, fields: dict[str, Any]) -> Any:
    def call() -> Any:  # `Line` expects frames of logging code above the caller's
        return _call(line, event, {"logger_name": "essays"}, dict(fields))

    return json.loads(call())


def _spliced(event: Any, fields: dict[str, Any]) -> bytes | None:
    SPLICER(NOON, "info", event, b"", dict(fields), b"}")  # learns the names
    return SPLICER(NOON, "info", event, b"", dict(fields), b',"lineno":1}')


@pytest.fixture
def _policy() -> Iterator[None]:
    yield
    configure_redaction(RedactionPolicy())


def test_an_ordinary_line_goes_the_short_way() -> None:
    """Ids, words, numbers and a sentence: complete and in order, with the caller's fields in the middle."""
    fields = {"essay_id": UUID(int=1), "words": 812, "note": 'stored, at "last"!', "on": date(2026, 5, 4), "no": None}
    assert _spliced("Essay stored", fields) == (
        b'{"timestamp":"2026-05-04T12:30:01.250000Z","level":"info","event":"Essay stored","service_name":"essay-service",'
        b'"service_version":"1.0.0","environment":"production","essay_id":"00000000-0000-0000-0000-000000000001",'
        b'"words":812,"note":"stored, at \\"last\\"!","on":"2026-05-04","no":null,"lineno":1}'
    )


@pytest.mark.parametrize(
    "value",
    [
        "password=hunter2",
        "https://u:hunter2@host/x",
        '("Authorization", "hunter2")',
        "Basic dXNlcjpodW50ZXIy",
        "BEARER\u00a0hunter2hunter2hunter2hunter2",
        TOKEN,
        {"password": "hunter2"},
        ["password", "hunter2"],
        Login("hunter2"),
        b"secret=hunter2",
        NOON,
        "\ud800",
        2**70,
        "x" * 70_000,
    ],
)
def test_what_may_hide_something_goes_the_long_way(value: Any) -> None:
    """Texts with a mark of a secret, structures, what JSON cannot hold, and texts without measure."""
    assert _spliced("Login", {"detail": value}) is None


@pytest.mark.parametrize(
    "name", ["password", "timestamp", "event", "level", "exc_info", "trace_id", "service_name", "a b", 'a"b']
)
def test_a_name_that_is_special_goes_the_long_way(name: str) -> None:
    """Names of secrets, and those that would stand on the line twice."""
    assert _spliced("Login", {name: "x"}) is None


@pytest.mark.parametrize("event", [b"Login", None, "x" * 300])
def test_an_event_that_is_unusual_goes_the_long_way(event: Any) -> None:
    """No text, or a long one."""
    assert _spliced(event, {"essay_id": "e"}) is None


@pytest.mark.usefixtures("_policy")
def test_the_short_way_follows_the_policy() -> None:
    """Names that it took for plain, and events that it remembers, are looked at again."""
    assert _spliced("From kalle@example.org", {"nickname": "kalle"}) is not None
    configure_redaction(RedactionPolicy(emails=True, names=frozenset({"nickname"})))
    assert _spliced("From kalle@example.org", {"nickname": "kalle"}) is None
    line = _spliced("From kalle@example.org", {"essay_id": "e"})
    assert line is not None
    assert b"kalle" not in line


NAMES = st.sampled_from(
    [
        "essay_id",
        "words",
        "detail",
        "topic",
        "reason",
        "seconds",
        "password",
        "token",
        "event",
        "lineno",
        "trace_id",
        "service_name",
        "exception",
    ]
)
PIECES = st.lists(
    st.sampled_from(["a", "Zebra-1", " ", ":", "=", "@", "(", "{", "}", "[", '"', "\\", "\n", ",", "é", "\u2003"])
    | st.sampled_from(["bearer", "Basic", "eyJ", "password", "secret", TOKEN, "hunter2", "://", "\ud800", "."])
    | st.text(max_size=5),
    max_size=8,
).map("".join)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.uuids() | st.datetimes() | st.just(Grade.PASS)
VALUES = st.recursive(
    PIECES | SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3)
)


@given(
    event=PIECES, fields=st.dictionaries(NAMES, VALUES, max_size=6), span=st.sampled_from([SPAN, trace.INVALID_SPAN])
)
def test_both_ways_give_the_same_line(event: str, fields: dict[str, Any], span: trace.Span) -> None:
    """Whatever is logged: the same names in the same order, the same values, nothing told that the other hides."""
    with trace.use_span(span):
        _drawn(SHORT, event, fields)  # learns the names
        short, long = (_drawn(each, event, fields) for each in (SHORT, LONG))
    assert list(short.items()) == list(long.items())
