"""Messages for retry and dead-letter topics: the original bytes and headers, and what happened so far.

Headers that begin with ``failure_`` are ours: where the event came from, how
often and with what errors it failed, and when it is due again. Pure; knows no driver.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.protocols import OutgoingMessage

__all__ = ["PREFIX", "Failure", "Trail", "letter", "own_headers", "trail_of"]

PREFIX = "failure_"

_MOST_FAILURES = 10
_ERROR_CHARACTERS = 1_000
_SLIM_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed run.

    Attributes:
        at: When, ISO 8601 in UTC.
        error_type: The error's class.
        error: Its text, without secrets, cut.
    """

    at: str
    error_type: str
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """Where an event comes from and what it has been through.

    Attributes:
        topic: Its first topic.
        partition: The partition there.
        offset: The offset there.
        timestamp_ms: Kafka's time there.
        tier: The retry topic that it is in, from 1; 0 for its first topic.
        due_at: Seconds since the epoch before which it is not tried; 0 for at once.
        attempts: Failed runs before this delivery.
        failures: The last of them, oldest first.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    tier: int = 0
    due_at: float = 0.0
    attempts: int = 0
    failures: tuple[Failure, ...] = ()

    def after(self, error: BaseException, *, at: str, counted: bool = True) -> "Trail":
        """The trail after one more failure; one that is no attempt of the handler is not counted."""
        failure = Failure(
            at=at, error_type=type(error).__name__, error=error_fields(error)["error"][:_ERROR_CHARACTERS]
        )
        return replace(self, attempts=self.attempts + counted, failures=(*self.failures, failure)[-_MOST_FAILURES:])


def trail_of(record: Any, *, from_retry_topic: bool) -> Trail:
    """The trail of a record.

    Only in our own retry topics the headers are believed; elsewhere they are somebody else's.
    """
    fresh = Trail(
        topic=record.topic, partition=record.partition, offset=record.offset, timestamp_ms=record.timestamp or 0
    )
    if not from_retry_topic:
        return fresh
    try:
        return _told(dict(_texts(record.headers)))
    except (AttributeError, KeyError, ValueError, TypeError):  # a header without a value has no `decode`
        return fresh


def letter(
    record: Any,
    trail: Trail,
    *,
    topic: str,
    group: str,
    reason: str,
    due_at: float = 0.0,
    tier: int = 0,
    slim: bool = False,
) -> OutgoingMessage:
    """The message that carries a record away.

    Args:
        record: What failed.
        trail: With its last failure.
        topic: Where to.
        group: The consumer group that could not process it.
        reason: A short word for why.
        due_at: When it is to be tried again, seconds since the epoch.
        tier: Of the retry topic; 0 for the dead-letter topic.
        slim: Without history, for a broker that finds the whole too large.
    """
    headers = [*own_headers(record.headers), *_failure_headers(trail, group=group, reason=reason, slim=slim)]
    if tier:
        headers += [(f"{PREFIX}tier", b"%d" % tier), (f"{PREFIX}due_at", f"{due_at:.3f}".encode())]
    if record.value is None:
        headers.append((f"{PREFIX}null_value", b"1"))
    return OutgoingMessage(topic=topic, value=record.value or b"", key=record.key, headers=headers)


def own_headers(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """The headers that the producer gave, as they were."""
    return [(name, value or b"") for name, value in headers if not name.startswith(PREFIX)]


def _failure_headers(trail: Trail, *, group: str, reason: str, slim: bool) -> list[tuple[str, bytes]]:
    last = trail.failures[-1] if trail.failures else Failure(at="", error_type="", error="")
    texts = {
        "topic": trail.topic,
        "partition": str(trail.partition),
        "offset": str(trail.offset),
        "timestamp": str(trail.timestamp_ms),
        "group": group,
        "reason": reason,
        "attempts": str(trail.attempts),
        "at": last.at,
        "error_type": last.error_type,
        "error": last.error[:_SLIM_CHARACTERS] if slim else last.error,
    }
    if not slim:
        history = [{"at": f.at, "error_type": f.error_type, "error": f.error} for f in trail.failures]
        texts["history"] = json.dumps(history, ensure_ascii=False, separators=(",", ":"))
    return [(PREFIX + name, text.encode("utf-8", "replace")) for name, text in texts.items()]


def _told(texts: dict[str, str]) -> Trail:
    history = json.loads(texts.get("history", "[]"))
    return Trail(
        topic=texts["topic"],
        partition=int(texts["partition"]),
        offset=int(texts["offset"]),
        timestamp_ms=int(texts["timestamp"]),
        tier=int(texts["tier"]),
        due_at=float(texts["due_at"]),
        attempts=int(texts["attempts"]),
        failures=tuple(Failure(at=f["at"], error_type=f["error_type"], error=f["error"]) for f in history),
    )


def _texts(headers: Sequence[tuple[str, bytes]]) -> list[tuple[str, str]]:
    return [(name.removeprefix(PREFIX), value.decode("utf-8")) for name, value in headers if name.startswith(PREFIX)]
