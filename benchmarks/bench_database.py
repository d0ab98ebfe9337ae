"""What watching a database costs: one query, bare, watched by this library, and by OpenTelemetry's instrumentation.

``make bench SUBJECT=database``. On a real PostgreSQL, where a round trip hides much, and on SQLite in memory, where nothing
does. A query is what services do: a connection out of the pool, one statement in a transaction, the connection back.
Counted is the time that the thread computes: waiting for the server is nobody's cost. What else runs on the machine still
slows it, by taking the caches, and more than the watching costs: so each process has a bare engine beside the watched one,
asks them by turns, and the result is the median of the differences between neighbours. OpenTelemetry's instrumentation wraps
``Engine.connect`` for all engines of a process, so its bare neighbour pays for a part of it: its figure is a lower bound.
"""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection
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
ROUNDS, CALLS = in_short(20, 2), in_short(40, 5)

METADATA = MetaData()
ESSAYS = Table("essays", METADATA, Column("id", Integer, primary_key=True), Column("title", String))
QUERY = select(ESSAYS.c.title).where(ESSAYS.c.id == 1)

Call = Callable[[], Awaitable[Any]]

OURS = "ours: metrics, pool, slow log, spans on"
OURS_SPAN = "ours, inside a recorded span"
THEIRS_OFF = "OpenTelemetry, nothing sampled"
THEIRS = "OpenTelemetry, recorded"
SUBJECTS = (OURS, THEIRS_OFF, OURS_SPAN, THEIRS)

Pair = tuple[float, float]
"""CPU ns of one bare query, and of the watched one beside it."""


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


def _watch(name: str, engine: AsyncEngine | Engine) -> None:
    if name in {OURS, OURS_SPAN}:
        setup_database_monitoring(engine, "bench")
        return
    provider = TracerProvider(sampler=ALWAYS_OFF) if name == THEIRS_OFF else TracerProvider()
    root = getattr(engine, "sync_engine", engine)
    SQLAlchemyInstrumentor().instrument(engine=root, tracer_provider=provider, skip_dep_check=True)


def _call(name: str, engine: AsyncEngine | Engine) -> Call:
    call = _ask_asynchronously(engine) if isinstance(engine, AsyncEngine) else _ask_in_memory(engine)
    return _within_a_span(call) if name in {OURS_SPAN, THEIRS} else call


async def _timed(call: Call) -> int:
    started = time.thread_time_ns()
    await call()
    return time.thread_time_ns() - started


def _work(name: str, url: str, pipe: Connection) -> None:
    """One subject in a process of its own: for each number that comes, so many pairs back."""
    trace.set_tracer_provider(TracerProvider())
    engines = [create_async_engine(url) if url else _in_memory() for _ in range(2)]
    _watch(name, engines[1])
    bare, watched = (_call(name, engine) for engine in engines)

    async def rounds() -> None:
        while calls := await asyncio.to_thread(pipe.recv):
            pairs: list[Pair] = []
            for number in range(calls):
                if number % 2:  # who comes second finds the caches warm
                    second = await _timed(watched)
                    pairs.append((await _timed(bare), second))
                else:
                    pairs.append((await _timed(bare), await _timed(watched)))
            pipe.send(pairs)

    asyncio.run(rounds())


def _measure(url: str, calls: int) -> dict[str, list[Pair]]:
    """All subjects in turn, each in its process."""
    spawn = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    samples: dict[str, list[Pair]] = {name: [] for name in SUBJECTS}
    for name in SUBJECTS:
        pipes[name], theirs = spawn.Pipe()
        spawn.Process(target=_work, args=(name, url, theirs), daemon=True).start()
    for number in range(ROUNDS + 1):
        for name, pipe in pipes.items():
            pipe.send(calls)
            pairs = pipe.recv()
            if number:  # the first one warms
                samples[name] += pairs
    for pipe in pipes.values():
        pipe.send(0)
    return samples


def _print(title: str, samples: Mapping[str, list[Pair]]) -> dict[str, dict[str, float]]:
    print(f"\n{title}\n  {'':<44}{'bare µs':>10}{'watched µs':>12}{'added µs':>10}{'± µs':>8}{'of bare':>9}")
    rows = {}
    for name, pairs in samples.items():
        bare, watched = (figure(times).median / 1000 for times in zip(*pairs, strict=True))
        added = figure([other - one for one, other in pairs])
        rows[name] = {
            "bare_us": bare,
            "median": watched,
            "added_us": added.median / 1000,
            "spread": added.spread / 1000 / len(pairs) ** 0.5,
            "of_bare": 1 + added.median / 1000 / bare,
        }
        print(f"  {name:<44}" + "{:>10.1f}{:>12.1f}{:>10.1f}{:>8.1f}{:>9.2f}".format(*rows[name].values()))
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
        "unit": "µs of CPU a query: medians, added: of the differences between neighbours",
        "parts": {"postgresql": postgresql, "sqlite": sqlite},
        "versions": versions,
    }
    print(f"\n{versions}\n{write_result('database', content)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
