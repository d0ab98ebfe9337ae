"""What a dead-letter topic holds, for people and for choosing what goes back.

``redriving`` and the command line use it. Reading leaves no trace: no group, no commit.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.consumer.letters import PREFIX

with requires_extra("kafka", module=__name__):
    from aiokafka import AIOKafkaConsumer

__all__ = ["DeadLetter", "NoSuchTopicError", "dead_letter_of", "header_texts", "read_dead_letters", "require_topic"]

_LIMIT_S = 30.0
_POLL_MS = 500


class NoSuchTopicError(LookupError):
    """The broker has no topic of that name; looking must not create one."""

    def __init__(self, topic: str, similar: list[str]) -> None:
        hint = f"; dead-letter topics are: {', '.join(similar)}" if similar else ""
        super().__init__(f"There is no topic {topic!r}{hint}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """What a dead-letter topic holds of one event, for choosing.

    Attributes:
        event_id: As the producer gave it in the headers.
        event_type: The same.
        key: Of the record, as text.
        origin: The topic that it goes back to.
        reason: Why it was dead-lettered.
        error: The last error, type and text.
        failed_at: When it failed last, ISO 8601 in UTC.
        attempts: Runs of its handler.
        group: The consumer group that could not process it.
        offset: In the dead-letter topic.
        partition: In the dead-letter topic.
    """

    event_id: str
    event_type: str
    key: str | None
    origin: str
    reason: str
    error: str
    failed_at: str
    attempts: int
    group: str
    offset: int
    partition: int

    @property
    def place(self) -> str:
        """Partition and offset in the dead-letter topic, as ``2:17``."""
        return f"{self.partition}:{self.offset}"


def header_texts(record: Any) -> dict[str, str]:
    """The headers of a record as text."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}


def dead_letter_of(record: Any) -> DeadLetter:
    """What is told of a record's failure; empty where it tells nothing."""
    told = header_texts(record)
    attempts = told.get(f"{PREFIX}attempts", "")
    return DeadLetter(
        event_id=told.get("event_id", ""),
        event_type=told.get("event_type", ""),
        key=None if record.key is None else record.key.decode("utf-8", "replace"),
        origin=told.get(f"{PREFIX}topic", ""),
        reason=told.get(f"{PREFIX}reason", ""),
        error=": ".join(told.get(f"{PREFIX}{name}", "") for name in ("error_type", "error")),
        failed_at=told.get(f"{PREFIX}at", ""),
        attempts=int(attempts) if attempts.isdecimal() else 0,
        group=told.get(f"{PREFIX}group", ""),
        offset=record.offset,
        partition=record.partition,
    )


async def read_dead_letters(
    topic: str, *, bootstrap_servers: str, client_options: Mapping[str, Any] | None = None
) -> AsyncGenerator[tuple[DeadLetter, Any], None]:
    """The topic's dead letters and their records, from the oldest to what is the newest at the start.

    Whoever does not read to the end closes it (`contextlib.aclosing`).

    Args:
        topic: The dead-letter topic.
        bootstrap_servers: Where Kafka is.
        client_options: Further arguments of `aiokafka.AIOKafkaConsumer`, for TLS and SASL.

    Raises:
        NoSuchTopicError: There is no such topic.
        aiokafka.errors.KafkaError: It cannot be read.
        TimeoutError: No broker answered in time.
    """
    options = {"bootstrap_servers": bootstrap_servers, "enable_auto_commit": False, **(client_options or {})}
    await require_topic(topic, bootstrap_servers=bootstrap_servers, client_options=client_options)
    consumer = AIOKafkaConsumer(topic, auto_offset_reset="earliest", isolation_level="read_committed", **options)
    try:
        async with asyncio.timeout(_LIMIT_S):
            await consumer.start()
            ends = await consumer.end_offsets(consumer.assignment())
        while True:
            async with asyncio.timeout(_LIMIT_S):
                left = [tp for tp, end in ends.items() if await consumer.position(tp) < end]
                batch = await consumer.getmany(*left, timeout_ms=_POLL_MS) if left else {}
            if not left:
                return
            for partition, records in batch.items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield dead_letter_of(record), record
    finally:
        await consumer.stop()


async def require_topic(topic: str, *, bootstrap_servers: str, client_options: Mapping[str, Any] | None = None) -> None:
    """Make sure that a topic exists: a consumer that subscribes may create it.

    Raises:
        NoSuchTopicError: There is no such topic.
        aiokafka.errors.KafkaError: No broker can be reached.
        TimeoutError: None answered in time.
    """
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap_servers, enable_auto_commit=False, **(client_options or {}))
    async with asyncio.timeout(_LIMIT_S):
        try:
            await consumer.start()
            known = await consumer.topics()
        finally:
            await consumer.stop()
    if topic not in known:
        raise NoSuchTopicError(topic, sorted(name for name in known if "dead-letter" in name)[:10])
