"""What a consumer holds of each partition, and which of them may be read further. Pure: no Kafka, no clock of its own."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from huleedu_service_libs.kafka.consumer.config import ConsumerConfig
from huleedu_service_libs.kafka.consumer.letters import Trail
from huleedu_service_libs.kafka.consumer.metrics import UNDECODED, UNREGISTERED
from huleedu_service_libs.kafka.consumer.ports import Delivery
from huleedu_service_libs.kafka.consumer.registry import Registration
from huleedu_service_libs.kafka.consumer.watermark import Watermark
from huleedu_service_libs.protocols import OutgoingMessage

__all__ = ["Intake", "IntakePlan", "Job", "Parcel", "PartitionState"]

HANDLING, RETRYING, PUBLISHING = "handling", "waiting to retry", "waiting for the broker"
_ENOUGH_ROOM = 4  # a partition is read again once that fraction of its buffer is free


@dataclass(slots=True, kw_only=True)
class Parcel:
    """A message that must be acknowledged before its record is done."""

    message: OutgoingMessage
    outcome: str
    slim: OutgoingMessage
    failures: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Job:
    """One record, from Kafka's hand until its offset may be committed."""

    record: Any
    state: "PartitionState"
    taken_at: float
    trail: Trail | None = None
    delivery: Delivery[Any] | None = None
    registration: Registration | None = None
    event_type: str | None = None
    failures: int = 0  # runs in place
    deferrals: int = 0  # in a row
    outage_since: float | None = None  # the first of them
    ran: bool = False
    parcel: Parcel | None = None
    doing: str = HANDLING
    last_error: str | None = None
    told: bool = False  # that it holds up its partition
    began: bool = False  # to go through its step
    returned: bool = False  # from a handler whose step has to conclude it

    @property
    def label(self) -> str:
        """The event type as metrics have it: few values."""
        if self.registration is not None:
            return self.registration.event_type
        return UNDECODED if self.event_type is None else UNREGISTERED


@dataclass(slots=True, kw_only=True, eq=False)
class PartitionState:
    """One partition while it is ours.

    Attributes:
        partition: Topic and number.
        watermark: How far it is done.
        jobs: Unfinished records by offset.
        tasks: Of those that run.
        newest: The last offset taken.
        committed: The last offset committed; -1 before.
        active: False once the partition is another member's.
        full_since: When it last had no room, monotonic seconds.
        paused: At the driver.
    """

    partition: Any
    watermark: Watermark = field(default_factory=Watermark)
    jobs: dict[int, Job] = field(default_factory=dict)
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    newest: int = -1
    committed: int = -1
    active: bool = True
    full_since: float | None = None
    paused: bool = False

    def take(self, record: Any, now: float) -> Job:
        """A record has come."""
        self.watermark.begin(record.offset)
        self.newest = record.offset
        job = self.jobs[record.offset] = Job(record=record, state=self, taken_at=now)
        return job

    def finish(self, job: Job) -> None:
        """A record is done."""
        del self.jobs[job.record.offset]
        self.watermark.finish(job.record.offset)

    @property
    def oldest(self) -> Job | None:
        """The record that holds up the watermark."""
        offset = self.watermark.oldest
        return None if offset is None else self.jobs.get(offset)

    @property
    def to_commit(self) -> int | None:
        """The offset to commit, if it has moved."""
        position = self.watermark.position
        return position if position is not None and position > self.committed else None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakePlan:
    """What to ask Kafka for.

    Attributes:
        read: Partitions to poll; all when empty and ``poll``.
        most: Records, at most.
        poll: Whether to poll at all, or to wait for room.
        complete: Whether no partition is left out.
        pause: To pause at the driver before.
        resume: To resume at the driver before.
    """

    read: tuple[Any, ...]
    most: int
    poll: bool
    complete: bool
    pause: tuple[Any, ...]
    resume: tuple[Any, ...]


class Intake:
    """Decides which partitions are read, so that buffers stay bounded and the member stays in its group.

    Args:
        config: The bounds.
    """

    def __init__(self, config: ConsumerConfig) -> None:
        self._config = config

    def plan(self, assigned: Collection[Any], states: Mapping[Any, PartitionState], now: float) -> IntakePlan:
        """What to ask for next; notes in the states since when they are full, and which are paused."""
        free = self._config.max_buffered - sum(len(state.jobs) for state in states.values())
        wanted = max(1, self._config.max_buffered // 10)
        rooms = {tp: self._room(states.get(tp)) if free >= wanted else 0 for tp in assigned}
        read = tuple(tp for tp, room in rooms.items() if room > 0)
        pause, resume = self._turn(states, rooms, now)
        blocked = len(read) < len(rooms)
        all_paused = all(tp in states and states[tp].paused for tp in rooms)
        return IntakePlan(
            read=read if blocked else (),
            most=max(1, min([free, *(rooms[tp] for tp in read)])),
            poll=bool(read) or all_paused,
            complete=not blocked,
            pause=pause,
            resume=resume,
        )

    def _room(self, state: PartitionState | None) -> int:
        """Records that the partition may be asked for; 0 until a good part of its buffer is free."""
        config = self._config
        if state is None:
            return config.max_buffered_per_partition
        room = min(
            config.max_buffered_per_partition - len(state.jobs),
            config.max_uncommitted_per_partition - state.watermark.span,
        )
        return room if room >= max(1, config.max_buffered_per_partition // _ENOUGH_ROOM) else 0

    def _turn(
        self, states: Mapping[Any, PartitionState], rooms: Mapping[Any, int], now: float
    ) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Who is to be paused and resumed: who has been full for long, and who is not any more."""
        pause, resume = [], []
        for tp, room in rooms.items():
            state = states.get(tp)
            if state is None:
                continue
            if room > 0:
                state.full_since = None
                if state.paused:
                    state.paused = False
                    resume.append(tp)
                continue
            state.full_since = now if state.full_since is None else state.full_since
            if not state.paused and now - state.full_since >= self._config.pause_after_s:
                state.paused = True
                pause.append(tp)
        return tuple(pause), tuple(resume)
