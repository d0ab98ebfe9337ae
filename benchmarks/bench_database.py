"""What watching a database costs: one query, bare, watched by this library, and by OpenTelemetry's instrumentation.

``make bench SUBJECT=database``. All in one run and in turn, each in a process of its own: on a real PostgreSQL, where
a round trip hides much, and on SQLite in memory, where nothing does. A query is what services do: a connection out of
the pool, one statement in a transaction, the connection back. The difference to the bare engine is the result.
Counted is the time that this process computes: waiting for the server is nobody's cost. What else runs on the machine still
slows both, by taking the caches: so rounds are short, every subject has its turn in each, in another order, and the result is
the median of the differences within a round.
"""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.sqlalchemy import SQLAlchemyInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from sqlalchemy import Column, Engine, Integer, MetaData, QueuePool, String, Table, create_engine, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from harness import figure, in_short, versions_of, write_result
from huleedu_service_libs.database import setup_database_monitoring
from huleedu_service_libs.testing.devstack import DevStack

PACKAGES = (
    "sqlalchemy",
    "asyncpg",
    "opentelemetry-instrumentation-sqlalchemy",
    "opentelemetry-sdk",
    "prometheus-client",
)
ROUNDS, CALLS = in_short(60, 2), in_short(40, 5)

METADATA = MetaData()
ESSAYS = Table("essays", METADATA, Column("id", Integer, primary_key=True), Column("title", String))
QUERY = select(ESSAYS.c.title).where(ESSAYS.c.id == 1)

Call = Callable[[], Awaitable[Any]]

BARE = "bare"
OURS = "ours: metrics, pool, slow log, spans on"
OURS_SPAN = "ours, inside a recorded span"
THEIRS_OFF = "OpenTelemetry, nothing sampled"
THEIRS = "OpenTelemetry, recorded"
BARE_SPAN = "bare, inside a recorded span"
SUBJECTS = (BARE, OURS, THEIRS_OFF, BARE_SPAN, OURS_SPAN, THEIRS)


def _within_a_span(call: Call) -> Call:
    tracer = trace.get_tracer("bench")

    async def run() -> None:
        with tracer.start_as_current_span("request"):
            await call()

    return run


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


def _subject(name: str, engine: AsyncEngine | Engine) -> Call:
    """The call that is measured. OpenTelemetry's instrumentation changes the whole process, so each has its own."""
    root = getattr(engine, "sync_engine", engine)
    if name in {OURS, OURS_SPAN}:
        setup_database_monitoring(engine, "bench")
    elif name in {THEIRS, THEIRS_OFF}:
        provider = TracerProvider(sampler=ALWAYS_OFF) if name == THEIRS_OFF else TracerProvider()
        SQLAlchemyInstrumentor().instrument(engine=root, tracer_provider=provider, skip_dep_check=True)
    call = _ask_asynchronously(engine) if isinstance(engine, AsyncEngine) else _ask_in_memory(engine)
    return _within_a_span(call) if name in {OURS_SPAN, THEIRS, BARE_SPAN} else call


def _work(name: str, url: str, pipe: Connection) -> None:
    """One subject in a process of its own: a round for each number that comes, its ns a call back."""
    trace.set_tracer_provider(TracerProvider())
    call = _subject(name, create_async_engine(url) if url else _in_memory())

    async def rounds() -> None:
        while calls := await asyncio.to_thread(pipe.recv):
            started = time.process_time_ns()
            for _ in range(calls):
                await call()
            pipe.send((time.process_time_ns() - started) / calls)

    asyncio.run(rounds())


def _measure(url: str, calls: int) -> dict[str, list[float]]:
    """All subjects in turn, each in its process; ns a call, of each round."""
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    samples: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    for name in SUBJECTS:
        pipes[name], theirs = spawn.Pipe()
        spawn.Process(target=_work, args=(name, url, theirs), daemon=True).start()
    for number in range(ROUNDS + 1):
        turn = number % len(SUBJECTS)
        for name in (*SUBJECTS[turn:], *SUBJECTS[:turn]):
            pipes[name].send(calls)
            took = pipes[name].recv()
            if number:  # the first one warms
                samples[name].append(took)
    for pipe in pipes.values():
        pipe.send(0)
    return samples


def _print(title: str, samples: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    print(f"\n{title}\n  {'':<44}{'median µs':>10}{'best µs':>9}{'added µs':>10}{'± µs':>8}{'of bare':>9}")
    rows = {}
    for name, times in samples.items():
        base = samples[BARE_SPAN if name in {OURS_SPAN, THEIRS} else BARE]
        own, bare = figure(times), figure(base)
        added = [(mine - other) / 1000 for mine, other in zip(times, base, strict=True)]
        row = {
            "median": own.median / 1000,
            "best": own.best / 1000,
            "added_us": median(added),
            "added_spread_us": figure(added).spread,
            "of_bare": own.median / bare.median,
        }
        rows[name] = row
        print(
            f"  {name:<44}{row['median']:>10.1f}{row['best']:>9.1f}"
            f"{row['added_us']:>10.1f}{row['added_spread_us']:>8.1f}{row['of_bare']:>9.2f}"
        )
    return rows


async def _fill(url: str) -> None:
    engine = create_async_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(METADATA.create_all)
        await connection.execute(insert(ESSAYS).values(id=1, title="one"))
    await engine.dispose()


def main() -> int:
    """Measure, print, write."""
    with DevStack(["postgres"]) as stack:
        url = stack.postgres.create_database(None).replace("postgresql://", "postgresql+asyncpg://", 1)
        asyncio.run(_fill(url))
        postgresql = _print("One query on PostgreSQL, by asyncpg", _measure(url, CALLS))
    sqlite = _print("One query on SQLite in memory", _measure("", CALLS * 4))
    versions = versions_of(PACKAGES)
    content = {
        "unit": "µs of CPU a query (medians of interleaved rounds, added: of the differences within each)",
        "parts": {"postgresql": postgresql, "sqlite": sqlite},
        "versions": versions,
    }
    print(f"\n{versions}\n{write_result('database', content)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
