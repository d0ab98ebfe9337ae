"""What *intake* is for: an essay and its event, stored together or not at all.

Called by the routes. Knows PostgreSQL and the outbox, but no HTTP and no Kafka.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import NAMESPACE_OID, UUID, uuid4, uuid5

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from common_core.events.envelope import EventEnvelope
from essay_pipeline.clock import Now, utc_now
from essay_pipeline.contracts import SUBMITTED_TOPIC, EssaySubmittedV1
from essay_pipeline.intake.models import Essay, EssayRequest
from essay_pipeline.intake.settings import IntakeSettings
from huleedu_service_libs.database import DatabaseMetrics, query_performance_tracker
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.manager import OutboxManager

__all__ = ["EssayIntake", "Receipt", "Submission", "TransactionRolledBackError"]

_logger = create_service_logger("intake.service")


class TransactionRolledBackError(Exception):
    """The demo asked for this transaction to fail after essay and event had been written.

    Attributes:
        essay_id: Of the essay that now does not exist.
    """

    def __init__(self, essay_id: UUID) -> None:
        super().__init__(f"Essay {essay_id} was rolled back on request")
        self.essay_id = essay_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One essay on its way in.

    Attributes:
        essay: The validated request.
        user_id: Whose it is.
        correlation_id: Of the request.
        received_at: When the request had been read.
    """

    essay: EssayRequest
    user_id: str
    correlation_id: UUID
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was stored.

    Attributes:
        essay_id: The essay's id.
        event_id: The id of its event.
        stored_at: When both had been written, right before the commit.
    """

    essay_id: UUID
    event_id: UUID
    stored_at: datetime


class EssayIntake:
    """Accept essays.

    Args:
        sessions: Makes database sessions.
        outbox: Takes the events.
        settings: Of the service.
        metrics: Where the one query that every request waits for is recorded.
        now: The time of day; a test passes its own.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        outbox: OutboxManager,
        settings: IntakeSettings,
        metrics: DatabaseMetrics | None = None,
        now: Now = utc_now,
    ) -> None:
        self._sessions = sessions
        self._outbox = outbox
        self._settings = settings
        self._now = now
        self._add = query_performance_tracker(metrics, "insert", Essay.__tablename__)(_add)

    async def accept(self, submission: Submission, *, roll_back: bool = False) -> Receipt:
        """Store essay and event in one transaction; the event leaves after its commit.

        Args:
            submission: The essay.
            roll_back: Fail after both were written, for the demo.

        Raises:
            TransactionRolledBackError: ``roll_back`` was asked for.
        """
        essay_id = uuid4()
        async with self._sessions.begin() as session:
            await self._add(session, _row(essay_id, submission))
            envelope = self._event(essay_id, submission)
            await self._outbox.publish_to_outbox(
                aggregate_type="essay",
                aggregate_id=str(essay_id),
                event_type=SUBMITTED_TOPIC,
                event_data=envelope,
                topic=self._settings.topic(SUBMITTED_TOPIC),
                session=session,
            )
            if roll_back:
                raise TransactionRolledBackError(essay_id)
        _logger.info(
            "essay_stored", essay_id=str(essay_id), event_id=str(envelope.event_id), language=submission.essay.language
        )
        return Receipt(essay_id=essay_id, event_id=envelope.event_id, stored_at=envelope.data.stored_at)

    def _event(self, essay_id: UUID, submission: Submission) -> EventEnvelope[EssaySubmittedV1]:
        essay = submission.essay
        return EventEnvelope[EssaySubmittedV1](
            # From what it says: announcing one essay twice is announcing one event twice.
            event_id=uuid5(NAMESPACE_OID, f"{essay_id}:{SUBMITTED_TOPIC}"),
            event_type=SUBMITTED_TOPIC,
            source_service=self._settings.SERVICE_NAME,
            correlation_id=submission.correlation_id,
            data=EssaySubmittedV1(
                essay_id=essay_id,
                user_id=submission.user_id,
                title=essay.title,
                language=essay.language,
                text=essay.text,
                received_at=submission.received_at,
                stored_at=self._now(),
            ),
        )


async def _add(session: AsyncSession, essay: Essay) -> None:
    session.add(essay)
    await session.flush()


def _row(essay_id: UUID, submission: Submission) -> Essay:
    essay = submission.essay
    return Essay(
        id=essay_id,
        user_id=submission.user_id,
        title=essay.title,
        language=essay.language,
        text=essay.text,
        correlation_id=submission.correlation_id,
        received_at=submission.received_at,
    )
