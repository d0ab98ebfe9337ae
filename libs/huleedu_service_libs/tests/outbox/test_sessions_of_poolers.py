"""A relay's session behind a pooler: kept in session mode, refused in transaction mode, where locks are nobody's."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator, MutableMapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from structlog.testing import capture_logs

from huleedu_service_libs.outbox import statements
from huleedu_service_libs.outbox.lanes import LANES, LanesLostError, PostgreSQLBatchStore, SharedSessionError
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.testing.devstack import free_ports

from ..waiting import until
from .doubles import BatchingPublisher

pytestmark = pytest.mark.integration

PGBOUNCER = shutil.which("pgbouncer")


def _store(engine: AsyncEngine) -> PostgreSQLBatchStore:
    return PostgreSQLBatchStore(engine, service_name="svc", max_error_length=1000)


async def _look(store: PostgreSQLBatchStore) -> None:
    await store.fetch(limit=1, max_retries=5, held_keys=[], held_topics=[])


@pytest.mark.parametrize(
    "who_serves",
    ["SELECT 42, 1", "SELECT nextval('another_server_each_time')::int, 1"],
    ids=["two sessions have one server", "one session has many servers"],
)
async def test_a_shared_server_process_is_refused(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch, who_serves: str
) -> None:
    """As a pooler in transaction mode answers: the relay takes no lanes, and says what to change."""
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SEQUENCE another_server_each_time"))
    monkeypatch.setattr(statements, "WHO_SERVES", text(who_serves))
    store = _store(engine)
    with pytest.raises(SharedSessionError, match="pool in session mode"):
        await _look(store)
    assert not store.lanes
    await store.close()


async def test_a_relay_whose_membership_is_gone_has_lost_its_lanes(engine: AsyncEngine) -> None:
    """Locks that vanish behind its back are noticed when it counts the relays, a second later at most."""
    now = [0.0]
    store = PostgreSQLBatchStore(engine, service_name="svc", max_error_length=1000, clock=lambda: now[0])
    await _look(store)
    await store._session.execute(text("SELECT pg_advisory_unlock_all()"))
    now[0] += 2.0
    with pytest.raises(LanesLostError):
        await _look(store)
    assert not store.lanes
    await _look(store)
    assert len(store.lanes) == LANES
    await store.close()


async def test_an_engine_of_one_connection_is_let_through(
    postgres_database: str, engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind a proxy nothing can be said there, and it says that."""
    monkeypatch.setattr(statements, "WHO_SERVES", text("SELECT pg_backend_pid(), 1"))
    single = create_async_engine(postgres_database, pool_size=1, max_overflow=0)
    store = _store(single)
    with capture_logs() as logs:
        await _look(store)
    assert "outbox_pooler_check_cut_short" in [line["event"] for line in logs]
    assert len(store.lanes) == LANES
    await store.close()
    await single.dispose()


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """Readable for everybody, as PgBouncer refuses to run as root."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@asynccontextmanager
async def _pgbouncer(database: str, folder: Path, mode: str) -> AsyncIterator[AsyncEngine]:
    """An engine that goes through PgBouncer, which is started in ``folder``."""
    server = urlsplit(database)
    (port,) = free_ports(1)
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n* = host={server.hostname} port={server.port} user={server.username}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\n"
        f"ignore_startup_parameters = extra_float_digits\n"
    )
    settings.chmod(0o644)
    as_user = ["-u", "nobody"] if os.geteuid() == 0 else []
    process = await asyncio.create_subprocess_exec(
        str(PGBOUNCER), *as_user, str(settings), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    engine = create_async_engine(server._replace(netloc=f"{server.username}@127.0.0.1:{port}").geturl())
    try:
        async with asyncio.timeout(20):
            while True:
                try:
                    async with engine.connect():
                        break
                except OSError:
                    await asyncio.sleep(0.05)
        yield engine
    finally:
        await engine.dispose()
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _count() -> float | None:
    return REGISTRY.get_sample_value("outbox_relay_errors_total", {"service": "pooled", "error_type": "storage"})


def _errors(logs: Sequence[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    return [line for line in logs if line["event"] == "outbox_storage_error"]


if PGBOUNCER:  # not a skip: where it is missing, the tests above stand for it

    async def test_a_real_pgbouncer_in_transaction_mode_is_refused(
        engine: AsyncEngine, postgres_database: str, folder: Path
    ) -> None:
        """A relay behind it publishes nothing, and its log line names the pooler and the setting."""
        repository = PostgreSQLOutboxRepository(engine, "svc")
        await repository.add_event(
            aggregate_id="a", aggregate_type="essay", event_type="e.v1", event_data={"data": {}}, topic="t"
        )
        publisher = BatchingPublisher()
        async with _pgbouncer(postgres_database, folder, "transaction") as pooled:
            with capture_logs() as logs:
                settings = OutboxSettings(error_retry_interval_seconds=0.1)
                async with EventRelayWorker(PostgreSQLOutboxRepository(pooled, "svc"), publisher, settings, "pooled"):
                    await until(lambda: (_count() or 0) >= 5)
        assert [line["error_type"] for line in _errors(logs)] == ["SharedSessionError"], _errors(logs)
        assert "pool_mode" in _errors(logs)[0]["error"]
        assert publisher.batches == []

    async def test_a_real_pgbouncer_in_session_mode_works(
        engine: AsyncEngine, postgres_database: str, folder: Path
    ) -> None:
        """The relay has its session for itself, and all lanes."""
        async with _pgbouncer(postgres_database, folder, "session") as pooled:
            store = _store(pooled)
            await _look(store)
            assert len(store.lanes) == LANES
            await store.close()
