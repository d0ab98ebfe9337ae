"""How a consumer is doing, for liveness probes and people. Plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["ConsumerStatus", "StuckPartition"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StuckPartition:
    """A partition that one record holds up.

    Attributes:
        topic: Its topic.
        partition: Its number.
        offset: The record.
        event_type: What the record is; ``None`` while it was not decoded.
        key: Of the record, as text.
        since_s: Seconds since the record was taken from Kafka.
        attempts: Runs of its handler so far.
        doing: ``handling``, ``waiting to retry`` or ``waiting for the broker``.
        error: The last failure, type and text, without secrets.
    """

    topic: str
    partition: int
    offset: int
    event_type: str | None
    key: str | None
    since_s: float
    attempts: int
    doing: str
    error: str | None

    def __str__(self) -> str:
        what = self.event_type or "a record not decoded yet"
        why = f", last error {self.error}" if self.error else ""
        return (
            f"{self.topic}[{self.partition}] has waited {self.since_s:.0f} s for offset {self.offset} "
            f"({what}, key {self.key!r}): {self.doing}, {self.attempts} attempts{why}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerStatus:
    """A look at a consumer.

    Attributes:
        running: Whether its loop is alive.
        partitions: How many it has.
        last_poll_s: Seconds since Kafka was last asked for records; ``None`` before the first time. Far
            beyond a few seconds the loop hangs, or the group is being rebalanced.
        last_commit_s: Seconds since the last successful commit; ``None`` before the first one.
        in_flight: Handlers running.
        buffered: Records taken from Kafka and not finished.
        paused: Partitions not read because of back-pressure, as ``topic[number]``.
        lag: Records not yet finished or not yet read, by topic, as far as the brokers have told.
        stuck: Partitions that one record has held up for long, the longest first.
        last_error: What went wrong last between consumer and Kafka, and is not over yet.
        rebalancing_s: Seconds since the group began to share out its partitions anew; ``None`` when it has.
        rebalance_limit_s: How long that may take while members finish what runs.
    """

    running: bool
    partitions: int = 0
    last_poll_s: float | None = None
    last_commit_s: float | None = None
    in_flight: int = 0
    buffered: int = 0
    paused: tuple[str, ...] = ()
    lag: Mapping[str, int] = field(default_factory=dict)
    stuck: tuple[StuckPartition, ...] = ()
    last_error: str | None = None
    rebalancing_s: float | None = None
    rebalance_limit_s: float = 0.0

    def alive(self, longest_poll_gap_s: float = 60.0) -> bool:
        """Whether a liveness probe should pass: the loop runs and polls, or waits for members that finish their work.

        A stuck record is no reason to restart.
        """
        polls = self.last_poll_s is None or self.last_poll_s <= longest_poll_gap_s
        return self.running and (polls or self.hands_over)

    @property
    def hands_over(self) -> bool:
        """Whether the group is being rebalanced, and has not taken too long: nobody is given records until then."""
        return self.rebalancing_s is not None and self.rebalancing_s <= self.rebalance_limit_s
