"""What an error costs: creating, raising and catching one, beside peers, in one run.

``make bench SUBJECT=errors``. The ratios are the result; the
absolute numbers are this machine's.
"""

import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from harness import Figure, figure, in_short, print_table, rows_of, versions_of, write_result
from huleedu_service_libs.error_handling import (
    HuleEduError,
    StackCapture,
    configure_stack_capture,
    create_test_error_detail,
    error_from_response,
    raise_validation_error,
)
from huleedu_service_libs.error_handling.http_mapping import answer

CORRELATION = uuid4()
ROUNDS, BATCH = in_short(101, 2), in_short(200, 20)


class _Detail(BaseModel):
    code: str
    message: str
    service: str
    details: dict[str, Any]


class PlainError(Exception):
    """Peer: a text, as most services raise."""


class ModelError(Exception):
    """Peer: an exception around a validated pydantic model, without ids, time and trace."""

    def __init__(self, detail: _Detail) -> None:
        super().__init__(detail.message)
        self.detail = detail


def plain() -> None:
    """Raise and catch the simplest exception."""
    with suppress(PlainError):
        raise PlainError("Title is too long")


def model() -> None:
    """Raise and catch a small pydantic model."""
    with suppress(ModelError):
        raise ModelError(
            _Detail(code="VALIDATION_ERROR", message="Title is too long", service="s", details={"field": "title"})
        )


def plain_with_stack() -> None:
    """The simplest exception, with the stack's text by the standard library."""
    traceback.format_stack()
    plain()


def ours() -> None:
    """Raise and catch by a factory: code, message, ids, time, trace, details."""
    with suppress(HuleEduError):
        raise_validation_error("s", "submit", "title", "Title is too long", CORRELATION, 7)


def _once(run: Callable[[], object]) -> float:
    started = time.process_time_ns()
    for _ in range(BATCH):
        run()
    return (time.process_time_ns() - started) / BATCH


def subjects() -> dict[str, tuple[StackCapture, Callable[[], object]]]:
    """By name, each with what is to be captured while it runs."""
    without, usual = StackCapture(enabled=False), StackCapture()
    detail = create_test_error_detail(details={"field": "title", "value": 7})
    sent = answer(detail)
    return {
        "ours, without stack": (without, ours),
        "ours, with stack": (usual, ours),
        "plain exception": (usual, plain),
        "exception with a pydantic model": (usual, model),
        "plain exception + traceback.format_stack()": (usual, plain_with_stack),
        "ours to HTTP answer": (usual, lambda: answer(detail)),
        "HTTP answer back to ours": (usual, lambda: error_from_response(sent.status, sent.body, sent.headers)),
    }


def results() -> dict[str, Figure]:
    """Every figure; in turn, so that a slow moment of the machine meets all of them."""
    samples: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS + 1):
        for name, (capture, run) in subjects().items():
            configure_stack_capture(capture)
            took = _once(run)
            if turn:  # the first one warms
                samples[name].append(took)
    configure_stack_capture(StackCapture())
    return {name: figure(times) for name, times in samples.items()}


def main() -> int:
    """Measure, print, write."""
    figures = results()
    print_table("An error, created, raised and caught", figures, {}, "plain exception")
    rows = rows_of(figures, scale=1e-3)
    content = {"unit": "µs of CPU a call (median of interleaved rounds)", "parts": {"an error": rows}}
    print(write_result("errors", {**content, "versions": versions_of(["pydantic"])}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
