"""How a membership is doing, from what it holds of each partition. Pure; `Session` uses it."""

from collections.abc import Iterable, Mapping
from typing import Any

from huleedu_service_libs.kafka.consumer.partitions import Job, PartitionState
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus, StuckPartition

__all__ = ["names", "status_of", "stuck_jobs", "stuck_partition"]


def names(partitions: Iterable[Any]) -> list[str]:
    """Partitions as ``topic[number]``, sorted."""
    return sorted(f"{tp.topic}[{tp.partition}]" for tp in partitions)


def status_of(
    states: Mapping[Any, PartitionState],
    ends: Mapping[Any, int | None],
    *,
    topics: Iterable[str],
    starts: Mapping[Any, int],
    now: float,
    stuck_after_s: float,
    **rest: Any,
) -> ConsumerStatus:
    """The status.

    Args:
        states: What is held of each partition.
        ends: The assigned partitions, each with the offset at which its log ends, as far as it is known.
        topics: Those of the consumer.
        starts: Where reading of partitions began, as far as it is known.
        now: Monotonic seconds.
        stuck_after_s: From which age a record holds its partition up.
        **rest: The other fields.
    """
    return ConsumerStatus(
        partitions=len(ends),
        buffered=sum(len(state.jobs) for state in states.values()),
        paused=tuple(names(tp for tp, state in states.items() if state.paused)),
        lag=_lag(topics, states, ends, starts),
        stuck=tuple(stuck_partition(job, now) for job in stuck_jobs(states.values(), now, stuck_after_s)),
        **rest,
    )


def stuck_jobs(states: Iterable[PartitionState], now: float, after_s: float) -> list[Job]:
    """The records that hold up their partitions, the longest first."""
    oldest = [job for state in states if (job := state.oldest) is not None]
    return sorted((job for job in oldest if now - job.taken_at >= after_s), key=lambda job: job.taken_at)


def stuck_partition(job: Job, now: float) -> StuckPartition:
    """What is told of one of them."""
    record = job.record
    return StuckPartition(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        event_type=job.event_type,
        key=None if record.key is None else record.key.decode("utf-8", "replace"),
        since_s=now - job.taken_at,
        attempts=job.trail.attempts if job.trail else 0,
        doing=job.doing,
        error=job.last_error,
    )


def _lag(
    topics: Iterable[str],
    states: Mapping[Any, PartitionState],
    ends: Mapping[Any, int | None],
    starts: Mapping[Any, int],
) -> dict[str, int]:
    lag = dict.fromkeys(topics, 0)
    for tp, end in ends.items():
        state = states.get(tp)
        lag.setdefault(tp.topic, 0)
        if end is None:
            continue
        done = starts.get(tp)
        if state is not None:
            done = state.watermark.position if state.watermark.position is not None else state.watermark.oldest
        lag[tp.topic] += max(0, end - (end if done is None else done))
    return lag
