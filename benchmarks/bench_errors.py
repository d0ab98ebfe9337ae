"""What an error costs: creating, raising and catching one, beside peers, in one run.

``make bench SUBJECT=errors``, or ``python benchmarks/bench_errors.py [--json FILE]``. The ratios are the result; the
absolute numbers are this machine's.
"""

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import BaseModel

from harness import in_short, versions_of, write_result
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
ROUNDS, BATCH = in_short(30, 2), in_short(1_000, 50)


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


def measure(run: Callable[[], object]) -> float:
    """Microseconds a call, in the fastest of the rounds: what else the machine does can only add."""
    rounds = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for _ in range(BATCH):
            run()
        rounds.append((time.perf_counter() - started) / BATCH * 1e6)
    return min(rounds)


def results() -> dict[str, float]:
    """Every figure, in microseconds."""
    configure_stack_capture(StackCapture(enabled=False))
    detail = create_test_error_detail(details={"field": "title", "value": 7})
    sent = answer(detail)
    figures = {
        "plain exception": measure(plain),
        "exception with a pydantic model": measure(model),
        "ours, without stack": measure(ours),
    }
    configure_stack_capture(StackCapture())
    return figures | {
        "ours, with stack": measure(ours),
        "plain exception + traceback.format_stack()": measure(plain_with_stack),
        "ours to HTTP answer": measure(lambda: answer(detail)),
        "HTTP answer back to ours": measure(lambda: error_from_response(sent.status, sent.body, sent.headers)),
    }


def main() -> int:
    """Print a table; write JSON when asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    target = parser.parse_args().json
    figures = results()
    base = figures["plain exception"]
    for name, value in figures.items():
        print(f"{name:<45} {value:8.2f} µs  {value / base:6.1f} x")
    machine = {"python": platform.python_version(), "cpus": os.cpu_count(), "machine": platform.machine()}
    rows = {name: {"median": value} for name, value in figures.items()}
    print(
        write_result(
            "errors",
            {"unit": "µs a call (fastest round)", "parts": {"an error": rows}, "versions": versions_of(["pydantic"])},
        )
    )
    if target:
        target.write_text(json.dumps({"machine": machine, "microseconds": figures}, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
