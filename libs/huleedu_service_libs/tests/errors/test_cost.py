"""What raising an error costs, as a ratio, so that a busy machine does not fail it."""

import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from uuid import uuid4

from pydantic import BaseModel

from huleedu_service_libs.error_handling import (
    HuleEduError,
    StackCapture,
    configure_stack_capture,
    raise_validation_error,
)

CORRELATION = uuid4()


class _Peer(BaseModel):
    code: str
    message: str
    details: dict[str, str]


def _best(run: Callable[[], object]) -> float:
    """Processor seconds of the fastest of many short rounds."""
    rounds = []
    for _ in range(20):
        started = time.process_time()
        for _ in range(200):
            run()
        rounds.append(time.process_time() - started)
    return min(rounds)


def _ours() -> None:
    with suppress(HuleEduError):
        raise_validation_error("s", "o", "title", "Too long", CORRELATION)


def _peer() -> None:
    with suppress(ValueError):
        raise ValueError(_Peer(code="VALIDATION_ERROR", message="Too long", details={"field": "title"}))


def test_an_error_without_stack_is_cheap() -> None:
    """Code, ids, time, trace and details cost at most twelve times a small model in an exception (measured: 1 to 3)."""
    try:
        configure_stack_capture(StackCapture(enabled=False))
        assert _best(_ours) < 12 * _best(_peer)
    finally:
        configure_stack_capture(StackCapture())


def test_a_stack_costs_less_than_the_standard_librarys() -> None:
    """In a deep stack the whole error is cheaper than the text of the stack alone by `traceback` would be."""
    assert _best(_ours) < _best(traceback.format_stack)
