"""A deadline for the work on one request, wherever that work goes.

`deadline` opens one for everything inside; a deadline inside another can only be earlier. Retries,
time limits and HTTP clients of this package read it. Between processes it travels as the time
that is *left*, in the header ``X-Request-Timeout-Ms``: clocks of two machines need not agree.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from huleedu_service_libs._clock import monotonic
from huleedu_service_libs._scopes import restore
from huleedu_service_libs.resilience.errors import DeadlineExceededError

__all__ = ["DEADLINE_HEADER", "check_deadline", "deadline", "deadline_headers", "remaining", "seconds_of"]

DEADLINE_HEADER = "X-Request-Timeout-Ms"

_LONGEST_MS = 24 * 3600 * 1000.0

_ends_at: ContextVar[float | None] = ContextVar("huleedu_deadline", default=None)


@contextmanager
def deadline(seconds: float | None) -> Iterator[None]:
    """Give everything inside at most ``seconds``; ``None`` changes nothing.

    Nothing is cancelled by it: the guards inside stop in time.
    """
    if seconds is None:
        yield
        return
    outer = _ends_at.get()
    own = monotonic() + seconds
    token = _ends_at.set(own if outer is None else min(own, outer))
    try:
        yield
    finally:
        restore(_ends_at, token)


def remaining() -> float | None:
    """Seconds left, never below 0; ``None`` without a deadline."""
    ends_at = _ends_at.get()
    return None if ends_at is None else max(0.0, ends_at - monotonic())


def check_deadline(name: str) -> None:
    """Stop here if nobody waits for the result any longer.

    Raises:
        DeadlineExceededError: The deadline has passed; the text names ``name``.
    """
    if remaining() == 0:
        raise DeadlineExceededError(name, 0.0)


def deadline_headers() -> dict[str, str]:
    """The header that carries what is left, for a request or an event; empty without a deadline."""
    left = remaining()
    return {} if left is None else {DEADLINE_HEADER: str(int(left * 1000))}


def seconds_of(headers: Mapping[str, str]) -> float | None:
    """What a header that came in allows; ``None`` when it is absent or no sensible number."""
    text = next((value for name, value in headers.items() if name.lower() == DEADLINE_HEADER.lower()), "")
    if not (text.isascii() and text.isdigit()):
        return None
    milliseconds = float(text)
    return milliseconds / 1000 if milliseconds <= _LONGEST_MS else None
