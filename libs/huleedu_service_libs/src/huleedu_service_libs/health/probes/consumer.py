"""Looks at a consumer: whether its loop lives, and whether it gets on.

Slow is not dead. A record that is tried again and again, a broker that is away, a partition that is paused: all that
is told, and none of it is a reason to restart. A loop that has ended, that no longer polls, or that leaves records
lying although nothing is in its way, is.
"""

from dataclasses import dataclass
from typing import Protocol

from huleedu_service_libs._checks import numbers_of, positive
from huleedu_service_libs.health.findings import Finding, Impact, Level, Probe
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus

__all__ = ["ConsumerLimits", "Consumes", "consumer_probe", "judge_consumer"]

_MOST_STUCK = 3


class Consumes(Protocol):
    """The part of `EventConsumer` that is needed."""

    def status(self) -> ConsumerStatus:
        """How it is doing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLimits:
    """From when on a consumer is not well.

    Attributes:
        poll_gap_s: Seconds without asking Kafka for records. Longer than joining the group takes.
        standstill_s: Seconds without a commit although records wait and none is in hand.
        lag: Records not finished from which on it is ``WARN``; ``None`` for never.

    Raises:
        ValueError: A limit is not positive.
    """

    poll_gap_s: float = 60.0
    standstill_s: float = 300.0
    lag: int | None = None

    def __post_init__(self) -> None:
        positive(**numbers_of(self))


def consumer_probe(
    consumer: Consumes,
    *,
    limits: ConsumerLimits | None = None,
    name: str = "consumer",
    impact: Impact = Impact.RESTART,
    interval_s: float = 5.0,
) -> Probe:
    """One consumer of this process.

    Args:
        consumer: An `EventConsumer`.
        limits: From when on it is not well.
        name: Of the component.
        impact: What its failure means.
        interval_s: Seconds between looks.
    """
    bounds = limits or ConsumerLimits()

    async def look() -> Finding:
        return judge_consumer(consumer.status(), bounds)

    return Probe(name=name, look=look, impact=impact, interval_s=interval_s)


def judge_consumer(status: ConsumerStatus, limits: ConsumerLimits) -> Finding:
    """What a status means. Pure."""
    dead = _why_dead(status, limits)
    unwell = _why_unwell(status, limits)
    level = Level.FAIL if dead else Level.WARN if unwell else Level.PASS
    return Finding(level=level, cause="; ".join([*dead, *unwell]) or None, details=_details(status))


def _why_dead(status: ConsumerStatus, limits: ConsumerLimits) -> list[str]:
    if not status.running:
        return ["its loop has ended: see consumer_died in the log, and restart the process"]
    if status.last_error is not None:
        return []  # Kafka is in its way, and a restart changes nothing about that
    if status.last_poll_s is not None and status.last_poll_s > limits.poll_gap_s and not status.hands_over:
        return [f"it has not asked Kafka for records for {status.last_poll_s:.0f} s (limit {limits.poll_gap_s:g} s)"]
    idle = not status.in_flight and not status.buffered and not status.paused and not status.stuck
    waits = sum(status.lag.values())
    if idle and waits and status.last_commit_s is not None and status.last_commit_s > limits.standstill_s:
        return [f"{waits} records wait, none is in hand, and the last commit was {status.last_commit_s:.0f} s ago"]
    return []


def _why_unwell(status: ConsumerStatus, limits: ConsumerLimits) -> list[str]:
    told = [str(stuck) for stuck in status.stuck[:_MOST_STUCK]]
    if len(status.stuck) > _MOST_STUCK:
        told.append(f"and {len(status.stuck) - _MOST_STUCK} further partitions are held up")
    if status.last_error is not None:
        told.append(f"between consumer and Kafka: {status.last_error}")
    waits = sum(status.lag.values())
    if limits.lag is not None and waits > limits.lag:
        told.append(f"{waits} records are not finished (limit {limits.lag})")
    return told


def _details(status: ConsumerStatus) -> dict[str, object]:
    return {
        "partitions": status.partitions,
        "last_poll_seconds": _rounded(status.last_poll_s),
        "last_commit_seconds": _rounded(status.last_commit_s),
        "in_flight": status.in_flight,
        "buffered": status.buffered,
        "paused": list(status.paused),
        "lag": dict(status.lag),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
