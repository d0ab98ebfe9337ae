"""What watching a database costs: one query, bare, watched by this library, and by OpenTelemetry's instrumentation.

``make bench SUBJECT=database``. All in one run and in turn, each with an engine of its own: on a real PostgreSQL, where
a round trip hides much, and on SQLite in memory, where nothing does. A query is what services do: a connection out of
the pool, one statement in a transaction, the connection back. The difference to the bare engine is the result.
Counted is the time that this process computes: waiting for the server, and whatever else the machine does, is nobody's cost.
"""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy import Column, Engine, Integer, MetaData, QueuePool, String, Table, create_engine, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from harness import Figure, measure, versions_of, write_result
from huleedu_service_libs.database import DatabaseMonitoringConfig, setup_database_monitoring
from huleedu_service_libs.testing.devstack import DevStack

PACKAGES = (
    "sqlalchemy",
    "asyncpg",
    "opentelemetry-instrumentation-sqlalchemy",
    "opentelemetry-sdk",
    "prometheus-client",
)
ROUNDS, CALLS = 15, 100

METADATA = MetaData()
ESSAYS = Table("essays", METADATA, Column("id", Integer, primary_key=True), Column("title", String))
QUERY = select(ESSAYS.c.title).where(ESSAYS.c.id == 1)

Call = Callable[[], Awaitable[Any]]

BARE = "bare"
OURS = "ours: metrics, pool, slow log, spans on"
OURS_SPAN = "ours, inside a recorded span"
THEIRS_OFF = "OpenTelemetry, nothing sampled"
THEIRS = "OpenTelemetry, recorded"


def _instrument(engine: Engine, provider: TracerProvider) -> None:
    SQLAlchemyInstrumentor._instance = None  # one for each engine  # noqa: SLF001
    SQLAlchemyInstrumentor().instrument(engine=engine, tracer_provider=provider, skip_dep_check=True)


def _within_a_span(call: Call) -> Call:
    tracer = trace.get_tracer("bench")

    async def run() -> None:
        with tracer.start_as_current_span("request"):
            await call()

    return run


def _subjects(make: Callable[[], Any], query: Callable[[Any], Call]) -> dict[str, Call]:
    engines = {name: make() for name in (BARE, OURS, OURS_SPAN, THEIRS_OFF, THEIRS)}
    for name in (OURS, OURS_SPAN):
        setup_database_monitoring(engines[name], f"bench_{id(engines[name])}", config=DatabaseMonitoringConfig())
    for name, provider in ((THEIRS_OFF, TracerProvider(sampler=ALWAYS_OFF)), (THEIRS, TracerProvider())):
        _instrument(getattr(engines[name], "sync_engine", engines[name]), provider)
    calls = {name: query(engine) for name, engine in engines.items()}
    calls[OURS_SPAN], calls[THEIRS] = _within_a_span(calls[OURS_SPAN]), _within_a_span(calls[THEIRS])
    return {**calls, "bare, inside a recorded span": _within_a_span(calls[BARE])}


def _ask_asynchronously(engine: AsyncEngine) -> Call:
    async def ask() -> None:
        async with engine.connect() as connection:
            await connection.execute(QUERY)

    return ask


def _ask_in_memory(engine: Engine) -> Call:
    async def ask() -> None:
        with engine.connect() as connection:
            connection.execute(QUERY)

    return ask


def _in_memory() -> Engine:
    engine = create_engine("sqlite://", poolclass=QueuePool, pool_size=1, max_overflow=0)
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.execute(insert(ESSAYS).values(id=1, title="one"))
    return engine


def _print(title: str, figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    print(f"\n{title}\n  {'':<44}{'median µs':>10}{'± µs':>8}{'best µs':>9}{'added µs':>10}{'of bare':>9}")
    rows = {}
    for name, figure in figures.items():
        inside = name in {OURS_SPAN, THEIRS}
        base = figures["bare, inside a recorded span" if inside else BARE]
        median, best = figure.median / 1000, figure.best / 1000
        added = (figure.best - base.best) / 1000
        ratio = figure.best / base.best
        rows[name] = {"median_us": median, "best_us": best, "added_us": added, "of_bare": ratio}
        print(f"  {name:<44}{median:>10.1f}{figure.spread / 1000:>8.1f}{best:>9.1f}{added:>10.1f}{ratio:>9.2f}")
    return rows


async def _on_postgresql(url: str) -> dict[str, dict[str, float]]:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
        await connection.execute(insert(ESSAYS).values(id=1, title="one"))
    await engine.dispose()
    made: list[AsyncEngine] = []

    def make() -> AsyncEngine:
        made.append(create_async_engine(url))
        return made[-1]

    figures = await measure(
        _subjects(make, _ask_asynchronously), rounds=ROUNDS, calls=CALLS, clock=time.process_time_ns
    )
    for each in made:
        await each.dispose()
    return _print("One query on PostgreSQL, by asyncpg", figures)


async def _on_sqlite() -> dict[str, dict[str, float]]:
    figures = await measure(
        _subjects(_in_memory, _ask_in_memory), rounds=ROUNDS, calls=CALLS * 4, clock=time.process_time_ns
    )
    return _print("One query on SQLite in memory", figures)


def main() -> int:
    """Measure, print, write."""
    trace.set_tracer_provider(TracerProvider())
    with DevStack(["postgres"]) as stack:
        url = stack.postgres.create_database(None).replace("postgresql://", "postgresql+asyncpg://", 1)
        postgresql = asyncio.run(_on_postgresql(url))
    sqlite = asyncio.run(_on_sqlite())
    versions = versions_of(PACKAGES)
    print(
        f"\n{versions}\n{write_result('database', {'postgresql': postgresql, 'sqlite': sqlite, 'versions': versions})}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
