"""The earlier library's side of Redis, PostgreSQL and Kafka, written from the formats that services rely on, and nothing else.

Nothing here calls the library: it reads strictly, writes what was always written, and has the earlier limits (a claim
without an owner, a relay without locks, a new event id at each attempt). The tests beside it put both sides on one server.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from time import time
from typing import Any
from uuid import UUID, uuid4

from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis
from sqlalchemy import JSON, Row, Text, Uuid, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = [
    "EarlierRelay",
    "EarlierWorker",
    "UnreadableError",
    "add_row",
    "envelope",
    "key_of",
    "read_message",
    "read_notification",
    "read_record",
    "read_row",
    "record_at",
]

PREFIX = "huleedu:idempotency:v2"
PROCESSING_SECONDS = 300
CLAIMED = {"status": str, "started_at": float, "processed_by": str, "event_id": str}
ENVELOPE = {
    "event_id": str,
    "event_type": str,
    "event_timestamp": str,
    "source_service": str,
    "schema_version": int,
    "correlation_id": str,
    "data_schema_uri": (str, type(None)),
    "data": (dict, list, str, int, float, bool),
    "metadata": (dict, type(None)),
}


class UnreadableError(AssertionError):
    """Something is not in the format that was always read."""


def _require(holds: bool, what: str, value: object) -> None:  # noqa: FBT001
    if not holds:
        raise UnreadableError(f"{what}: {value!r}")


def _check_fields(fields: Mapping[str, Any], kinds: Mapping[str, Any], what: str) -> None:
    for name, kind in kinds.items():
        _require(name in fields, f"{what} lacks {name}", fields)
        _require(isinstance(fields[name], kind), f"{what}.{name}", fields[name])


# --- events


def envelope(data: Any, *, event_type: str = "huleedu.test.moved.v1", **more: Any) -> dict[str, Any]:
    """An envelope in JSON form, as `model_dump(mode="json")` gave it."""
    return {
        "event_id": str(uuid4()),
        "event_type": event_type,
        "event_timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "source_service": "earlier-service",
        "schema_version": 1,
        "correlation_id": str(uuid4()),
        "data_schema_uri": None,
        "data": data,
        "metadata": None,
        **more,
    }


def read_message(record: Any) -> dict[str, Any]:
    """A Kafka record's envelope, read as strictly as can be.

    Raises:
        UnreadableError: It is not what a consumer always got.
    """
    fields: dict[str, Any] = json.loads(record.value.decode("utf-8"))
    _require(isinstance(fields, dict), "body", fields)
    _check_fields(fields, ENVELOPE, "envelope")
    _require(set(fields) == set(ENVELOPE), "fields of the envelope", sorted(fields))
    UUID(fields["event_id"]), UUID(fields["correlation_id"])
    _require(datetime.fromisoformat(fields["event_timestamp"]).tzinfo is not None, "timestamp", fields)
    for name, value in record.headers or ():
        _require(isinstance(name, str) and isinstance(value, bytes), "header", (name, value))
        value.decode("utf-8")
    return fields


def read_notification(payload: str) -> dict[str, Any]:
    """A message of a user's channel: two keys, no more.

    Raises:
        UnreadableError: It is not.
    """
    fields = json.loads(payload)
    _require(isinstance(fields, dict) and set(fields) == {"event", "data"}, "notification", fields)
    return dict(fields)


# --- idempotency


def key_of(service: str, record: Any) -> str:
    """The key of an event: by its headers when both are there, else by its body."""
    headers = {_as_text(name): value.decode() for name, value in record.headers or ()}
    if "event_id" in headers and "event_type" in headers:
        subject = json.dumps({"event_id": headers["event_id"]}, sort_keys=True, separators=(",", ":"))
        return _key(service, headers["event_type"], subject)
    body = json.loads(record.value)
    known = {"event_id": body["event_id"], "data": body["data"]} if body.get("event_id") else body["data"]
    return _key(service, body.get("event_type", "unknown"), json.dumps(known, sort_keys=True))


def _as_text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _key(service: str, event_type: str, subject: str) -> str:
    digest = hashlib.sha256(subject.encode("utf-8")).hexdigest()
    return f"{PREFIX}:{service}:{event_type.replace('.', '_')}:{digest}"


def read_record(stored: str) -> dict[str, Any]:
    """What is kept of an event, read as strictly as can be; more keys than known are passed over.

    Raises:
        UnreadableError: It is not in the format.
    """
    record: dict[str, Any] = json.loads(stored)
    _require(isinstance(record, dict), "record", record)
    _check_fields(record, CLAIMED, "record")
    _check_fields(record, {"correlation_id": (str, type(None)), "source_service": str}, "record")
    _require(record["status"] in {"processing", "completed"}, "status", record)
    if record["status"] == "completed":
        _check_fields(record, {"completed_at": float}, "completed record")
    return record


async def record_at(redis: Redis, key: str) -> dict[str, Any]:
    """What is kept under a key, read strictly; there has to be something."""
    return read_record(str(await redis.get(key)))


class EarlierWorker:
    """One consumer process: GET, SET NX EX, SET EX and DEL, without an owner.

    Args:
        redis: The driver's client.
        service: In the keys.
        ttl_seconds: How long a processed event is remembered.
    """

    def __init__(self, redis: Redis, service: str, ttl_seconds: int = 3600) -> None:
        self._redis = redis
        self._service = service
        self._ttl = ttl_seconds

    async def deliver(self, record: Any, handler: Callable[[Callable[[], Awaitable[None]]], Awaitable[Any]]) -> Any:
        """Run the handler, or return ``None`` for a duplicate and for what another has in hand."""
        key = key_of(self._service, record)
        stored = await self._redis.get(key)
        if stored is not None:
            known = read_record(str(stored))
            if known["status"] == "completed" or time() - known["started_at"] <= PROCESSING_SECONDS:
                return None
            await self._redis.delete(key)
        started = time()
        if not await self._redis.set(key, self._text("processing", started), nx=True, ex=PROCESSING_SECONDS):
            return None

        async def confirm() -> None:
            await self._redis.set(key, self._text("completed", started, completed_at=time()), ex=self._ttl)

        try:
            return await handler(confirm)
        except Exception:
            await self._redis.delete(key)
            raise

    def _text(self, status: str, started: float, **more: float) -> str:
        about = {"processed_by": self._service, "event_id": "e", "correlation_id": "c", "source_service": "s"}
        return json.dumps({"status": status, "started_at": started, **about, **more})


# --- outbox

_INSERT = text(
    "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic,"
    " published_at, retry_count, last_error) VALUES (:id, :aggregate_id, 'essay', :event_type, :event_data,"
    " :event_key, :topic, CASE WHEN :published THEN now() END, :retry_count, :last_error)"
).bindparams(bindparam("id", type_=Uuid), bindparam("event_data", type_=JSON), bindparam("last_error", type_=Text))
_SELECT = text(
    "SELECT id, aggregate_id, aggregate_type, event_type, event_data, event_key, topic, created_at, published_at,"
    " retry_count, last_error FROM event_outbox WHERE published_at IS NULL ORDER BY created_at LIMIT :limit"
).columns(id=Uuid, event_data=JSON)
_PUBLISHED = text("UPDATE event_outbox SET published_at = now() WHERE event_outbox.id = :id").bindparams(
    bindparam("id", type_=Uuid)
)
_FAILED = text("UPDATE event_outbox SET last_error = :error WHERE event_outbox.id = :id").bindparams(
    bindparam("id", type_=Uuid)
)
_RETRIED = text(
    "UPDATE event_outbox SET retry_count = :count, last_error = :error WHERE event_outbox.id = :id"
).bindparams(bindparam("id", type_=Uuid))


async def add_row(
    connection: AsyncConnection,
    topic: str,
    stored: Mapping[str, Any],
    *,
    aggregate_id: str = "essay-1",
    event_key: str | None = "essay-1",
    published: bool = False,
    retry_count: int = 0,
    last_error: str | None = None,
) -> UUID:
    """A row as the earlier manager left it; ``topic`` is repeated in the payload."""
    row_id = uuid4()
    values = {
        "id": row_id,
        "aggregate_id": aggregate_id,
        "event_type": stored.get("event_type", "huleedu.test.moved.v1"),
        "event_data": {**stored, "topic": topic},
        "event_key": event_key,
        "topic": topic,
        "published": published,
        "retry_count": retry_count,
        "last_error": last_error,
    }
    await connection.execute(_INSERT, values)
    return row_id


def read_row(row: Row[Any]) -> dict[str, Any]:
    """The payload of a waiting row, read as strictly as can be.

    Raises:
        UnreadableError: The row is not as rows always were.
    """
    for name, kind, length in (
        ("aggregate_id", str, 255),
        ("aggregate_type", str, 100),
        ("event_type", str, 255),
        ("topic", str, 255),
        ("event_key", (str, type(None)), 255),
    ):
        value = getattr(row, name)
        _require(isinstance(value, kind) and len(value or "") <= length, f"column {name}", value)
    _require(isinstance(row.id, UUID) and isinstance(row.created_at, datetime), "id or created_at", row)
    _require(row.published_at is None and isinstance(row.retry_count, int), "state", row)
    _require(isinstance(row.event_data, dict), "event_data", row.event_data)
    stored = dict(row.event_data)
    _require(stored.pop("topic", None) == row.topic, "topic in the payload", row.event_data)
    headers = stored.pop("headers", None)
    _require(headers is None or all(isinstance(value, str) for value in headers.values()), "headers", headers)
    _check_fields(stored, ENVELOPE, "payload")
    _require(set(stored) == set(ENVELOPE), "fields of the payload", sorted(stored))
    return stored


class EarlierRelay:
    """One relay process: no lock, one row after the other, a new event id at each attempt, no headers.

    Args:
        engine: The database.
        producer: Kafka.
        max_retries: Attempts after which a row is only reported.
    """

    def __init__(self, engine: AsyncEngine, producer: AIOKafkaProducer, max_retries: int = 5) -> None:
        self._engine = engine
        self._producer = producer
        self._max_retries = max_retries
        self.published: list[UUID] = []

    async def waiting(self, limit: int = 100) -> Sequence[Row[Any]]:
        """The rows that have not been published, oldest first; given-up ones among them."""
        async with self._engine.connect() as connection:
            return (await connection.execute(_SELECT, {"limit": limit})).all()

    async def pass_once(self, limit: int = 100, *, dies_before_marking: bool = False) -> int:
        """Publish what waits, one batch; how many rows there were."""
        rows = await self.waiting(limit)
        for row in rows:
            if row.retry_count >= self._max_retries:
                await self._execute(_FAILED, id=row.id, error="Exceeded max retries")
                continue
            await self._publish(row)
            if dies_before_marking:
                break
            await self._execute(_PUBLISHED, id=row.id)
            self.published.append(row.id)
        return len(rows)

    async def fail_once(self, row_id: UUID, count: int) -> None:
        """Note a failed attempt, as it did after an error of Kafka."""
        await self._execute(_RETRIED, id=row_id, count=count, error="KafkaConnectionError")

    async def _publish(self, row: Row[Any]) -> None:
        fields = read_row(row)
        rebuilt = envelope(fields["data"], event_type=row.event_type)
        kept = {name: fields[name] for name in ("source_service", "correlation_id", "metadata")}
        key = row.event_key.encode() if row.event_key else None
        await self._producer.send_and_wait(row.topic, json.dumps({**rebuilt, **kept}).encode(), key=key)

    async def _execute(self, statement: Any, **values: Any) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(statement, values)
