"""What *spellcheck* is for: each submitted essay is checked once, and the result announced.

`EssayChecker.handle` is the Kafka handler. Knows PostgreSQL, the outbox and the
spell checker; where records come from and how duplicates are recognised is the
consumer's business.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from common_core.events.envelope import EventEnvelope
from essay_pipeline.clock import Now, utc_now
from essay_pipeline.contracts import CHECKED_TOPIC, EssaySpellcheckedV1, EssaySubmittedV1, MisspellingV1, kafka_moment
from essay_pipeline.spellcheck.models import SpellcheckResult, SpellcheckRun
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from essay_pipeline.spelling import SpellChecker, count_words
from huleedu_service_libs.database import DatabaseMetrics, query_performance_tracker
from huleedu_service_libs.kafka.consumer import Delivery
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outbox.manager import OutboxManager

__all__ = ["EssayChecker"]

_logger = create_service_logger("spellcheck.service")


class EssayChecker:
    """Check essays.

    Args:
        sessions: Makes database sessions.
        outbox: Takes the events.
        spelling: The dictionaries.
        settings: Of the service.
        metrics: Where the query that decides about the second of two results is recorded.
        now: The time of day; a test passes its own.
    """

    def __init__(
        self,
        sessions: async_sessionmaker[AsyncSession],
        outbox: OutboxManager,
        spelling: SpellChecker,
        settings: SpellcheckSettings,
        metrics: DatabaseMetrics | None = None,
        now: Now = utc_now,
    ) -> None:
        self._sessions = sessions
        self._outbox = outbox
        self._spelling = spelling
        self._settings = settings
        self._now = now
        self._add_first = query_performance_tracker(metrics, "insert", SpellcheckResult.__tablename__)(_add_first)

    async def handle(
        self,
        delivery: Delivery[EssaySubmittedV1],
        *,
        confirm_idempotency: Callable[[], Awaitable[None]],
    ) -> None:
        """Check one essay; result and event are committed before the event counts as handled.

        An error makes the event come again.
        """
        checked = await self._check(delivery.data, kafka_moment(delivery.record.timestamp))
        first = await self._store(checked, delivery.envelope)
        await confirm_idempotency()
        _logger.info(
            "essay_checked",
            essay_id=str(checked.essay_id),
            language=checked.language,
            word_count=checked.word_count,
            misspellings=len(checked.misspellings),
            was_first=first,
        )

    async def _check(self, submitted: EssaySubmittedV1, relayed_at: datetime) -> EssaySpellcheckedV1:
        checking_at = self._now()
        # In a thread: looking up words would stop every other task for milliseconds.
        found = await asyncio.to_thread(self._spelling.check, submitted.text, submitted.language)
        checked_at = self._now()
        return EssaySpellcheckedV1(
            essay_id=submitted.essay_id,
            user_id=submitted.user_id,
            language=submitted.language,
            word_count=count_words(submitted.text),
            misspellings=[MisspellingV1.model_validate(each.model_dump()) for each in found],
            received_at=submitted.received_at,
            stored_at=submitted.stored_at,
            relayed_at=relayed_at,
            checking_at=checking_at,
            checked_at=checked_at,
            result_stored_at=checked_at,  # replaced when it is written
        )

    async def _store(self, checked: EssaySpellcheckedV1, cause: EventEnvelope[Any]) -> bool:
        """Write run, result and event in one transaction; False when the essay had a result already."""
        async with self._sessions.begin() as session:
            first = await self._add_first(session, checked)
            session.add(
                SpellcheckRun(
                    id=uuid4(),
                    essay_id=checked.essay_id,
                    event_id=cause.event_id,
                    was_first=first,
                    ran_at=checked.checked_at,
                )
            )
            await session.flush()
            if first:
                await self._announce(checked, cause, session)
        return first

    async def _announce(self, checked: EssaySpellcheckedV1, cause: EventEnvelope[Any], session: AsyncSession) -> None:
        envelope = EventEnvelope[EssaySpellcheckedV1](
            # From the cause: whoever handles the same event again announces the same event again.
            event_id=uuid5(NAMESPACE_OID, f"{cause.event_id}:{CHECKED_TOPIC}"),
            event_type=CHECKED_TOPIC,
            source_service=self._settings.SERVICE_NAME,
            correlation_id=cause.correlation_id,
            data=checked.model_copy(update={"result_stored_at": self._now()}),
        )
        await self._outbox.publish_to_outbox(
            aggregate_type="essay",
            aggregate_id=str(checked.essay_id),
            event_type=CHECKED_TOPIC,
            event_data=envelope,
            topic=self._settings.topic(CHECKED_TOPIC),
            session=session,
        )


async def _add_first(session: AsyncSession, checked: EssaySpellcheckedV1) -> bool:
    """Add the result, unless the essay has one; whether it was added."""
    added = await session.execute(
        insert(SpellcheckResult)
        .values(_result_values(checked))
        .on_conflict_do_nothing(index_elements=[SpellcheckResult.essay_id])
        .returning(SpellcheckResult.essay_id)
    )
    return added.scalar_one_or_none() is not None


def _result_values(checked: EssaySpellcheckedV1) -> dict[str, Any]:
    return {
        "essay_id": checked.essay_id,
        "user_id": checked.user_id,
        "language": checked.language,
        "word_count": checked.word_count,
        "misspellings": [each.model_dump() for each in checked.misspellings],
        "checked_at": checked.checked_at,
    }
