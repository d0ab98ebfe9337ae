"""What is logged when very many commands fail, at once or for as long as an outage lasts."""

import asyncio
from dataclasses import dataclass

import pytest
from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from huleedu_service_libs import _client_metrics
from huleedu_service_libs._client_metrics import FailureLines, log_redis_failure


@dataclass
class Now:
    """A clock that a test moves."""

    seconds: float = 0.0

    def clock(self) -> float:
        """Monotonic seconds."""
        return self.seconds


@pytest.fixture(name="now")
def _now(monkeypatch: pytest.MonkeyPatch) -> Now:
    """The clock of the lines that the clients log; nothing is remembered of other tests."""
    now = Now()
    monkeypatch.setattr(_client_metrics, "_failure_lines", FailureLines(now.clock))
    return now


def test_a_flood_of_failures_has_few_lines_and_loses_no_count() -> None:
    """Ten lines of a kind in ten seconds, then one that says how many had none."""
    now = Now()
    lines = FailureLines(now.clock)
    assert [lines.take("essays", "get", "ConnectionError") for _ in range(150)] == [0] * 10 + [None] * 140
    assert lines.take("essays", "setex", "ConnectionError") == 0
    now.seconds = 10.0
    assert [lines.take("essays", "get", "ConnectionError") for _ in range(2)] == [140, 0]


def test_failures_without_a_line_are_told_with_the_next(now: Now) -> None:
    """The field ``without_line`` says how many failures a log does not show; the counter has all of them."""
    with capture_logs() as logged:
        for _ in range(1_000):
            log_redis_failure("flooded", "get", RedisConnectionError("away"))
        now.seconds = 20.0
        log_redis_failure("flooded", "get", RedisConnectionError("away"))
    assert [line.get("without_line") for line in logged] == [None] * 10 + [990]
    labels = {"client_id": "flooded", "operation": "get", "error": "ConnectionError"}
    assert REGISTRY.get_sample_value("huleedu_redis_client_errors_total", labels) == 1_001


async def test_the_end_of_an_outage_is_told_without_another_failure(now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing fails any more, one line says how many failures had none, and that is the last."""
    monkeypatch.setattr(_client_metrics, "_IN_SECONDS", 0.05)
    with capture_logs() as logged:
        for _ in range(30):
            log_redis_failure("recovered", "register_script", RedisConnectionError("away"))
        now.seconds = 1.0
        async with asyncio.timeout(10):
            while len(logged) < 11:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    assert [line.get("without_line") for line in logged] == [None] * 10 + [20]


def test_a_loop_that_ends_early_takes_the_line_of_no_other(now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures of a later event loop are told, although the one before ended before it could tell of its own."""

    async def fail(wait_s: float) -> None:
        for _ in range(30):
            log_redis_failure("restarted", "get", RedisConnectionError("away"))
        await asyncio.sleep(wait_s)

    asyncio.run(fail(0.0))
    monkeypatch.setattr(_client_metrics, "_IN_SECONDS", 0.05)
    now.seconds = 20.0
    with capture_logs() as logged:
        asyncio.run(fail(0.5))
    assert [line.get("without_line") for line in logged] == [20] + [None] * 9 + [20]


async def test_a_failure_without_a_line_costs_no_text(now: Now, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text of an error, which is searched for secrets, is made for what is logged, and not for each of thousands."""
    made: list[str] = []

    def noted(error: Exception) -> str:
        made.append(str(error))
        return made[-1]

    monkeypatch.setattr(_client_metrics, "error_text", noted)
    for _ in range(1_000):
        log_redis_failure("texts", "get", RedisConnectionError("away"))
    assert now.seconds == 0.0
    assert len(made) == 11


async def test_a_long_outage_has_a_line_a_second_at_most(now: Now) -> None:
    """Failures that go on for a minute, a hundred a second, have sixty lines, which tell of the rest."""
    with capture_logs() as logged:
        for tick in range(6_000):
            now.seconds = tick / 100
            log_redis_failure("long", "register_script", RedisConnectionError("away"))
    assert len(logged) <= 60
    told = sum(line.get("without_line", 0) for line in logged)
    assert told + len(logged) >= 5_000
