"""Section 5.3: what the log says of an event. Operators search for these tokens and fields."""

import json
import time
from collections.abc import MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from huleedu_service_libs.idempotency_v2 import IdempotencyConfig
from tests.contract.consuming import Redis, consume, message

FIELDS = {
    "service",
    "event_type",
    "event_id",
    "correlation_id",
    "source_service",
    "deterministic_hash",
    "redis_key",
    "kafka_topic",
    "kafka_partition",
    "kafka_offset",
    "headers_used",
    "json_parsed",
    "action",
}
AWAY = ConnectionError("away")
VERBOSE = IdempotencyConfig("essay-service", {}, 77, enable_debug_logging=True)


def _processing(age: float) -> str:
    return json.dumps({"status": "processing", "started_at": time.time() - age})


def _lost() -> Redis:
    redis = Redis()
    redis.lost = True
    return redis


async def _logged(redis: Redis, how: dict[str, Any]) -> list[MutableMapping[str, Any]]:
    with capture_logs() as logs:
        try:
            await consume(redis, config=VERBOSE, **how)
        except ValueError:
            assert isinstance(how.get("result"), ValueError)
    return logs


SITUATIONS: list[tuple[str, Any, dict[str, Any], set[str]]] = [
    ("DUPLICATE_EVENT_DETECTED", lambda: Redis(json.dumps({"status": "completed"})), {}, set()),
    ("STALE_PROCESSING_DETECTED", lambda: Redis(_processing(400)), {}, {"stale_duration_seconds"}),
    ("RACE_CONDITION_LOST", _lost, {}, set()),
    ("IDEMPOTENCY_CONFIRMED", Redis, {"confirms": True}, {"ttl_seconds"}),
    ("CONFIRMATION_FAILED", lambda: Redis(failing={"setex": AWAY}), {"confirms": True}, {"error", "error_type"}),
    ("PROCESSING_COMPLETE", Redis, {"confirms": True}, {"processing_duration_ms"}),
    ("PROCESSING_FAILED", Redis, {"result": ValueError("odd")}, {"processing_duration_ms", "error", "error_type"}),
    ("CLEANUP_SUCCESS", Redis, {"result": ValueError("odd")}, set()),
    (
        "CLEANUP_FAILED",
        lambda: Redis(failing={"delete_key": AWAY}),
        {"result": ValueError("odd")},
        {"error", "error_type"},
    ),
    ("REDIS_ERROR", lambda: Redis(failing={"get": AWAY}), {}, {"error", "error_type"}),
]


@pytest.mark.contract("5.3-log-tokens", "5.3-log-fields")
@pytest.mark.parametrize(("token", "redis", "how", "more"), SITUATIONS, ids=[one[0] for one in SITUATIONS])
async def test_a_situation_has_its_token(token: str, redis: Any, how: dict[str, Any], more: set[str]) -> None:
    """One line begins with the token, and carries the event, its place in Kafka and in Redis, and what matters there."""
    (line,) = [entry for entry in await _logged(redis(), how) if str(entry["event"]).startswith(token)]
    assert set(line) >= FIELDS | more, f"{token} lacks {sorted((FIELDS | more) - set(line))}"
    assert (line["service"], line["event_id"], line["kafka_topic"]) == ("essay-service", "e-1", "t")
    assert (line["kafka_partition"], line["kafka_offset"]) == (3, 7)
    digest = line["redis_key"].rpartition(":")[2]
    assert digest.startswith(line["deterministic_hash"].rstrip("."))
    assert len(line["deterministic_hash"]) < len(digest)


@pytest.mark.contract("5.3-log-tokens")
async def test_a_body_that_is_no_json_has_its_token() -> None:
    """What cannot be identified is told with its place in Kafka, for there is nothing else."""
    logs = await _logged(Redis(), {"msg": message(b"{no JSON")})
    (line,) = [entry for entry in logs if str(entry["event"]).startswith("INVALID_JSON")]
    assert set(line) >= {"service", "kafka_topic", "kafka_partition", "kafka_offset", "action", "error", "error_type"}
