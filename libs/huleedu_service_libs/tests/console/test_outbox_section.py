"""The console's outbox section, on a real PostgreSQL: what it shows, and what its buttons do and refuse."""

import json
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from huleedu_service_libs.console import OutboxSection, Tone
from huleedu_service_libs.console.sections import ActionRefusedError, UnknownTargetError, check_section
from huleedu_service_libs.outbox.models import Base
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository

pytestmark = pytest.mark.integration


@pytest.fixture(name="repository")
async def _repository(postgres_database: str) -> AsyncIterator[PostgreSQLOutboxRepository]:
    engine = create_async_engine(postgres_database)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    yield PostgreSQLOutboxRepository(engine, "svc")
    await engine.dispose()


async def _park(repository: PostgreSQLOutboxRepository, key: str) -> UUID:
    row = await repository.add_event(key, "essay", "e.v1", {"data": {}}, "t")
    for _ in range(5):
        await repository.increment_retry_count(row, "<b>too large</b>")
    return row


async def test_an_empty_outbox_is_well(repository: PostgreSQLOutboxRepository) -> None:
    """Good, in one sentence; the section has a name that fits into an address."""
    reading = await check_section(OutboxSection(repository)).read()
    assert (reading.tone, reading.summary) == (Tone.GOOD, "Healthy; waiting events: 0.")
    assert [len(table.rows) for table in reading.tables] == [5, 0]


async def test_parked_events_are_shown_with_cause_and_buttons(repository: PostgreSQLOutboxRepository) -> None:
    """Each row has its cause and two actions; programs get the same as JSON."""
    row = await _park(repository, "k")
    reading = await OutboxSection(repository).read()
    assert reading.tone is Tone.WARNING
    (shown,) = reading.tables[1].rows
    assert shown.target == str(row)
    assert "<b>too large</b>" in str(shown.cells)
    assert [one.name for one in shown.actions] == ["redrive", "append"]
    assert json.loads(json.dumps(reading.data))["parked"][0]["key"] == "k"


@pytest.mark.parametrize("action", ["redrive", "append"])
async def test_a_button_gives_new_attempts(repository: PostgreSQLOutboxRepository, action: str) -> None:
    """The event is no longer parked, and its note says that it was the console; a second press finds nothing."""
    row = await _park(repository, "k")
    section = OutboxSection(repository)
    assert str(row) in await section.act(action, str(row))
    event = await repository.get_event_by_id(row)
    assert event is not None
    assert event.retry_count == 0
    assert "by console" in (event.last_error or "")
    with pytest.raises(UnknownTargetError, match="redriven already"):
        await section.act(action, str(row))


async def test_in_place_out_of_order_is_refused(repository: PostgreSQLOutboxRepository) -> None:
    """Where later events of the key have left, the button says so and nothing moves; to append works."""
    row = await _park(repository, "k")
    later = await repository.add_event("k", "essay", "e.v1", {"data": {}}, "t")
    await repository.mark_event_published(later)
    section = OutboxSection(repository)
    with pytest.raises(ActionRefusedError, match=r"later events have left already.*Append it"):
        await section.act("redrive", str(row))
    assert "appended" in await section.act("append", str(row))


async def test_what_is_unknown_is_refused(repository: PostgreSQLOutboxRepository) -> None:
    """Another action, an id that is none, an event that is not parked, and one that somebody holds."""
    section = OutboxSection(repository)
    row = await _park(repository, "k")
    with pytest.raises(ActionRefusedError, match="redrive, append"):
        await section.act("delete", str(row))
    with pytest.raises(UnknownTargetError, match="'seven' is no id"):
        await section.act("redrive", "seven")
    with pytest.raises(UnknownTargetError, match="is parked"):
        await section.act("redrive", str(uuid4()))
    async with repository.engine.connect() as holder:
        await holder.execute(text("SELECT * FROM event_outbox FOR UPDATE"))
        with pytest.raises(ActionRefusedError, match="in somebody else's hands"):
            await section.act("redrive", str(row))
