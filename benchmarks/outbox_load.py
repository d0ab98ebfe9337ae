"""What the outbox benchmarks share: servers, the table, and events as `OutboxManager` stores them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import sqlalchemy
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from sqlalchemy.ext.asyncio import create_async_engine

from common_core import EventEnvelope
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs._json import dumps
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.testing.devstack import DevStack

__all__ = [
    "EVENT_BYTES",
    "KEYS",
    "Servers",
    "envelope",
    "envelope_bytes",
    "fill",
    "make_table",
    "make_topic",
    "servers",
]

KEYS = 1_000
EVENT_BYTES = 600  # of the value on the wire
PARTITIONS = 6
_EVENT_TYPE = "huleedu.bench.essay.scored.v1"


@dataclass(frozen=True, kw_only=True)
class Servers:
    """Where they are.

    Attributes:
        dsn: The database, ``postgresql://...``.
        kafka: Bootstrap servers.
    """

    dsn: str
    kafka: str

    @property
    def database(self) -> str:
        """The database for SQLAlchemy."""
        return self.dsn.replace("postgresql://", "postgresql+asyncpg://")


@contextmanager
def servers() -> Iterator[Servers]:
    """A PostgreSQL and a real Kafka of one's own, on this machine."""
    with DevStack(services=("postgres", "kafka")) as stack:
        if not stack.kafka.supports_idempotent_producer:
            raise SystemExit("This needs a real Kafka: Docker, or Java with Maven")
        yield Servers(dsn=stack.postgres.create_database(), kafka=stack.kafka.address)


async def make_table(database: str) -> None:
    """The outbox table, empty and new."""
    engine = create_async_engine(database)
    async with engine.begin() as connection:
        await connection.execute(sqlalchemy.text("DROP TABLE IF EXISTS event_outbox"))
        await connection.run_sync(Base.metadata.create_all)
    await engine.dispose()


async def make_topic(kafka: str, name: str) -> None:
    """A topic with `PARTITIONS` partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1)])
    finally:
        await admin.close()


def envelope(number: int) -> EventEnvelope[Any]:
    """An event whose JSON has about `EVENT_BYTES` bytes."""
    data = {"n": number, "essay_id": f"essay-{number}", "score": 0.5, "text": "Flygande bäckasiner söka hwila. " * 6}
    return EventEnvelope(event_type=_EVENT_TYPE, source_service="bench", data=data, metadata={"user_id": "u-1"})


def envelope_bytes(number: int) -> bytes:
    """The JSON of `envelope`."""
    return dumps(envelope(number).model_dump(mode="json"))


async def fill(dsn: str, topic: str, events: int, *, start: int = 0) -> None:
    """Add events the way `OutboxManager` stores them, over `KEYS` keys, a microsecond apart."""
    connection = await asyncpg.connect(dsn)
    try:
        begin = datetime.now(UTC)
        for part in range(start, start + events, 20_000):
            count = min(20_000, start + events - part)
            rows = (_row(topic, number, begin + timedelta(microseconds=number)) for number in range(part, part + count))
            await connection.copy_records_to_table("event_outbox", records=rows, columns=_COLUMNS)
        await connection.execute("VACUUM ANALYZE event_outbox")  # or the first to read would do the writer's chores
    finally:
        await connection.close()


_COLUMNS = [
    "id", "aggregate_id", "aggregate_type", "event_type", "event_data", "event_key", "topic", "created_at", "retry_count",
]  # fmt: skip


def _row(topic: str, number: int, created_at: datetime) -> tuple[Any, ...]:
    key = f"essay-{number % KEYS}"
    payload = dumps(envelope(number).model_dump(mode="json") | {"topic": topic}).decode()
    return (uuid7(), key, "essay", _EVENT_TYPE, payload, key, topic, created_at, 0)
