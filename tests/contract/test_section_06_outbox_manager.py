"""Section 6.4: `OutboxManager`. What it gives to the repository and to Redis, and its errors."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from structlog.testing import capture_logs

from common_core.error_enums import ErrorCode
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context
from huleedu_service_libs.outbox import EventOutbox, OutboxRepositoryProtocol, PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.manager import OutboxManager, resolve_partition_key
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[6.4-signatures]
class outbox.manager:OutboxManager(outbox_repository, redis_client=None, service_name='unknown_service')
async outbox.manager:OutboxManager.publish_to_outbox(aggregate_type, aggregate_id, event_type, event_data, topic, message_key=None, headers=None, session=None)
[6.4-partition-key]
def outbox.manager:resolve_partition_key(event_type, aggregate_id, metadata=None)
"""
CORRELATION = uuid4()


class _Graded(BaseModel):
    essay_id: UUID
    text: str
    at: datetime = datetime(2025, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize("wanted", lines("06 outbox manager", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def _envelope(data: Any = None, **fields: Any) -> EventEnvelope[Any]:
    return EventEnvelope(
        event_type="e.v1",
        source_service="svc",
        correlation_id=CORRELATION,
        data=data or {"text": "räksmörgås"},
        **fields,
    )


def _double(error: Exception | None = None) -> Any:
    repository = AsyncMock(spec=OutboxRepositoryProtocol)
    repository.add_event.side_effect = error
    return repository


async def _publish(repository: Any, redis: Any = None, event_data: Any = None, **how: Any) -> None:
    await OutboxManager(repository, redis, "svc").publish_to_outbox(
        aggregate_type="essay",
        aggregate_id="a-1",
        event_type="e.v1",
        event_data=_envelope() if event_data is None else event_data,
        topic="t",
        **how,
    )


async def _stored(**how: Any) -> dict[str, Any]:
    repository = _double()
    await _publish(repository, **how)
    keywords: dict[str, Any] = repository.add_event.call_args.kwargs
    return keywords


async def _failure(repository: Any, event_data: Any = None) -> Any:
    with pytest.raises(HuleEduError) as caught:
        await _publish(repository, event_data=event_data)
    return caught.value.error_detail


@pytest.mark.contract("6.4-attributes", "6.4-signatures")
def test_attributes_of_the_manager() -> None:
    """By position or by name; two have defaults."""
    repository, redis = _double(), AsyncMock(spec=AtomicRedisClientProtocol)
    for manager in (
        OutboxManager(repository, redis, "svc"),
        OutboxManager(outbox_repository=repository, redis_client=redis, service_name="svc"),
    ):
        assert (manager.outbox_repository, manager.redis_client, manager.service_name) == (repository, redis, "svc")
    assert (OutboxManager(repository).redis_client, OutboxManager(repository).service_name) == (None, "unknown_service")


@pytest.mark.contract("6.4-add-event", "6.4-wake")
async def test_the_manager_calls_the_repository_with_keywords() -> None:
    """Everything by keyword, the session always; the key is the aggregate's; one token wakes the relay."""
    repository, redis = _double(), AsyncMock(spec=AtomicRedisClientProtocol)
    await _publish(repository, redis)
    repository.add_event.assert_awaited_once()
    assert repository.add_event.call_args.args == ()
    keywords = repository.add_event.call_args.kwargs
    event_data = keywords.pop("event_data")
    assert keywords == {
        "aggregate_id": "a-1",
        "aggregate_type": "essay",
        "event_type": "e.v1",
        "topic": "t",
        "event_key": "a-1",
        "session": None,
    }
    assert (event_data["topic"], event_data["data"]) == ("t", {"text": "räksmörgås"})
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")


@pytest.mark.contract("6.4-add-event", "6.4-wake")
async def test_the_session_is_handed_on() -> None:
    """The very session of the caller; a double of one wakes the relay as well."""
    repository, redis, session = _double(), AsyncMock(spec=AtomicRedisClientProtocol), AsyncMock(spec=AsyncSession)
    await _publish(repository, redis, session=session)
    assert repository.add_event.call_args.kwargs["session"] is session
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")
    session.commit.assert_not_called()


@pytest.mark.contract("6.4-event-data")
async def test_what_is_stored() -> None:
    """The dump of the envelope, as JSON has it, with the topic; headers only where some were given."""
    envelope = _envelope(_Graded(essay_id=uuid4(), text="å"), metadata={"m": 1})
    stored = (await _stored(event_data=envelope))["event_data"]
    assert stored["data"] == {"essay_id": str(envelope.data.essay_id), "text": "å", "at": "2025-01-02T00:00:00Z"}
    dumped = envelope.model_dump(mode="json")
    assert {name: stored[name] for name in dumped if name != "metadata"} == {
        name: value for name, value in dumped.items() if name != "metadata"
    }
    assert stored["metadata"].items() >= {"m": 1}.items()
    assert set(stored) == {*dumped, "topic"}
    with_headers = (await _stored(event_data=envelope, headers={"h": "v"}))["event_data"]
    assert (set(with_headers), with_headers["headers"]) == ({*dumped, "topic", "headers"}, {"h": "v"})
    assert envelope.metadata == {"m": 1}


@pytest.mark.contract("6.4-event-key")
@pytest.mark.parametrize(
    ("metadata", "message_key", "key"),
    [
        ({"partition_key": "p"}, "m", "p"),
        ({"partition_key": "p"}, None, "p"),
        ({}, "m", "m"),
        (None, "m", "m"),
        (None, None, "a-1"),
        ({"other": 1}, None, "a-1"),
    ],
)
async def test_the_key(metadata: dict[str, Any] | None, message_key: str | None, key: str) -> None:
    """The envelope's own wish, the caller's, the aggregate's id."""
    stored = await _stored(event_data=_envelope(metadata=metadata), message_key=message_key)
    assert stored["event_key"] == key


@pytest.mark.contract("6.4-wake-failure")
async def test_a_wake_up_that_fails() -> None:
    """The event is stored, the caller notices nothing, the log does."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    redis.lpush.side_effect = ConnectionError("redis is away")
    repository = _double()
    with capture_logs() as logs:
        await _publish(repository, redis)
    repository.add_event.assert_awaited_once()
    assert any("redis is away" in str(entry) for entry in logs)


@pytest.mark.contract("6.4-wake")
async def test_the_wake_up_of_a_real_transaction(postgres_database: str) -> None:
    """With a session of SQLAlchemy one token is sent for what was committed."""
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(EventOutbox.metadata.create_all)
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    async with AsyncSession(engine) as session:
        await _publish(PostgreSQLOutboxRepository(engine, "svc"), redis, session=session)
        await session.commit()
        async with asyncio.timeout(20):
            while not redis.lpush.called:
                await asyncio.sleep(0.01)
    await engine.dispose()
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")


# Errors


@pytest.mark.contract("6.4-no-repository")
async def test_without_a_repository() -> None:
    """The error says what is not configured, and for which event."""
    detail = await _failure(None)
    assert "Outbox repository not configured" in detail.message
    assert (detail.error_code, detail.service, detail.operation, detail.correlation_id) == (
        ErrorCode.EXTERNAL_SERVICE_ERROR,
        "svc",
        "publish_to_outbox",
        CORRELATION,
    )
    assert (
        detail.details.items()
        >= {
            "external_service": "outbox_repository",
            "aggregate_id": "a-1",
            "event_type": "e.v1",
        }.items()
    )


@pytest.mark.contract("6.4-no-envelope")
@pytest.mark.parametrize("event_data", [{"event_id": "1", "data": {}}, "text", object()])
async def test_what_is_no_envelope(event_data: Any) -> None:
    """Refused before anything is stored, with the name of what is expected."""
    repository = _double()
    detail = await _failure(repository, event_data)
    assert "Failed to store event in outbox: ValueError" in detail.message
    assert detail.details["error_type"] == "ValueError"
    assert "OutboxManager expects Pydantic EventEnvelope" in detail.details["error_details"]
    repository.add_event.assert_not_called()


@pytest.mark.contract("6.4-storage-failure")
async def test_a_failure_of_the_repository() -> None:
    """Its class and its text stand in the error, with the event and its correlation id."""
    detail = await _failure(_double(ConnectionRefusedError("database is away")))
    assert detail.message == "Failed to store event in outbox: ConnectionRefusedError"
    assert (detail.error_code, detail.operation, detail.correlation_id) == (
        ErrorCode.EXTERNAL_SERVICE_ERROR,
        "publish_to_outbox",
        CORRELATION,
    )
    assert (
        detail.details.items()
        >= {
            "external_service": "outbox_repository",
            "error_type": "ConnectionRefusedError",
            "error_details": "database is away",
            "aggregate_id": "a-1",
            "event_type": "e.v1",
        }.items()
    )


@pytest.mark.contract("6.4-storage-failure", "6.4-wake")
async def test_nothing_is_woken_for_what_was_not_stored() -> None:
    """Without a row there is no token."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    with pytest.raises(HuleEduError):
        await _publish(_double(RuntimeError("odd")), redis)
    redis.lpush.assert_not_called()


@pytest.mark.contract("6.4-typed-passes")
async def test_a_typed_error_passes() -> None:
    """What is a `HuleEduError` already reaches the caller as the same object."""
    error = HuleEduError(
        create_error_detail_with_context(ErrorCode.KAFKA_PUBLISH_ERROR, "odd", service="s", operation="o")
    )
    with pytest.raises(HuleEduError) as caught:
        await _publish(_double(error))
    assert caught.value is error


@pytest.mark.contract("6.4-correlation")
@pytest.mark.parametrize(
    ("event_data", "correlation"),
    [
        (_envelope(), CORRELATION),
        ({"correlation_id": str(CORRELATION)}, CORRELATION),
        ({"correlation_id": "no UUID"}, UUID(int=0)),
        ({}, UUID(int=0)),
        (Mock(spec=[]), UUID(int=0)),
    ],
)
async def test_whose_correlation_id_errors_carry(event_data: Any, correlation: UUID) -> None:
    """The envelope's, a dict's where it is one, and else the one of all zeros."""
    assert (await _failure(None, event_data)).correlation_id == correlation


# Keys of the usual families


METADATA = {"cj_assessment_job_id": "job", "batch_id": "batch", "entity_ref": "ref", "essay_id": "essay"}


@pytest.mark.contract("6.4-partition-key")
@pytest.mark.parametrize(
    ("event_type", "key"),
    [
        ("huleedu.assessment.result.published.v1", "job"),
        ("huleedu.batch.cj_assessment.initiate.command.v1", "job"),
        ("huleedu.batch.essays.registered.v1", "batch"),
        ("huleedu.essay.spellcheck.completed.v1", "batch"),
        ("huleedu.nlp.done.v1", "batch"),
        ("huleedu.student.found.v1", "batch"),
        ("huleedu.matching.done.v1", "batch"),
        ("huleedu.essay.graded.v1", "ref"),
        ("huleedu.els.state.v1", "ref"),
        ("huleedu.user.created.v1", "aggregate"),
    ],
)
def test_partition_keys(event_type: str, key: str) -> None:
    """Parts of the type in order of precedence; without its id, or without metadata, the aggregate's id."""
    assert resolve_partition_key(event_type, "aggregate", METADATA) == key
    assert resolve_partition_key(event_type=event_type, aggregate_id="aggregate", metadata={}) == "aggregate"
    assert resolve_partition_key(event_type, "aggregate") == "aggregate"


@pytest.mark.contract("6.4-partition-key")
def test_the_second_name_of_an_essay() -> None:
    """`entity_ref` comes before `essay_id`."""
    assert resolve_partition_key("huleedu.essay.graded.v1", "aggregate", {"essay_id": "essay"}) == "essay"
