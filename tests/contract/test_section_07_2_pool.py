"""Section 7.2: an engine's pool, told to metrics."""

from collections.abc import AsyncIterator
from unittest.mock import Mock, call

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from huleedu_service_libs.database import DatabaseMetricsProtocol
from huleedu_service_libs.database.connection_monitoring import ConnectionPoolMonitor, setup_connection_monitoring

NOWHERE = "postgresql+asyncpg://nobody@127.0.0.1:1/none"


@pytest.fixture(name="engine")
async def _engine(postgres_database: str) -> AsyncIterator[AsyncEngine]:
    engine = create_async_engine(postgres_database, pool_size=2, max_overflow=0)
    yield engine
    await engine.dispose()


@pytest.fixture(name="metrics")
def _metrics() -> Mock:
    return Mock(spec=DatabaseMetricsProtocol)


@pytest.mark.contract("7.2-setup-returns")
def test_what_setting_up_returns(metrics: Mock) -> None:
    """A monitor; of an engine that never connects, too."""
    assert isinstance(setup_connection_monitoring(create_async_engine(NOWHERE), metrics), ConnectionPoolMonitor)


@pytest.mark.contract("7.2-checkout-checkin", "7.2-gauges", "7.2-status-keys")
async def test_a_connection_goes_out_and_comes_back(engine: AsyncEngine, metrics: Mock) -> None:
    """Counted on each way; the gauges and the status show one in use, then none."""
    monitor = setup_connection_monitoring(engine, metrics)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        metrics.record_connection_acquired.assert_called_once()
        metrics.record_connection_released.assert_not_called()
        assert metrics.set_connection_pool_status.call_args == call(1, 0, 1, 0)
        assert monitor.get_current_status() == {
            "pool_size": 2,
            "active_connections": 1,
            "idle_connections": 0,
            "overflow_connections": 0,
            "pool_usage_percent": 50.0,
        }
    metrics.record_connection_released.assert_called_once()
    assert metrics.set_connection_pool_status.call_args == call(0, 1, 1, 0)
    assert monitor.get_current_status()["active_connections"] == 0


@pytest.mark.contract("7.2-invalidate", "7.2-invalidate-without-error")
@pytest.mark.parametrize("soft", [False, True])
async def test_an_invalidation(engine: AsyncEngine, metrics: Mock, *, soft: bool) -> None:
    """With an exception its class is recorded; without one nothing is."""
    setup_connection_monitoring(engine, metrics)
    for error in (None, ConnectionResetError("gone")):
        metrics.record_database_error.assert_not_called()
        async with engine.connect() as connection:
            raw = await connection.get_raw_connection()
            record = raw._connection_record  # SQLAlchemy's only way to invalidate softly
            record.invalidate(error, soft=soft)
    metrics.record_database_error.assert_called_once_with("ConnectionResetError", "connection_invalidate")


@pytest.mark.contract("7.2-listener-errors")
async def test_metrics_that_raise(engine: AsyncEngine, metrics: Mock) -> None:
    """Whatever a metric raises, the connection is usable and comes back."""
    for name in ("record_connection_acquired", "record_connection_released", "set_connection_pool_status"):
        getattr(metrics, name).side_effect = RuntimeError("no room")
    setup_connection_monitoring(engine, metrics)
    for _ in range(3):
        async with engine.connect() as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    metrics.set_connection_pool_status.assert_called()


@pytest.mark.contract("7.2-pool-without-figures")
def test_a_pool_without_figures(metrics: Mock) -> None:
    """`NullPool` counts nothing, and so does its status."""
    monitor = setup_connection_monitoring(create_async_engine(NOWHERE, poolclass=NullPool), metrics)
    assert set(monitor.get_current_status().values()) == {0}
