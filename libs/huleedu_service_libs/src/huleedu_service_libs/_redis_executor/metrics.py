"""What an executor counts and logs. Many replies are counted at the cost of a few."""

from prometheus_client import Histogram

from huleedu_service_libs._metrics import counter, histogram, observe_many
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._redis_executor.line import Call
from huleedu_service_libs._redis_executor.reports import ExecutorListener
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["ExecutorMetrics"]

_DURATION = histogram(
    "huleedu_redis_command_duration_seconds",
    "From the call of a command to its reply, waiting for its turn included.",
    ("client_id", "command"),
    (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0),
)
_BATCH = histogram(
    "huleedu_redis_batch_commands",
    "Commands in one write to Redis.",
    ("client_id",),
    (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000),
)
_CONNECTIONS = counter(
    "huleedu_redis_pipelining_connections_total",
    "Connections opened for commands, for the first time or again.",
    ("client_id", "kind"),
)
_UNANSWERED = counter(
    "huleedu_redis_replies_lost_total",
    "Commands whose connection ended before their reply: sent again, or told to the caller.",
    ("client_id", "outcome"),
)


_logger = create_service_logger("huleedu_service_libs.redis")


class ExecutorMetrics(ExecutorListener):
    """Counts for one client.

    Args:
        client_id: Label.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._batch = _BATCH.labels(client_id=client_id)
        self._durations: dict[str, Histogram] = {}

    def sent(self, commands: int) -> None:
        """See `ExecutorListener`."""
        self._batch.observe(commands)

    def answered(self, calls: list[Call], at: float) -> None:
        """See `ExecutorListener`."""
        if len(calls) == 1:
            self._duration(calls[0].command.name).observe(at - calls[0].since)
            return
        durations: dict[str, list[float]] = {}
        for call in calls:
            durations.setdefault(call.command.name, []).append(at - call.since)
        for name, values in durations.items():
            observe_many(self._duration(name), values)

    def lost(self, unanswered: int, repeated: int, error: Exception | None) -> None:
        """See `ExecutorListener`."""
        if not unanswered:
            return  # it was idle: nobody notices
        _logger.warning(
            "redis_connection_lost_under_way",
            client_id=self._client_id,
            unanswered=unanswered,
            sent_again=repeated,
            error=error_text(error) if error is not None else "closed by the server",
        )
        _UNANSWERED.labels(client_id=self._client_id, outcome="repeated").inc(repeated)
        _UNANSWERED.labels(client_id=self._client_id, outcome="told").inc(unanswered - repeated)

    def connected(self, *, again: bool) -> None:
        """See `ExecutorListener`."""
        _CONNECTIONS.labels(client_id=self._client_id, kind="again" if again else "first").inc()

    def _duration(self, command: str) -> Histogram:
        child = self._durations.get(command)
        if child is None:
            child = self._durations[command] = _DURATION.labels(client_id=self._client_id, command=command)
        return child
