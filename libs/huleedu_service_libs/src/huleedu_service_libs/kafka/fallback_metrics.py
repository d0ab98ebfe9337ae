"""What became of messages that could not be sent at once."""

from huleedu_service_libs._metrics import counter

__all__ = ["FALLBACK_MESSAGES"]

FALLBACK_MESSAGES = counter(
    "huleedu_kafka_fallback_messages_total",
    "Messages of resilient publishers: queued, sent, dropped, spilled, unsent, and errors of spill and recovery.",
    ("client_id", "fate"),
)
