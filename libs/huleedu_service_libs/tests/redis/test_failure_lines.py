"""What is logged when very many commands fail at once."""

from prometheus_client import REGISTRY
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from huleedu_service_libs import _client_metrics
from huleedu_service_libs._client_metrics import FailureLines, log_redis_failure


def test_a_flood_of_failures_has_few_lines_and_loses_no_count() -> None:
    """A hundred lines of a kind each second, then one that says how many had none; the counter has all of them."""
    now = 0.0
    lines = FailureLines(lambda: now)
    assert [lines.take("essays", "get", "ConnectionError") for _ in range(150)] == [0] * 100 + [None] * 50
    assert lines.take("essays", "setex", "ConnectionError") == 0
    now = 1.0
    assert [lines.take("essays", "get", "ConnectionError") for _ in range(2)] == [50, 0]


def test_failures_without_a_line_are_told_with_the_next() -> None:
    """The field ``without_line`` says how many failures a log does not show."""
    now = 0.0
    before, _client_metrics._failure_lines = _client_metrics._failure_lines, FailureLines(lambda: now)
    try:
        with capture_logs() as logged:
            for _ in range(1_000):
                log_redis_failure("flooded", "get", RedisConnectionError("away"))
            now = 2.0
            log_redis_failure("flooded", "get", RedisConnectionError("away"))
    finally:
        _client_metrics._failure_lines = before
    assert len(logged) == 101
    assert [line.get("without_line") for line in logged] == [None] * 100 + [900]
    labels = {"client_id": "flooded", "operation": "get", "error": "ConnectionError"}
    assert REGISTRY.get_sample_value("huleedu_redis_client_errors_total", labels) == 1_001
