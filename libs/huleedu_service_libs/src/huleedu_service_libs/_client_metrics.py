"""What the Kafka and Redis clients tell of errors: counters, and the lines that all of Redis' parts log alike.

Counted is which errors a client swallowed, and what it healed. Knows no driver.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._metrics import counter
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = [
    "KAFKA_REBUILDS",
    "KAFKA_SWALLOWED",
    "log_redis_failure",
    "note_redis_swallowed",
]

KAFKA_SWALLOWED = counter(
    "huleedu_kafka_client_swallowed_errors_total",
    "Errors that the Kafka client logged and did not raise",
    ("client_id", "operation"),
)

KAFKA_REBUILDS = counter(
    "huleedu_kafka_client_producer_rebuilds_total",
    "Producers replaced after an error that leaves a gap in their sequence numbers",
    ("client_id", "reason"),
)

_SWALLOWED = counter(
    "huleedu_redis_client_swallowed_errors_total",
    "Errors that the Redis client logged and did not raise",
    ("client_id", "operation"),
)

_FAILURES = counter(
    "huleedu_redis_client_errors_total",
    "Errors that callers of the Redis client got, by the kind of error.",
    ("client_id", "operation", "error"),
)

_LINES, _IN_SECONDS = 10, 10.0


class FailureLines:
    """Lets ten lines of a kind through in ten seconds.

    A server that is away fails thousands of commands in one turn of the event loop, and one that stays away fails the
    same ones again and again: a line for each would hold up the loop, and hide everything else. Counters count all of
    them; the next line of the kind, or one of its own ten seconds later, says how many had none.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._spans: dict[tuple[str, ...], tuple[float, int]] = {}
        self._told_later: dict[tuple[str, ...], asyncio.AbstractEventLoop] = {}

    def take(self, *kind: str) -> int | None:
        """How many of the kind had no line since the last that had one; ``None`` when this one gets none either."""
        now = self._clock()
        since, count = self._spans.get(kind, (now, 0))
        if now - since < _IN_SECONDS:
            self._spans[kind] = since, count + 1
            return 0 if count < _LINES else None
        self._spans[kind] = now, 1
        return max(0, count - _LINES)

    def tell_later(self, kind: tuple[str, ...], telling: Callable[[], Callable[[int], None]]) -> None:
        """Say how many had no line, when none of the kind has said so until then.

        Args:
            kind: As of `take`.
            telling: Makes what is called with their number. Asked for the first failure without a line only.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the next line says it
        if self._told_later.get(kind) is not loop:  # a loop that has ended tells nothing more
            self._told_later[kind] = loop
            loop.call_later(_IN_SECONDS, self._tell, kind, telling())

    def _tell(self, kind: tuple[str, ...], tell: Callable[[int], None]) -> None:
        self._told_later.pop(kind, None)
        _, count = self._spans.pop(kind, (0.0, 0))
        if count > _LINES:
            tell(count - _LINES)


_failure_lines = FailureLines()

_redis_logger = create_service_logger("huleedu_service_libs.redis")


def log_redis_failure(client_id: str, operation: str, error: Exception, **fields: Any) -> None:
    """Log and count an error that the caller gets; the text of a driver's error shows neither values nor the URL."""
    kind = type(error).__name__
    _FAILURES.labels(client_id=client_id, operation=operation, error=kind).inc()
    without_line = _failure_lines.take(client_id, operation, kind)

    def telling() -> Callable[[int], None]:
        return partial(_tell_redis_failure, client_id, operation, error_text(error), fields)

    if without_line is None:
        _failure_lines.tell_later((client_id, operation, kind), telling)
    else:
        telling()(without_line)


def _tell_redis_failure(client_id: str, operation: str, text: str, fields: dict[str, Any], without_line: int) -> None:
    told = {**fields, "without_line": without_line} if without_line else fields
    _redis_logger.error("redis_command_failed", client_id=client_id, operation=operation, error=text, **told)


def note_redis_swallowed(client_id: str, operation: str, error: Exception, **fields: Any) -> None:
    """Log and count an error that nobody gets."""
    _SWALLOWED.labels(client_id=client_id, operation=operation).inc()
    _redis_logger.warning(
        "redis_error_swallowed", client_id=client_id, operation=operation, error=error_text(error), **fields
    )
