"""Statements, transactions, slow queries and spans on a real PostgreSQL, with nothing decorated."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from unittest.mock import patch

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine

from huleedu_service_libs.database import (
    DatabaseMonitoringConfig,
    SlowQuery,
    recent_slow_queries,
    setup_database_monitoring,
)
from huleedu_service_libs.database.engine_metrics import EngineMetrics
from huleedu_service_libs.testing.devstack import PostgresServer

from .figures import sample

pytestmark = pytest.mark.integration

SLOW = DatabaseMonitoringConfig(slow_statement_s=0.1, explain_slow_statements=True, explain_interval_s=0)


def _errors(service: str, operation: str, condition: str) -> float:
    return sample(f"{service}_database_statement_errors_total", operation=operation, condition=condition)


async def _with_plan() -> SlowQuery:
    """The latest slow query, once its plan is there."""
    async with asyncio.timeout(10):
        while not recent_slow_queries()[-1].plan:
            await asyncio.sleep(0.05)
    return recent_slow_queries()[-1]


async def test_statements_and_transactions_are_timed(engine: AsyncEngine, service: str) -> None:
    """Verb and table of each statement, commit or rollback of each transaction; nobody decorated anything."""
    setup_database_monitoring(engine, service)
    sessions = async_sessionmaker(engine)
    async with sessions.begin() as session:
        await session.execute(text("UPDATE essays SET title = :t"), {"t": "new"})
    async with sessions() as session:
        await session.execute(text("SELECT * FROM essays"))
    labels = {"operation": "update", "table": "essays", "result": "success"}
    assert sample(f"{service}_database_statement_duration_seconds_count", **labels) == 1
    assert sample(f"{service}_database_transaction_open_seconds_count", outcome="commit") == 1
    assert sample(f"{service}_database_transaction_open_seconds_count", outcome="rollback") == 1
    assert sample(f"{service}_database_query_duration_seconds_count", **labels) == 0, "counted under one name only"


async def test_autocommit_is_no_transaction(engine: AsyncEngine, service: str) -> None:
    """A connection that is held in autocommit mode is no long transaction."""
    setup_database_monitoring(engine, service)
    async with engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        await connection.execute(text("SELECT * FROM essays"))
    assert sample(f"{service}_database_transaction_open_seconds_count", outcome="rollback") == 0


async def test_a_violation_has_its_name(engine: AsyncEngine, service: str) -> None:
    """A failed statement is counted by PostgreSQL's condition."""
    setup_database_monitoring(engine, service)
    with pytest.raises(IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO essays VALUES (1, 'again')"))
    assert _errors(service, "insert", "unique_violation") == 1
    labels = {"operation": "insert", "table": "essays", "result": "error"}
    assert sample(f"{service}_database_statement_duration_seconds_count", **labels) == 1


async def test_a_deadlock_is_counted(engine: AsyncEngine, service: str) -> None:
    """Of two transactions that wait for each other one fails with `deadlock_detected`."""
    setup_database_monitoring(engine, service)
    both_hold = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async with engine.begin() as connection:
            await connection.execute(text("UPDATE essays SET title = 'x' WHERE id = :i"), {"i": first})
            await both_hold.wait()
            await connection.execute(text("UPDATE essays SET title = 'y' WHERE id = :i"), {"i": second})

    outcomes = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    assert sum(isinstance(outcome, DBAPIError) for outcome in outcomes) == 1
    assert _errors(service, "update", "deadlock_detected") == 1


async def test_a_lock_that_does_not_come_is_counted(engine: AsyncEngine, service: str) -> None:
    """`lock_timeout` ends the wait with `lock_not_available`, `statement_timeout` with `query_canceled`."""
    setup_database_monitoring(engine, service)
    async with engine.begin() as holder:
        await holder.execute(text("LOCK TABLE essays"))
        for setting, condition in (("lock_timeout", "lock_not_available"), ("statement_timeout", "query_canceled")):
            async with engine.connect() as waiting:
                await waiting.execute(text(f"SET {setting} = 50"))
                with pytest.raises(DBAPIError):
                    await waiting.execute(text("SELECT * FROM essays"))
                await waiting.invalidate()
            assert _errors(service, "select", condition) == 1


async def test_a_cancelled_query_is_counted_and_its_connection_given_back(engine: AsyncEngine, service: str) -> None:
    """Cancelling the task counts as `cancelled`; afterwards nothing is in use and the engine works."""
    setup_database_monitoring(engine, service)

    async def sleep() -> None:
        async with engine.begin() as connection:
            await connection.execute(text("SELECT pg_sleep(30)"))

    task = asyncio.create_task(sleep())
    other = create_async_engine(engine.url)  # its transactions are not watched
    sleeps = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()")
    async with asyncio.timeout(20), other.connect() as watcher:
        while not (await watcher.execute(sleeps)).scalar_one():
            await watcher.rollback()
            await asyncio.sleep(0.05)
    await other.dispose()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _errors(service, "select", "cancelled") == 1
    assert sample(f"{service}_database_connections_active") == 0
    assert sample(f"{service}_database_transaction_open_seconds_count", outcome="rollback") == 1
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1


async def test_figures_go_on_after_a_restart(
    engine: AsyncEngine, service: str, postgres_server: PostgresServer
) -> None:
    """The connections that a restart breaks are counted; later ones are watched as before."""
    setup_database_monitoring(engine, service)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT * FROM essays"))
    await asyncio.to_thread(postgres_server.restart)
    with suppress(DBAPIError):
        async with engine.connect() as connection:
            await connection.execute(text("SELECT * FROM essays"))
    failed = sample(f"{service}_database_statement_errors_total", operation="select", condition="admin_shutdown")
    failed += sample(f"{service}_database_statement_errors_total", operation="select", condition="connection_lost")
    assert failed == 1
    async with engine.connect() as connection:
        await connection.execute(text("SELECT * FROM essays"))
    labels = {"operation": "select", "table": "essays", "result": "success"}
    assert sample(f"{service}_database_statement_duration_seconds_count", **labels) == 2
    assert sample(f"{service}_database_connections_active") == 0


async def test_tables_are_bounded(engine: AsyncEngine, service: str) -> None:
    """After `max_tables` distinct tables further ones count as `other`."""
    setup_database_monitoring(engine, service, config=DatabaseMonitoringConfig(max_tables=1))
    async with engine.connect() as connection:
        await connection.execute(text("SELECT * FROM essays"))
        await connection.execute(text("SELECT count(*) FROM pg_class"))
        await connection.execute(text("SELECT count(*) FROM pg_namespace"))
    labels = {"operation": "select", "table": "other", "result": "success"}
    assert sample(f"{service}_database_statement_duration_seconds_count", **labels) == 2


async def test_a_slow_statement_is_logged_without_values_and_with_its_plan(
    engine: AsyncEngine, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its SQL has no literal and no parameter, its plan neither; the plan comes over a connection of its own."""
    setup_database_monitoring(engine, service, config=SLOW)
    query = "SELECT *, pg_sleep(0.15) FROM essays WHERE title = :title OR title = 'geheim'"
    async with engine.connect() as connection:
        await connection.execute(text(query), {"title": "one"})
    slow = await _with_plan()
    assert slow.query.startswith("SELECT *, pg_sleep(?) FROM essays WHERE title = ?")
    assert (slow.operation, slow.table) == ("select", "essays")
    assert 0.1 < slow.seconds < 10
    assert any("Seq Scan on essays  (cost=0.00.." in line for line in slow.plan)
    told = f"{slow}{capsys.readouterr()}"
    assert "slow_query_plan" in told
    assert "geheim" not in told
    assert "'one'" not in told
    assert sample(f"{service}_database_slow_statements_total", operation="select", table="essays") == 1
    assert sample(f"{service}_database_connections_acquired_total") == 1


async def test_explaining_a_write_writes_nothing(engine: AsyncEngine, service: str) -> None:
    """The plan of a slow write is made without running it a second time."""
    setup_database_monitoring(engine, service, config=SLOW)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SEQUENCE runs"))
        await connection.execute(
            text("INSERT INTO essays SELECT nextval('runs') + 10, pg_sleep(0.15)::text WHERE :a = 1"), {"a": 1}
        )
    assert any("Insert on essays" in line for line in (await _with_plan()).plan)
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT last_value, is_called FROM runs"))).one() == (1, True)
        assert (await connection.execute(text("SELECT count(*) FROM essays"))).scalar_one() == 3


async def test_what_ran_into_its_time_limit_has_a_plan_too(engine: AsyncEngine, service: str) -> None:
    """A statement that the server broke off for taking too long is told with its plan, on another connection."""
    setup_database_monitoring(engine, service, config=SLOW)
    async with engine.connect() as connection:
        await connection.execute(text("SET statement_timeout = 200"))
        with pytest.raises(DBAPIError, match="statement timeout"):
            await connection.execute(
                text("SELECT pg_sleep(5) FROM essays WHERE title = :title AND id < 9"), {"title": "one"}
            )
    assert any("Scan on essays" in line for line in (await _with_plan()).plan)


async def test_one_line_for_many_slow_statements(
    engine: AsyncEngine, service: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same statement with other values is told once in the interval, and each is counted."""
    config = DatabaseMonitoringConfig(slow_statement_s=0)
    setup_database_monitoring(engine, service, config=config)
    async with engine.connect() as connection:
        for number in range(20):
            await connection.execute(text(f"SELECT {number} FROM essays"))  # noqa: S608  # a number
    assert capsys.readouterr().out.count("slow_query") == 1
    assert sample(f"{service}_database_slow_statements_total", operation="select", table="essays") == 20


async def test_a_failing_recorder_fails_no_statement(engine: AsyncEngine, service: str) -> None:
    """An error of the statement watch is counted, and the result arrives."""
    setup_database_monitoring(engine, service)
    before = sample("huleedu_database_monitoring_errors_total", part="statements")
    with patch.object(EngineMetrics, "observe_statement", side_effect=RuntimeError("no figures today")):
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 7"))).scalar_one() == 7
    assert sample("huleedu_database_monitoring_errors_total", part="statements") == before + 1


@pytest.fixture(name="exported")
def _exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with patch.object(trace, "get_tracer", provider.get_tracer):
        yield exporter
    provider.shutdown()


def _attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


async def test_a_statement_has_a_span_within_a_recorded_one(
    engine: AsyncEngine, service: str, exported: InMemorySpanExporter
) -> None:
    """Named, of kind client, with OpenTelemetry's stable attributes, a child of the current span; without values."""
    setup_database_monitoring(engine, service)
    with trace.get_tracer("test").start_as_current_span("request") as parent:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT title FROM essays WHERE id = :i AND title <> 'geheim'"), {"i": 1})
    span = exported.get_finished_spans()[0]
    assert (span.name, span.kind) == ("SELECT essays", SpanKind.CLIENT)
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    assert (span.start_time or 0) <= (span.end_time or 0)
    assert _attributes(span) == {
        "db.system.name": "postgresql",
        "db.namespace": engine.url.database,
        "db.operation.name": "SELECT",
        "db.collection.name": "essays",
        "db.query.summary": "SELECT essays",
        "db.query.text": "SELECT title FROM essays WHERE id = ? AND title <> ?",
        "server.address": engine.url.host,
        "server.port": engine.url.port,
    }


async def test_a_failed_statements_span_has_the_sqlstate(
    engine: AsyncEngine, service: str, exported: InMemorySpanExporter
) -> None:
    """`error.type` and `db.response.status_code` are the SQLSTATE; the driver's text, which has values, is not told."""
    setup_database_monitoring(engine, service)
    with trace.get_tracer("test").start_as_current_span("request"), suppress(IntegrityError):
        async with engine.begin() as connection:
            await connection.execute(text("INSERT INTO essays VALUES (1, 'again')"))
    span = exported.get_finished_spans()[0]
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description is None
    assert _attributes(span)["error.type"] == "23505"
    assert _attributes(span)["db.response.status_code"] == "23505"
    assert span.events == ()


async def test_no_span_without_a_recorded_one(
    engine: AsyncEngine, service: str, exported: InMemorySpanExporter
) -> None:
    """Background work and unsampled requests make no spans."""
    setup_database_monitoring(engine, service)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT * FROM essays"))
    assert exported.get_finished_spans() == ()
