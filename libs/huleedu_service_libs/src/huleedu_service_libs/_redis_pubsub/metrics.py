"""What publish/subscribe counts and logs. Knows no driver."""

from typing import Any

from huleedu_service_libs._metrics import counter, gauge
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["Reports"]

_SUBSCRIBERS = gauge(
    "huleedu_redis_pubsub_subscribers",
    "Subscribers at the moment; however many they are, a client has one connection for them",
    ("client_id",),
    multiprocess_mode="livesum",
)
_LOST = counter(
    "huleedu_redis_pubsub_connections_lost_total",
    "Subscribing connections that broke while somebody subscribed",
    ("client_id",),
)
_FAILED = counter(
    "huleedu_redis_pubsub_connect_failures_total",
    "Attempts to connect, or to connect again, that failed",
    ("client_id",),
)
_RECONNECTS = counter(
    "huleedu_redis_pubsub_reconnects_total",
    "Times that all channels were subscribed again",
    ("client_id",),
)
_GAPS = counter(
    "huleedu_redis_pubsub_gaps_total",
    "Gaps that a subscriber was told of: messages may be missing (reconnected), or are (overflow)",
    ("client_id", "reason"),
)
_DROPPED = counter(
    "huleedu_redis_pubsub_dropped_total",
    "Messages that arrived and reached no subscriber",
    ("client_id", "reason"),
)
_STORED = counter(
    "huleedu_redis_notifications_stored_total",
    "Notifications appended to a history; repeated ones were there already",
    ("client_id", "outcome"),
)
_GONE = counter(
    "huleedu_redis_notifications_gone_total",
    "Times that a reader was told that a part of its history is gone",
    ("client_id", "reason"),
)
_READ_FAILURES = counter(
    "huleedu_redis_notifications_read_failures_total",
    "Reads of a history that failed and are repeated",
    ("client_id",),
)

_logger = create_service_logger("huleedu_service_libs.redis.pubsub")


class Reports:
    """Metrics and log lines of one client.

    Args:
        client_id: Name in logs and metrics.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._connection = Troubles()
        self._history = Troubles()
        self._subscribers = _SUBSCRIBERS.labels(client_id=client_id)

    def joined(self) -> None:
        """One subscriber more."""
        self._subscribers.inc()

    def left(self) -> None:
        """One subscriber less."""
        self._subscribers.dec()

    def lost(self, error: BaseException, channels: int) -> None:
        """The connection broke; from here on messages may be missed."""
        _LOST.labels(client_id=self._client_id).inc()
        self._connection.failed(error=error)
        self._warn("redis_pubsub_lost", error, channels=channels)

    def still_away(self, error: BaseException, attempt: int) -> None:
        """An attempt to connect failed."""
        _FAILED.labels(client_id=self._client_id).inc()
        if self._connection.failed(error=error):
            self._warn("redis_pubsub_still_away", error, attempt=attempt)

    def restored(self, seconds: float, channels: int) -> None:
        """All channels are subscribed again."""
        _RECONNECTS.labels(client_id=self._client_id).inc()
        over = self._connection.worked()
        _logger.info(
            "redis_pubsub_restored",
            client_id=self._client_id,
            seconds_away=round(seconds, 3),
            channels=channels,
            failures=0 if over is None else over.failures,
        )

    def stands(self) -> None:
        """A channel is subscribed, and no connection was lost before: attempts to make the first one may have failed."""
        self._connection.worked()

    def gap(self, reason: str) -> None:
        """A subscriber has a gap."""
        _GAPS.labels(client_id=self._client_id, reason=reason).inc()

    def dropped(self, reason: str, channel: str, *, first: bool) -> None:
        """A message reached nobody; one line for the first of a row of them."""
        _DROPPED.labels(client_id=self._client_id, reason=reason).inc()
        if first:
            _logger.warning("redis_pubsub_dropped", client_id=self._client_id, reason=reason, channel=channel)

    def stored(self, *, new: bool) -> None:
        """A notification is in its history."""
        _STORED.labels(client_id=self._client_id, outcome="new" if new else "repeated").inc()

    def history_gone(self, reason: str, channel: str) -> None:
        """A reader cannot have what it missed."""
        _GONE.labels(client_id=self._client_id, reason=reason).inc()
        _logger.warning("redis_history_gone", client_id=self._client_id, reason=reason, channel=channel)

    def read(self) -> None:
        """A history was read."""
        over = self._history.worked()
        if over is not None:
            _logger.info("redis_history_trouble_over", client_id=self._client_id, **over._asdict())

    def read_failed(self, error: BaseException) -> None:
        """A history could not be read. All readers' failures are one trouble."""
        _READ_FAILURES.labels(client_id=self._client_id).inc()
        if failures := self._history.failed(error=error):
            self._warn("redis_history_read_failed", error, in_a_row=failures)

    def refused(self, channel: str, error: BaseException) -> None:
        """The server took a standing subscription away, as an ACL does."""
        self._warn("redis_pubsub_refused", error, channel=channel)

    def callback_failed(self, channel: str, error: BaseException) -> None:
        """A subscriber's own ``on_gap`` raised."""
        self._warn("redis_pubsub_on_gap_failed", error, channel=channel)

    def _warn(self, event: str, error: BaseException, **fields: Any) -> None:
        _logger.warning(event, client_id=self._client_id, error=error_text(error), **fields)
