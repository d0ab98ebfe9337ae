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
        await asyncio.sleep(0.3)
    assert [line.get("without_line") for line in logged] == [None] * 10 + [20]


async def test_a_long_outage_has_a_line_a_second_at_most(now: Now) -> None:
    """Failures that go on for a minute, a hundred a second, have sixty lines, which tell of the rest."""
    with capture_logs() as logged:
        for tick in range(6_000):
            now.seconds = tick / 100
            log_redis_failure("long", "register_script", RedisConnectionError("away"))
    assert len(logged) <= 60
    told = sum(line.get("without_line", 0) for line in logged)
    assert told + len(logged) >= 5_000
