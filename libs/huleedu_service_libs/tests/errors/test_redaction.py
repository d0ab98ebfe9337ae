"""Nothing secret gets out: texts, fields, details, answers, spans and logs; and nothing hostile breaks the way out."""

import dataclasses
import io
import json
import logging
import sys
from collections import UserDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import BaseModel

from common_core.error_enums import ErrorCode
from huleedu_service_libs._plain import flat_entries, plain, plain_text, redacted_field
from huleedu_service_libs.error_handling import (
    HuleEduError,
    create_test_error_detail,
    format_error_for_logging,
)
from huleedu_service_libs.error_handling.http_mapping import answer
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger

SECRET = "hunter2-S3cr3t"


class _Model(BaseModel):
    password: str = SECRET
    inner: list[Any] = []


@dataclasses.dataclass
class _Data:
    api_key: str = SECRET


class _Hostile:
    """Raises, whatever is asked of it."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    def __hash__(self) -> int:
        raise RuntimeError


class _Endless(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError


def _cycle() -> list[Any]:
    one: list[Any] = []
    one.append({"again": one})
    return one


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.text(st.characters(categories=["Cs", "Cc", "Lu"]))
    | st.binary()
    | st.uuids()
    | st.datetimes()
    | st.decimals()
    | st.complex_numbers()
    | st.sampled_from([ErrorCode.TIMEOUT, object(), print, int, ..., -(2**64)])
    | st.builds(int, st.just("9" * 4000))
    | st.builds(pow, st.just(10), st.just(5000))
    | st.builds(_Hostile)
    | st.builds(_Endless)
    | st.builds(_cycle)
    | st.builds(_Model)
    | st.builds(_Data)
    | st.builds(ValueError, st.just(f"password={SECRET}"))
    | st.builds(lambda: {"db": f"postgres://u:{SECRET}@h/x", "nested": {"Token": [SECRET]}})
    | st.builds(UserDict, st.just({"client_secret": SECRET}))
    | st.builds(f"Authorization: Bearer {SECRET}".encode)
)
SECRET_NAMES = st.sampled_from(["password", "API-Key", "accessToken", "cookie", "Authorization", "secret"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=5) | st.integers() | st.none(), inner, max_size=4)
        | st.dictionaries(SECRET_NAMES, st.just(SECRET) | st.just([SECRET]) | st.just({"x": SECRET}), max_size=2)
        | st.builds(lambda value: _Model(inner=[value]), inner)
    ),
    max_leaves=12,
)
DETAILS = st.dictionaries(st.text(max_size=8) | st.just(f"Bearer {SECRET}"), VALUES, max_size=4) | st.dictionaries(
    SECRET_NAMES, st.just(SECRET), min_size=1, max_size=2
)


@contextmanager
def _standard_output() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    with patch.object(sys, "stdout", stream):
        yield stream


@given(details=DETAILS)
@settings(max_examples=150)
def test_hostile_details_neither_break_nor_leak(details: dict[str, Any]) -> None:
    """Answer, problem, log fields, rendered log lines and span of any details can be made, and hold no secret."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with provider.get_tracer("t").start_as_current_span("s"):
        error = HuleEduError(create_test_error_detail(message=f"token={SECRET}", details=details, capture_stack=True))
    detail = error.error_detail

    for accept in (None, "application/problem+json"):
        body = answer(detail, accept=accept).body
        json.loads(body)
        assert SECRET.encode() not in body
    assert SECRET not in json.dumps(format_error_for_logging(detail))
    assert SECRET not in exporter.get_finished_spans()[0].to_json()
    with _standard_output() as stream:
        create_service_logger("t").error(
            "it failed", details=details, **{f"x.{name}": value for name, value in details.items()}
        )
    assert SECRET not in stream.getvalue()


@pytest.fixture(autouse=True, name="logging_as_in_production")
def _logging_as_in_production(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ENVIRONMENT", "testing")  # the configuration sets both where they are unset, for good
    monkeypatch.setenv("SERVICE_NAME", "svc")
    root = logging.root
    level, handlers = root.level, list(root.handlers)
    import structlog  # noqa: PLC0415  # only to put it back

    configure_service_logging("svc", "production")
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _fail() -> None:
    raise ValueError(f"postgres://u:{SECRET}@h")


@pytest.mark.parametrize("environment", ["production", "development"])
def test_logs_hide_secrets_everywhere(environment: str) -> None:
    """Event, fields, objects and tracebacks, of our loggers and of the standard library's, as JSON and on the console."""
    configure_service_logging("svc", environment)
    with _standard_output() as stream:
        logger = create_service_logger("t")
        try:
            _fail()
        except ValueError:
            logger.exception("password=%s", SECRET, token=SECRET, obj=_Data(), extra={"headers": {"Cookie": SECRET}})
            logging.getLogger("other").exception("password=%s", SECRET, extra={"api_key": SECRET})
    assert stream.getvalue().count("***") >= 8
    assert SECRET not in stream.getvalue()


def test_what_holds_no_secret_stays_itself() -> None:
    """The renderer decides how an ordinary object looks."""
    value = object()
    assert redacted_field("x", value) is value
    assert redacted_field("x", 5) == 5
    hostile = _Hostile()
    assert redacted_field("x", hostile) is hostile


def test_size_is_bounded() -> None:
    """Neither long texts, nor long lists, nor depth make an answer large."""
    deep: Any = "x"
    for _ in range(100):
        deep = {"d": deep}
    huge = {"text": "x" * 10**6, "list": list(range(10**5)), "deep": deep, "many": {str(n): n for n in range(10**5)}}
    body = answer(create_test_error_detail(details=huge)).body
    assert len(body) < 64_000
    assert "100000 items in all" in body.decode()


def test_all_texts_of_a_value_together_are_bounded() -> None:
    """Two thousand long texts neither make a large answer nor take long; the remark tells how long they were."""
    shown = plain({"texts": ["x_" * 4_000] * 1_990})
    assert len(json.dumps(shown)) < 200_000
    assert shown["texts"][0] == "x_" * 4_000
    assert shown["texts"][-1] == "… (8000 characters)"


def test_long_log_texts_are_cut() -> None:
    """A log field keeps its first 64 thousand characters, and says how many there were."""
    shown = redacted_field("event", "word " * 200_000)
    assert len(shown) < 66_000
    assert shown.endswith("… (1000000 characters)")


@pytest.mark.parametrize("before", range(8_140, 8_200, 7))
@pytest.mark.parametrize("text", [f"postgres://u:{SECRET}@host/db", f"password={SECRET}", f"sent Bearer {SECRET}"])
def test_a_cut_shows_no_half_secret(before: int, text: str) -> None:
    """Wherever a long text is cut, nothing of a secret is left in front of the cut."""
    shown = plain_text(f"{'x' * before} {text} {'and so on ' * 300}")
    assert SECRET[:4] not in shown
    assert shown.startswith("x" * min(before, 8_192))


def test_pairs_are_entries() -> None:
    """Headers as pairs, and mappings that name what their value is, hide like fields of that name."""
    headers = [("x-api-key", SECRET), (b"cookie", SECRET.encode()), ["accept", "text/html"], [b"authorization", b"x y"]]
    assert plain({"headers": headers})["headers"] == [
        ["x-api-key", "***"],
        ["cookie", "***"],
        ["accept", "text/html"],
        ["authorization", "***"],
    ]
    assert SECRET not in str(redacted_field("headers", headers))
    for name in ("name", "key", "field"):
        assert plain({name: "password", "value": SECRET}) == {name: "password", "value": "***"}
    assert plain({"field": "title", "value": "x"}) == {"field": "title", "value": "x"}
    assert flat_entries({"field": "password", "value": SECRET})["value"] == "***"
    assert plain({"loc": ("body", "password"), "input": SECRET})["input"] == "***"
