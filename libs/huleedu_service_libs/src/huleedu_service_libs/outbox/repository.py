"""The outbox in PostgreSQL, through SQLAlchemy.

Services add events with it, in their own transaction; the relay takes its
batch store from it. Works with every variant of the table that services have,
with and without time zones, JSON or JSONB, and needs no column beyond the eleven.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.outbox.insertion import NewRow, insert_rows
from huleedu_service_libs.outbox.lanes import PostgreSQLBatchStore
from huleedu_service_libs.outbox.models import EventOutbox
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.outbox.protocols import OutboxBatchStore, OutboxEvent
from huleedu_service_libs.outbox.writers import WriterGate

__all__ = ["PostgreSQLOutboxRepository"]

_MAX_ERROR_LENGTH = 1000  # characters of an error that are stored


class PostgreSQLOutboxRepository:
    """Stores outbox events.

    Args:
        engine: Where the table is.
        service_name: Label of the metrics.
        enable_metrics: Whether additions are counted.
    """

    def __init__(self, engine: AsyncEngine, service_name: str = "unknown", enable_metrics: bool = True) -> None:  # noqa: FBT001, FBT002  # the services' signature
        self.engine = engine
        self.service_name = service_name
        self.metrics: OutboxMetrics | None = OutboxMetrics(service_name) if enable_metrics else None
        self._session_factory: Callable[[], AbstractAsyncContextManager[AsyncSession]] = async_sessionmaker(
            engine, expire_on_commit=False
        )

    async def add_event(
        self,
        aggregate_id: str,
        aggregate_type: str,
        event_type: str,
        event_data: dict[str, Any],
        topic: str,
        event_key: str | None = None,
        session: AsyncSession | None = None,
    ) -> UUID:
        """Add an event.

        Args:
            aggregate_id: What the event is about, 255 characters at most.
            aggregate_type: Of which kind that is, 100 characters at most.
            event_type: Name and version.
            event_data: The envelope in JSON form.
            topic: Where it goes.
            event_key: Partition key.
            session: The business transaction; it is flushed, never committed. Without it the event
                is stored in a transaction of its own.

        Returns:
            The row's id.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database refused it or is out of reach.
            TypeError: ``event_data`` has no JSON form.
        """
        row = NewRow(
            id=uuid7(),
            aggregate_id=aggregate_id,
            aggregate_type=aggregate_type,
            event_type=event_type,
            event_data=event_data,
            event_key=event_key,
            topic=topic,
        )
        await self.add_events([row], session=session)
        return row.id

    async def add_events(self, rows: Sequence[NewRow], *, session: AsyncSession | None = None) -> None:
        """Add many events by one statement; they leave in the order given.

        Args:
            rows: The events.
            session: As for `add_event`.

        Raises:
            sqlalchemy.exc.SQLAlchemyError: The database refused it or is out of reach; none is added.
            TypeError: A payload has no JSON form; none is added.
        """
        if session is not None:
            await insert_rows(session, rows)
        else:
            async with self._session_factory() as own:
                await insert_rows(own, rows)
                await own.commit()
        if self.metrics is not None:
            for row in rows:
                self.metrics.increment_events_added(row.event_type)

    async def get_unpublished_events(self, limit: int = 100) -> list[OutboxEvent]:
        """The oldest unpublished events, in the order in which they were added."""
        # published_at leads the order, so that the partial index (published_at, created_at) serves it.
        statement = (
            select(EventOutbox)
            .where(EventOutbox.published_at.is_(None))
            .order_by(EventOutbox.published_at, EventOutbox.created_at, EventOutbox.id)
            .limit(limit)
        )
        async with self._session_factory() as session:
            result = await session.execute(statement)
            return [StoredEvent(row) for row in result.scalars().all()]

    async def mark_event_published(self, event_id: UUID) -> None:
        """Note that the broker has acknowledged the event; an unknown id changes nothing."""
        await self._update(event_id, published_at=datetime.now(UTC))

    async def mark_event_failed(self, event_id: UUID, error: str) -> None:
        """Note the error of an event that is given up; it stays unpublished."""
        await self._update(event_id, last_error=error[:_MAX_ERROR_LENGTH])

    async def increment_retry_count(self, event_id: UUID, error: str) -> None:
        """Count a failed attempt and note its error."""
        async with self._session_factory() as session:
            result = await session.execute(
                select(EventOutbox.retry_count).where(EventOutbox.id == event_id).with_for_update()
            )
            found = result.scalar_one_or_none() or 0
            attempts = int(getattr(found, "retry_count", found))  # sessions of tests hand out whole rows
            await session.execute(
                update(EventOutbox)
                .where(EventOutbox.id == event_id)
                .values(retry_count=attempts + 1, last_error=error[:_MAX_ERROR_LENGTH])
            )
            await session.commit()

    async def get_event_by_id(self, event_id: UUID) -> OutboxEvent | None:
        """One event, or ``None``."""
        async with self._session_factory() as session:
            result = await session.execute(select(EventOutbox).where(EventOutbox.id == event_id))
            row = result.scalar_one_or_none()
            return None if row is None else StoredEvent(row)

    def batch_store(self, *, strict_order_limit_seconds: float | None = None) -> OutboxBatchStore:
        """What a relay works with: a share of the keys, and a connection of its own.

        Args:
            strict_order_limit_seconds: When given, nothing younger than the oldest running writer is handed
                out, and the log names a writer that holds events back for longer (see `writers`).
        """
        limit = strict_order_limit_seconds
        gate = None if limit is None else WriterGate(service_name=self.service_name, limit_seconds=limit)
        return PostgreSQLBatchStore(
            self.engine, service_name=self.service_name, max_error_length=_MAX_ERROR_LENGTH, gate=gate
        )

    async def _update(self, event_id: UUID, **values: Any) -> None:
        async with self._session_factory() as session:
            await session.execute(update(EventOutbox).where(EventOutbox.id == event_id).values(**values))
            await session.commit()


class StoredEvent:
    """A row, read only, whose attributes are looked at when they are asked for."""

    __slots__ = ("_row",)

    def __init__(self, row: Any) -> None:
        self._row = row

    @property
    def id(self) -> UUID:
        """See `OutboxEvent`."""
        row_id: UUID = self._row.id
        return row_id

    def __getattr__(self, name: str) -> Any:
        if name not in _FIELDS:
            raise AttributeError(f"an outbox event has no attribute {name!r}")
        return getattr(self._row, name)

    def __repr__(self) -> str:
        return f"StoredEvent(id={self._row.id})"


_FIELDS = frozenset(column.key for column in EventOutbox.__table__.columns)
