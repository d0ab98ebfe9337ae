"""What leaves while a topic is out of reach, and what finding it costs, on a real PostgreSQL."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.types import Integer, Text, Uuid

from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from tests.contract.outbox_tables import VARIANTS

from ..databases import engine_with

pytestmark = pytest.mark.integration

ADD: dict[str, Any] = {"aggregate_type": "essay", "event_type": "e.v1", "event_data": {"data": {}}}


@pytest.mark.parametrize("ddl", [None, *VARIANTS.values()], ids=["as the model", *VARIANTS])
async def test_a_key_waits_behind_its_first_event_of_the_topic_and_not_before(
    postgres_database: str, ddl: str | None
) -> None:
    """Earlier events of the key leave, later ones of any topic wait, other keys go; an empty key is the aggregate's id."""
    async with engine_with(ddl or Base.metadata, postgres_database, zone="Europe/Stockholm") as engine:
        repository = PostgreSQLOutboxRepository(engine, "svc")
        course = [
            ("a", "up"),
            ("a", "down"),
            ("b", "up"),
            ("a", "up"),
            ("c", "down"),
            ("c", "down"),
            ("c", "up"),
            ("b", "up"),
        ]
        ids = [
            await repository.add_event(**ADD, aggregate_id=key, topic=topic, event_key="" if number % 2 else key)
            for number, (key, topic) in enumerate(course)
        ]
        store = repository.batch_store()
        events = await store.fetch(limit=100, max_retries=5, held_keys=[], held_topics=["down"])
        assert [event.id for event in events] == [ids[0], ids[2], ids[7]]
        assert len(await store.fetch(limit=100, max_retries=5, held_keys=[], held_topics=["another"])) == len(ids)
        await store.close()


async def test_the_look_past_a_backlog_of_a_held_topic_does_not_grow_with_its_square(engine: AsyncEngine) -> None:
    """On a table of which the planner knows nothing, 100 000 held events are read once, not for each candidate."""
    async with engine.begin() as connection:
        await connection.execute(text("ALTER TABLE event_outbox SET (autovacuum_enabled = false)"))
        await connection.execute(
            text(
                "INSERT INTO event_outbox (id, aggregate_id, aggregate_type, event_type, event_data, topic, created_at)"
                " SELECT gen_random_uuid(), 'a' || n, 'x', 'e', '{}', CASE WHEN n % 100 = 0 THEN 'up' ELSE 'down' END,"
                " now() + n * interval '1 ms' FROM generate_series(1, 100000) n"
            )
        )
        await connection.execute(text("SET enable_sort = off"))
        async with asyncio.timeout(60):
            plan = (
                await connection.scalars(
                    text("EXPLAIN (ANALYZE) " + statements.fetch_statement(topics_held=True).text).bindparams(
                        bindparam("lanes", [], type_=ARRAY(Integer)),
                        bindparam("held_keys", [], type_=ARRAY(Text)),
                        bindparam("held_topics", ["down"], type_=ARRAY(Text)),
                        bindparam("in_flight", [], type_=ARRAY(Uuid)),
                        max_retries=5,
                        all_lanes=True,
                        limit=500,
                    )
                )
            ).all()
    assert not any("Nested Loop" in line or "Join" in line for line in plan), plan
    assert any("InitPlan" in line for line in plan), plan
