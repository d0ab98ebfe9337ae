"""How the relay works: intervals, batch size, limits."""

import math
from dataclasses import dataclass, fields

__all__ = ["MAX_RETRIES", "OutboxSettings"]

MAX_RETRIES = 5
"""Failed attempts after which an event is parked, where nobody says otherwise: for the relay, and for all that judge what is parked."""


@dataclass
class OutboxSettings:
    """Settings of a relay. Mutable: services assign to fields after construction, the relay reads them as it goes.

    Since they may change, they are checked when the relay starts, and not when they are made.

    Attributes:
        poll_interval_seconds: Longest wait between two looks when nothing wakes the relay; 0.01 at least.
        batch_size: Most events that are sent and completed together; fewer where their payloads exceed 8 MB. A repository
            of six methods of your own is asked for so many rows, whatever their size. Less than 1 counts as 1.
        max_retries: Failed attempts after which an event is parked. Less than 1 counts as 1.
        error_retry_interval_seconds: Longest back-off, after errors of the database and outages of
            the broker, and between the attempts of one key; 0.01 at least.
        enable_metrics: Whether the relay counts.
        enable_wake_notifications: Whether it listens to the wake-up list in Redis.
        strict_order: Whether nothing younger than the oldest running writer leaves, so that the order of a key
            holds also where two of its transactions overlap (see `writers`). Read when the relay starts.
        strict_order_limit_seconds: Age of a writer that holds events back from which the log names it.
        retention_seconds: How long published events are kept, by the database's clock; ``None`` keeps them.
        purge_interval_seconds: Time between two passes over the whole table that delete what is older.
    """

    poll_interval_seconds: float = 5.0
    batch_size: int = 100
    max_retries: int = MAX_RETRIES
    error_retry_interval_seconds: float = 30.0
    enable_metrics: bool = True
    enable_wake_notifications: bool = True
    strict_order: bool = False
    strict_order_limit_seconds: float = 10.0
    retention_seconds: float | None = None
    purge_interval_seconds: float = 600.0

    def check(self) -> None:
        """Called by the relay before it starts.

        Raises:
            ValueError: A figure is no number; the text names it.
        """
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool) or (value is None and field.default is None):
                continue
            if not isinstance(value, int | float) or math.isnan(value):
                raise ValueError(f"OutboxSettings.{field.name} must be a number, got {value!r}")
