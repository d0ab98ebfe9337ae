"""The schema check, on real tables: what works passes, what is unfit is named with its fix."""

from collections.abc import AsyncIterator

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from huleedu_service_libs.outbox.schema import Finding, OutboxSchemaError, check_schema, require_schema
from tests.contract.outbox_tables import VARIANTS

pytestmark = pytest.mark.integration


@pytest.fixture(name="empty")
async def _empty(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_database, connect_args={"server_settings": {"timezone": "UTC"}})
    yield engine
    await engine.dispose()


async def _run(engine: AsyncEngine, statements: str) -> None:
    async with engine.begin() as connection:
        for statement in statements.split(";"):
            await connection.execute(text(statement))


async def _findings(engine: AsyncEngine) -> dict[str, Finding]:
    return {one.subject: one for one in (await check_schema(engine)).findings}


async def test_the_librarys_own_table_has_no_findings(engine: AsyncEngine) -> None:
    """Nothing to say about what `EventOutbox` itself makes."""
    assert (await require_schema(engine)).findings == ()


@pytest.mark.parametrize("ddl", VARIANTS.values(), ids=VARIANTS.keys())
async def test_every_table_that_services_have_is_fit(empty: AsyncEngine, ddl: str) -> None:
    """No variant has a fault; at most there is advice, about the index that does not serve the order."""
    await _run(empty, ddl)
    report = await require_schema(empty)
    assert report.fit
    assert {one.subject for one in report.findings} <= {"index ix_event_outbox_unpublished"}


async def test_the_advised_index_silences_the_advice(empty: AsyncEngine) -> None:
    """The statement of the fix can be run as it stands, and is the fix."""
    await _run(empty, VARIANTS["naive times, JSONB, server-side id"])
    (advice,) = (await check_schema(empty)).findings
    async with empty.connect() as connection:
        autocommit = await connection.execution_options(isolation_level="AUTOCOMMIT")
        await autocommit.execute(text(advice.fix))
    assert (await check_schema(empty)).findings == ()


async def test_a_missing_table_is_named(empty: AsyncEngine) -> None:
    """The error says what is missing and that migrations make it."""
    with pytest.raises(OutboxSchemaError, match=r"event_outbox is missing on the search path.*alembic upgrade head"):
        await require_schema(empty)


@pytest.mark.parametrize(
    ("change", "subject", "says", "fix"),
    [
        ("DROP COLUMN last_error", "column last_error", "is missing", "ADD last_error text"),
        ("ALTER event_data TYPE text", "column event_data", "has type text", "needs json or jsonb"),
        ("ALTER published_at SET NOT NULL", "column published_at", "NOT NULL", "DROP NOT NULL"),
        ("ALTER last_error TYPE varchar(200)", "column last_error", "holds 200", "TYPE text"),
        ("ADD tenant text NOT NULL", "column tenant", "without a default", "ALTER tenant DROP NOT NULL"),
        ("DROP CONSTRAINT event_outbox_pkey", "index on id", "is missing", "ADD PRIMARY KEY (id)"),
        ("ALTER created_at TYPE date", "column created_at", "has type date", "timestamp with time zone"),
        ("ALTER id TYPE text", "column id", "has type text", "needs uuid"),
    ],
)
async def test_what_cannot_work_is_a_fault(engine: AsyncEngine, change: str, subject: str, says: str, fix: str) -> None:
    """Each is named with what was found and what mends it, and start-up can refuse on it."""
    await _run(engine, f"ALTER TABLE event_outbox {change}")
    finding = (await _findings(engine))[subject]
    assert finding.severity == "fault"
    assert says in finding.problem
    assert fix in finding.fix
    with pytest.raises(OutboxSchemaError, match=subject):
        await require_schema(engine)


async def test_additional_columns_with_a_default_are_no_matter(engine: AsyncEngine) -> None:
    """A service may keep more in the table, as long as the outbox need not fill it."""
    await _run(engine, "ALTER TABLE event_outbox ADD note text, ADD rank integer NOT NULL DEFAULT 0")
    assert (await check_schema(engine)).findings == ()


async def test_naive_times_in_another_zone_are_told(postgres_database: str) -> None:
    """Advice names the zone and the connection option."""
    engine = create_async_engine(postgres_database, connect_args={"server_settings": {"timezone": "Europe/Stockholm"}})
    await _run(engine, VARIANTS["naive times, JSONB, server-side id"])
    finding = (await _findings(engine))["column created_at"]
    assert finding.severity == "advice"
    assert "Europe/Stockholm" in finding.problem
    assert "'timezone': 'UTC'" in finding.fix
    await engine.dispose()


async def test_missing_privileges_come_with_the_grant(engine: AsyncEngine) -> None:
    """A role that may read but not write gets the GRANT statement."""
    await _run(
        engine,
        "DROP ROLE IF EXISTS outbox_reader; CREATE ROLE outbox_reader LOGIN;"
        " GRANT SELECT ON event_outbox TO outbox_reader",
    )
    other = create_async_engine(engine.url.set(username="outbox_reader"))
    try:
        finding = (await _findings(other))["table public.event_outbox"]
    finally:
        await other.dispose()
        await _run(engine, "REVOKE ALL ON event_outbox FROM outbox_reader; DROP ROLE outbox_reader")
    assert finding.fix == 'GRANT INSERT, UPDATE ON public.event_outbox TO "outbox_reader"'


async def test_an_index_that_failed_to_build_is_told(engine: AsyncEngine) -> None:
    """An invalid index serves nobody; both the index and what it leaves unserved are named."""
    await _run(
        engine, "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'ix_event_outbox_unpublished'::regclass"
    )
    report = await check_schema(engine)
    assert report.fit
    assert [one.fix.split()[0] for one in report.findings] == ["REINDEX", "CREATE"]
