"""Rows of tests: an event to add, one to publish, and how many there are."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession

from common_core import EventEnvelope
from huleedu_service_libs.outbox import OutboxManager
from huleedu_service_libs.outbox.models import EventOutbox

ADD: dict[str, Any] = {
    "aggregate_id": "essay-1",
    "aggregate_type": "essay",
    "event_type": "e.v1",
    "event_data": {"data": {"ord": "Ärtsoppa på torsdag"}},
    "topic": "t",
}


async def count_rows(engine: AsyncEngine, *conditions: Any) -> int:
    """Rows that meet the conditions."""
    async with engine.connect() as connection:
        return int(await connection.scalar(select(func.count()).select_from(EventOutbox).where(*conditions)) or 0)


async def publish_one(manager: OutboxManager, session: AsyncSession | None = None) -> None:
    """Store an event, in the session if there is one."""
    await manager.publish_to_outbox(
        aggregate_type="essay",
        aggregate_id="essay-1",
        event_type="e.v1",
        event_data=EventEnvelope(event_type="e.v1", source_service="svc", data={}),
        topic="t",
        session=session,
    )
