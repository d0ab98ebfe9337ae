"""Counters of the Kafka and Redis clients: which errors they swallowed, and what they healed."""

from huleedu_service_libs._metrics import counter

__all__ = ["KAFKA_REBUILDS", "KAFKA_SWALLOWED", "REDIS_SWALLOWED"]

KAFKA_SWALLOWED = counter(
    "huleedu_kafka_client_swallowed_errors_total",
    "Errors that the Kafka client logged and did not raise.",
    ("client_id", "operation"),
)

KAFKA_REBUILDS = counter(
    "huleedu_kafka_client_producer_rebuilds_total",
    "Producers replaced after an error that leaves a gap in their sequence numbers.",
    ("client_id", "reason"),
)

REDIS_SWALLOWED = counter(
    "huleedu_redis_client_swallowed_errors_total",
    "Errors that the Redis client logged and did not raise.",
    ("client_id", "operation"),
)
