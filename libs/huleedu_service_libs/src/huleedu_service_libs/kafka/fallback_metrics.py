"""What became of messages that could not be sent at once."""

from huleedu_service_libs._metrics import counter

__all__ = ["count_fate"]

_MESSAGES = counter(
    "huleedu_kafka_fallback_messages_total",
    "Messages of resilient publishers: queued, sent, dropped, handed over, spilled, unsent; errors of spill and recovery",
    ("client_id", "fate"),
)


def count_fate(client: object, fate: str, number: int = 1) -> None:
    """Count messages of the publisher whose bus is ``client``."""
    _MESSAGES.labels(client_id=str(getattr(client, "client_id", "")), fate=fate).inc(number)
