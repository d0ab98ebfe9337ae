"""What services call to publish an event: it becomes a row of their own transaction.

The relay does the rest. Knows the repository and Redis only through their ports.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from common_core.error_enums import ErrorCode
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.payload import NewEvent, event_key_of, payload_of, row_of
from huleedu_service_libs.outbox.protocols import OutboxRepositoryProtocol
from huleedu_service_libs.outbox.wake_sending import WakeSender
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, concrete_capability

__all__ = ["NewEvent", "OutboxManager", "resolve_partition_key"]

_NO_CORRELATION_ID = UUID(int=0)

logger = create_service_logger("huleedu.outbox.manager")


class OutboxManager:
    """Stores events in the outbox.

    Args:
        outbox_repository: Where rows go.
        redis_client: Carries the wake-up to relays in other processes.
        service_name: Names the wake-up list and stands in errors; the relay must have the same.
    """

    def __init__(
        self,
        outbox_repository: OutboxRepositoryProtocol,
        redis_client: AtomicRedisClientProtocol | None = None,
        service_name: str = "unknown_service",
    ) -> None:
        self.outbox_repository = outbox_repository
        self.redis_client = redis_client
        self.service_name = service_name
        self._wake = WakeSender(redis_client, service_name)

    async def publish_to_outbox(
        self,
        aggregate_type: str,
        aggregate_id: str,
        event_type: str,
        event_data: EventEnvelope[Any],
        topic: str,
        message_key: str | None = None,
        headers: dict[str, str] | None = None,
        session: AsyncSession | None = None,
    ) -> None:
        """Store an event; it is published if and when the transaction commits.

        Events of one key (``metadata["partition_key"]``, else ``message_key``, else
        ``aggregate_id``) leave in the order of these calls. The current W3C trace context is put into
        the envelope's metadata unless it holds one, and an envelope that was made without a correlation id is stored with
        that of the request or event which is being handled.

        Args:
            aggregate_type: Kind of the thing that the event is about.
            aggregate_id: Which one.
            event_type: Name and version of the event.
            event_data: The envelope.
            topic: Kafka topic.
            message_key: Partition key.
            headers: Further Kafka headers; they win over the standard ones.
            session: The business transaction. It is flushed, never committed. Without it the event is
                stored in a transaction of its own.

        Raises:
            HuleEduError: ``EXTERNAL_SERVICE_ERROR``, when there is no repository, the envelope is none,
                or storing failed. A `HuleEduError` of the repository is passed on as it is.
        """
        event = NewEvent(
            aggregate_type=aggregate_type,
            aggregate_id=aggregate_id,
            event_type=event_type,
            event_data=event_data,
            topic=topic,
            message_key=message_key,
            headers=headers,
        )
        with self._typed_errors(event):
            await self._add(event, session)
        await self._wake_up(session)
        logger.debug(
            "outbox_event_stored",
            service=self.service_name,
            event_type=event_type,
            aggregate_id=aggregate_id,
            topic=topic,
        )

    async def publish_many_to_outbox(self, events: Sequence[NewEvent], *, session: AsyncSession | None = None) -> None:
        """Store many events, by one statement where the repository can; all of them or none.

        They leave in the order given, key by key; see `publish_to_outbox`.

        Args:
            events: What to store.
            session: The business transaction. It is flushed, never committed.

        Raises:
            HuleEduError: As for `publish_to_outbox`; ids in it are the first event's.
        """
        if not events:
            return
        with self._typed_errors(events[0]):
            await self._add_all(events, session)
        await self._wake_up(session)
        logger.debug("outbox_events_stored", service=self.service_name, count=len(events))

    async def _add(self, event: NewEvent, session: AsyncSession | None) -> None:
        payload = payload_of(event.event_data, event.topic, event.headers)
        await self.outbox_repository.add_event(
            aggregate_id=event.aggregate_id,
            aggregate_type=event.aggregate_type,
            event_type=event.event_type,
            event_data=payload,
            topic=event.topic,
            event_key=event_key_of(payload, event.message_key, event.aggregate_id),
            session=session,
        )

    async def _add_all(self, events: Sequence[NewEvent], session: AsyncSession | None) -> None:
        add_events = concrete_capability(self.outbox_repository, "add_events", beside=["add_event"])
        if add_events is not None:
            await add_events([row_of(event) for event in events], session=session)
        elif session is not None:
            for event in events:
                await self._add(event, session)
        else:
            raise ValueError(
                f"{type(self.outbox_repository).__name__} adds events one by one: many at once need a session,"
                " or a part of them could be stored"
            )

    async def _wake_up(self, session: AsyncSession | None) -> None:
        # In the business transaction nothing is visible yet: the relay is woken by its commit.
        if session is None or not self._wake.send_after_commit(session):
            await self._wake.send()

    @contextmanager
    def _typed_errors(self, event: NewEvent) -> Iterator[None]:
        """Whatever goes wrong becomes the typed error that services know."""
        details = {"aggregate_id": event.aggregate_id, "event_type": event.event_type}
        if self.outbox_repository is None:
            self._fail("Outbox repository not configured", event.event_data, details)
        try:
            yield
        except HuleEduError:
            raise
        except Exception as error:  # noqa: BLE001  # as the docstring says
            self._fail(
                f"Failed to store event in outbox: {type(error).__name__}",
                event.event_data,
                details | {"error_type": type(error).__name__, "error_details": str(error)},
                cause=error,
            )

    def _fail(self, message: str, event_data: Any, details: dict[str, Any], cause: Exception | None = None) -> NoReturn:
        raise HuleEduError(
            create_error_detail_with_context(
                error_code=ErrorCode.EXTERNAL_SERVICE_ERROR,
                message=message,
                service=self.service_name,
                operation="publish_to_outbox",
                correlation_id=_correlation_id(event_data),
                details={"external_service": "outbox_repository", **details},
            )
        ) from cause


def resolve_partition_key(event_type: str, aggregate_id: str, metadata: dict[str, Any] | None = None) -> str:
    """The key that keeps the usual event families in order.

    Args:
        event_type: Decides, by what it contains, which id counts.
        aggregate_id: Stands in for a missing one.
        metadata: Holds the ids.
    """
    names: tuple[str, ...] = ()
    if "assessment.result" in event_type or "cj_assessment" in event_type:
        names = ("cj_assessment_job_id",)
    elif any(part in event_type for part in ("batch.", "spellcheck", "nlp", "student", "matching")):
        names = ("batch_id",)
    elif "essay." in event_type or "els." in event_type:
        names = ("entity_ref", "essay_id")
    for name in names:
        value = (metadata or {}).get(name)
        if value:
            return str(value)
    return aggregate_id


def _correlation_id(event_data: Any) -> UUID:
    if isinstance(event_data, dict):
        value = event_data.get("correlation_id")
    else:
        value = getattr(event_data, "correlation_id", None)
    if isinstance(value, UUID):
        return value
    try:
        return UUID(str(value))
    except ValueError:
        return _NO_CORRELATION_ID
