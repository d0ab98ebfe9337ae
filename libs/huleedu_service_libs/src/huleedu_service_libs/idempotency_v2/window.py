"""Whether processed events are remembered for as long as they can come again. For a service's start-up.

A duplicate can come for as long as its topic keeps it, later by what retry topics
delay it, and later again by the age up to which dead letters are sent again. What is
forgotten earlier is processed twice. Knows no Kafka client: `TopicRetention`
(``kafka.topic_retention``) or any function says how long topics keep their events.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from huleedu_service_libs import _metrics
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs.idempotency_v2.config import IdempotencyConfig
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = [
    "DedupeWindowError",
    "Remembered",
    "RetentionOf",
    "WindowShortfall",
    "check_dedupe_window",
    "remembered_by",
]

RetentionOf = Callable[[Sequence[str]], Awaitable[Mapping[str, float]]]
"""Seconds for which each topic keeps its events; infinity for ever."""

_SHORTFALLS = _metrics.gauge(
    "idempotency_window_shortfall_seconds",
    "Seconds for which a duplicate can come although its event is forgotten; -1 for ever",
    ("topic", "setting"),
)

logger = create_service_logger("huleedu_service_libs.idempotency_v2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """For how long a consumer remembers the events of a topic.

    Attributes:
        topic: The topic.
        seconds: For so long.
        setting: Where that is set, for the text.
    """

    topic: str
    seconds: float
    setting: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowShortfall:
    """A topic whose events can come again after they were forgotten.

    Attributes:
        remembered: What is set.
        retention_s: For how long the topic keeps events, seconds.
        retry_delay_s: What retries add, seconds.
        redrive_age_s: What sending dead letters again adds, seconds.
    """

    remembered: Remembered
    retention_s: float
    retry_delay_s: float
    redrive_age_s: float

    @property
    def needed_s(self) -> float:
        """For how long a duplicate can come, seconds."""
        return self.retention_s + self.retry_delay_s + self.redrive_age_s

    def __str__(self) -> str:
        known, added = self.remembered, ""
        if self.retry_delay_s or self.redrive_age_s:
            added = f", retries add {_span(self.retry_delay_s)} and redrives {_span(self.redrive_age_s)}"
        if math.isinf(self.needed_s):
            fix = f"give the topic a retention.ms below {known.seconds * 1000:.0f}, or make its handlers repeatable"
        else:
            fix = f"raise {known.setting} to {math.ceil(self.needed_s)}, or lower the topic's retention.ms"
        return (
            f"Topic {known.topic!r} keeps events for {_span(self.retention_s)}{added}, but {known.setting} remembers "
            f"processed ones for {_span(known.seconds)} only: a duplicate after that is processed again. Fix: {fix}"
        )


class DedupeWindowError(Exception):
    """Events would be forgotten while they can still come again.

    Attributes:
        shortfalls: Each topic and setting.
    """

    def __init__(self, shortfalls: Sequence[WindowShortfall]) -> None:
        super().__init__(tuple(shortfalls))
        self.shortfalls = tuple(shortfalls)

    def __str__(self) -> str:
        return "\n".join(str(shortfall) for shortfall in self.shortfalls)


def remembered_by(config: IdempotencyConfig, event_types: Mapping[str, Sequence[str]]) -> list[Remembered]:
    """What ``config`` remembers.

    Args:
        config: With the times to live.
        event_types: For each topic the types of its events.
    """
    return [
        Remembered(topic=topic, seconds=config.get_ttl_for_event_type(kind), setting=_setting_of(config, kind))
        for topic, kinds in event_types.items()
        for kind in kinds
    ]


def _setting_of(config: IdempotencyConfig, event_type: str) -> str:
    return f"event_type_ttls[{event_type!r}]" if event_type in config.event_type_ttls else "default_ttl"


async def check_dedupe_window(
    remembered: Sequence[Remembered],
    retention_of: RetentionOf,
    *,
    retry_delay_s: float = 0.0,
    redrive_age_s: float = 0.0,
    on_shortfall: Literal["warn", "refuse"] = "warn",
) -> list[WindowShortfall]:
    """Compare what is remembered with how long events can come; for a service's start.

    Args:
        remembered: What the service's consumers remember.
        retention_of: Asks Kafka.
        retry_delay_s: The sum of the retry topics' delays, seconds.
        redrive_age_s: The age up to which dead letters are sent again, seconds.
        on_shortfall: ``warn`` logs each, ``refuse`` raises.

    Returns:
        Every shortfall; with ``warn`` also none when Kafka could not be asked, which is logged.

    Raises:
        DedupeWindowError: There is a shortfall, and ``on_shortfall`` is ``refuse``.
        Exception: What ``retention_of`` raises, when ``on_shortfall`` is ``refuse``.
    """
    try:
        retention = await retention_of(sorted({one.topic for one in remembered}))
    except Exception as error:
        if on_shortfall == "refuse":
            raise
        logger.warning("idempotency_window_unchecked", **error_fields(error))
        return []
    found = []
    for one in remembered:
        shortfall = WindowShortfall(
            remembered=one,
            retention_s=retention[one.topic],
            retry_delay_s=retry_delay_s,
            redrive_age_s=redrive_age_s,
        )
        missing = max(0.0, shortfall.needed_s - one.seconds)
        _SHORTFALLS.labels(topic=one.topic, setting=one.setting).set(-1 if math.isinf(missing) else missing)
        if missing:
            found.append(shortfall)
    if found and on_shortfall == "refuse":
        raise DedupeWindowError(found)
    for shortfall in found:
        logger.warning("idempotency_window_too_short", topic=shortfall.remembered.topic, problem=str(shortfall))
    return found


def _span(seconds: float) -> str:
    """As people say it: ``7 d``, ``1.5 h``."""
    if math.isinf(seconds):
        return "ever"
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds:.4g} s"
