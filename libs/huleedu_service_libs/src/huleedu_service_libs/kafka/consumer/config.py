"""Settings of a consumer; plain data that checks itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from huleedu_service_libs._checks import not_negative, positive, values_of

__all__ = ["ConsumerConfig", "RetryPolicy", "UnhandledPolicy"]

UnhandledPolicy = Literal["skip", "dead-letter"]
"""What becomes of events that no handler is registered for: counted and passed over, or dead-lettered."""

_RESERVED = frozenset(
    {
        "auto_offset_reset",
        "bootstrap_servers",
        "client_id",
        "enable_auto_commit",
        "group_id",
        "group_instance_id",
        "heartbeat_interval_ms",
        "isolation_level",
        "key_deserializer",
        "max_poll_interval_ms",
        "max_poll_records",
        "partition_assignment_strategy",
        "rebalance_timeout_ms",
        "session_timeout_ms",
        "value_deserializer",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and how long after each other, a failing event is tried.

    In place, the key's later events wait, so order holds. With ``delayed_s`` an event that has failed
    in place goes on to retry topics, and later events of its key overtake it.

    Attributes:
        attempts: Runs of the handler in place, the first included.
        first_delay_s: Seconds after the first failure; doubles from failure to failure, with jitter. Longer than a single
            call's (`resilience.Retry`), since what a handler calls has mostly been tried again already.
        longest_delay_s: Seconds that no delay exceeds.
        delayed_s: Delays of the retry topics, one further attempt each; empty for none.
        never: Errors for which a second attempt is futile.
        outages: Errors that say that something else is out of reach, beside those that `outages.is_outage` knows:
            lost connections, timeouts, open breakers. The event is not to blame: it is tried in place until that is
            back, and no attempt is counted.
        outage_limit_s: Seconds after which even that counts, as a failed attempt each; ``None`` for never. For handlers
            that one event could make run into the same timeout for ever.

    Raises:
        ValueError: A value makes no sense; the text names it.
    """

    attempts: int = 5
    first_delay_s: float = 0.2
    longest_delay_s: float = 30.0
    delayed_s: tuple[float, ...] = ()
    never: tuple[type[Exception], ...] = ()
    outages: tuple[type[Exception], ...] = ()
    outage_limit_s: float | None = None

    def __post_init__(self) -> None:
        positive(**values_of(self, "attempts", "first_delay_s", "longest_delay_s"))
        if self.longest_delay_s < self.first_delay_s:
            raise ValueError(
                f"longest_delay_s ({self.longest_delay_s:g}) must not be below first_delay_s ({self.first_delay_s:g})"
            )
        not_negative(outage_limit_s=self.outage_limit_s)
        if any(delay <= 0 for delay in self.delayed_s):
            raise ValueError(f"delayed_s must be positive, got {self.delayed_s}")
        if list(self.delayed_s) != sorted(self.delayed_s):
            raise ValueError(f"delayed_s must not decrease, got {self.delayed_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerConfig:
    """What to read, how much at once, how patient.

    Attributes:
        group_id: The consumer group.
        topics: What to subscribe to; retry topics come by themselves.
        client_id: Name in the broker's logs; the group's by default.
        concurrency: Handlers that run at the same time.
        max_buffered: Records taken from Kafka and not finished, over all partitions.
        max_buffered_per_partition: The same of one partition; at that many it is not read further.
        max_uncommitted_per_partition: Offsets above the committed one that were taken from Kafka, finished
            or not: how far others may run ahead of a slow key, and how much comes again after a crash.
        unordered_keyless: Whether records without a key may overtake each other.
        handler_timeout_s: Seconds that one run of a handler may take, where its registration says nothing else.
        retry: When a handler fails.
        unhandled: Events without a handler.
        dead_letter_topic: Name of the dead-letter topic; ``{topic}`` and ``{group}`` are filled in.
        retry_topic: Name of the retry topics; ``{n}`` counts them from 1.
        create_topics: Make missing dead-letter and retry topics at the start, with as many partitions and copies as the first topic.
        commit_interval_s: Seconds between two commits; what was done in between comes again after a crash.
        drain_timeout_s: Seconds that running handlers get at a rebalance and at `stop` before they are
            cancelled; ``None`` means as long as the longest handler may take. Choose it below `health.DrainConfig.limit_s`
            where a drain stops the consumer.
        pause_after_s: Seconds without room after which a partition is paused at the driver.
        stuck_after_s: Age of a partition's oldest unfinished record from which status and log name it.
        assignment: ``sticky`` keeps partitions where they are; ``range`` gives whoever has partition n of one
            topic the partition n of all (for handlers that see one key in two topics); ``roundrobin`` is what plain
            aiokafka consumers have, for the time in which they are members as well. All members of a group have the same.
        session_timeout_s: Seconds without heartbeat after which the broker gives the partitions to others. The broker
            allows what lies between its ``group.min.session.timeout.ms`` and ``group.max…``, 6 s and 30 min by default.
        max_poll_interval_s: Seconds without poll after which the member leaves; pausing keeps polling.
        isolation_level: Whether records of open and aborted transactions are seen.
        from_beginning: Where a new group begins: with the oldest record, or with those to come.
        static_id: ``group.instance.id``, a name that survives the restart of the process and that no other has, such as
            that of a pod in a StatefulSet. Who restarts within the session time-out, even after a SIGKILL, goes on with
            the same partitions at once, and the others work on undisturbed; who stops for good leaves its
            partitions lying for that time. Two members with the same one take the partitions from each other.
        client_options: Further arguments of `aiokafka.AIOKafkaConsumer`, such as those for TLS and SASL.

    Raises:
        ValueError: A value makes no sense; the text names it.
    """

    group_id: str
    topics: tuple[str, ...]
    client_id: str = ""
    concurrency: int = 100
    max_buffered: int = 5_000
    max_buffered_per_partition: int = 1_000
    max_uncommitted_per_partition: int = 20_000
    unordered_keyless: bool = False
    handler_timeout_s: float = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    unhandled: UnhandledPolicy = "skip"
    dead_letter_topic: str = "{topic}.{group}.dead-letter"
    retry_topic: str = "{topic}.{group}.retry-{n}"
    create_topics: bool = True
    commit_interval_s: float = 1.0
    drain_timeout_s: float | None = None
    pause_after_s: float = 1.0
    stuck_after_s: float = 60.0
    assignment: Literal["sticky", "range", "roundrobin"] = "sticky"
    session_timeout_s: float = 30.0
    max_poll_interval_s: float = 300.0
    isolation_level: Literal["read_committed", "read_uncommitted"] = "read_committed"
    from_beginning: bool = True
    static_id: str | None = None
    client_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.group_id:
            raise ValueError("group_id must not be empty: offsets are stored under it")
        given: object = self.topics
        if not isinstance(given, tuple) or not given or not all(isinstance(name, str) and name for name in given):
            raise ValueError(f"topics must be a tuple of topic names, got {given!r}")
        positive(
            **values_of(
                self,
                "concurrency",
                "max_buffered",
                "max_buffered_per_partition",
                "handler_timeout_s",
                "commit_interval_s",
                "pause_after_s",
                "stuck_after_s",
                "session_timeout_s",
                "max_poll_interval_s",
            )
        )
        not_negative(drain_timeout_s=self.drain_timeout_s)
        if self.max_uncommitted_per_partition < self.max_buffered_per_partition:
            raise ValueError(
                f"max_uncommitted_per_partition ({self.max_uncommitted_per_partition}) must not be below "
                f"max_buffered_per_partition ({self.max_buffered_per_partition})"
            )
        if self.pause_after_s >= self.max_poll_interval_s / 2:
            raise ValueError(
                f"pause_after_s ({self.pause_after_s:g}) must be far below max_poll_interval_s "
                f"({self.max_poll_interval_s:g}): until then nothing is polled"
            )
        self._check_names()

    def _check_names(self) -> None:
        for name, wanted in (("dead_letter_topic", "{topic}"), ("retry_topic", "{n}")):
            try:
                filled = getattr(self, name).format(topic="t", group="g", n=1)
            except (KeyError, IndexError, ValueError) as error:
                raise ValueError(f"{name} may contain {{topic}}, {{group}} and {{n}}: {error!r}") from error
            if name == "retry_topic" and wanted not in self.retry_topic:
                raise ValueError(f"retry_topic must contain {{n}}, got {self.retry_topic!r}")
            if filled == "t":
                raise ValueError(f"{name} must differ from the topic itself, got {getattr(self, name)!r}")
        reserved = _RESERVED & set(self.client_options)
        if reserved:
            raise ValueError(f"client_options must not set {', '.join(sorted(reserved))}: the consumer relies on them")

    def dead_letter_topic_of(self, topic: str) -> str:
        """The dead-letter topic of an event's first topic."""
        return self.dead_letter_topic.format(topic=topic, group=self.group_id)

    def retry_topic_of(self, topic: str, tier: int) -> str:
        """The retry topic number ``tier``, from 1, of an event's first topic."""
        return self.retry_topic.format(topic=topic, group=self.group_id, n=tier)

    def __repr__(self) -> str:
        return f"ConsumerConfig(group_id={self.group_id!r}, topics={self.topics!r})"
