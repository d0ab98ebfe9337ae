"""What fails between the consumer and Kafka: counted, told once (`_troubles`), and shown in the status.

A `Session` has one, which its `Places` tell too. Knows no driver.
"""

from huleedu_service_libs import _clock
from huleedu_service_libs._redaction import error_fields
from huleedu_service_libs._troubles import Troubles
from huleedu_service_libs.kafka.consumer.metrics import ConsumerMetrics
from huleedu_service_libs.logging_utils import create_service_logger

__all__ = ["ConsumerTroubles"]

logger = create_service_logger("huleedu_service_libs.consumer")


class ConsumerTroubles:
    """Operations that fail at present.

    Args:
        group: Of the consumer.
        metrics: Of the consumer.
        clock: Monotonic seconds.
    """

    def __init__(self, group: str, metrics: ConsumerMetrics, *, clock: _clock.Clock) -> None:
        self._group = group
        self._metrics = metrics
        self._troubles = Troubles(clock)

    @property
    def summary(self) -> str | None:
        """The last error of each operation that fails at present."""
        return self._troubles.summary()

    def failed(self, operation: str, error: Exception) -> None:
        """An operation failed, and is tried again."""
        self._metrics.swallowed(operation)
        if failures := self._troubles.failed(operation, error):
            fields = error_fields(error)
            logger.warning("consumer_trouble", operation=operation, group=self._group, failures=failures, **fields)

    def worked(self, operation: str) -> None:
        """It went well."""
        over = self._troubles.worked(operation)
        if over is not None:
            logger.info("consumer_trouble_over", operation=operation, group=self._group, **over._asdict())
