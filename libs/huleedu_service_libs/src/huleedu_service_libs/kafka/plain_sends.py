"""Sends one message at a time with `send_and_wait`, through whatever stands as the producer.

`KafkaBus.publish` uses it when its producer is not aiokafka's own: a double of a test, or one that
a service has put there, sees exactly that call. Knows no envelope.
"""

import asyncio
from typing import Any

from huleedu_service_libs._client_metrics import KAFKA_SWALLOWED
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.driver_errors import (
    KafkaUnreachableError,
    PublishTimeoutError,
    is_sequence_error,
    needs_new_producer,
)
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import OutgoingMessage

with requires_extra("kafka", module=__name__):
    from aiokafka.errors import KafkaError, ProducerClosed

__all__ = ["PlainSender"]

logger = create_service_logger("huleedu_service_libs.kafka")


class PlainSender:
    """Sends through a producer that knows `send_and_wait`.

    Args:
        client_id: Name in log and counter.
        host: Where the producer comes from.
        timeout_s: How long a message may remain unacknowledged, seconds.
    """

    def __init__(self, client_id: str, host: ProducerHost, timeout_s: float) -> None:
        self._client_id = client_id
        self._host = host
        self._timeout_s = timeout_s

    async def send(self, message: OutgoingMessage) -> None:
        """Return when the broker has acknowledged ``message``.

        Raises:
            PublishTimeoutError: Not in time.
            aiokafka.errors.KafkaError: Anything else, as the producer raises it.
        """
        producer = self._host.live
        try:
            await self._send_through(producer, message)
        except KafkaError as error:
            if not await self._mended(producer, error):
                raise
            await self._send_through(self._host.live, message)

    async def _send_through(self, producer: Any, message: OutgoingMessage) -> None:
        timeout = asyncio.timeout(self._timeout_s)
        try:
            async with timeout:
                await producer.send_and_wait(
                    message.topic, value=message.value, key=message.key, headers=list(message.headers) or None
                )
        except TimeoutError as error:
            if not timeout.expired():
                raise
            raise PublishTimeoutError(message.topic, self._timeout_s) from error

    async def _mended(self, producer: Any, error: Exception) -> bool:
        """Replace a producer that ``error`` made useless; whether the message may be sent again.

        It may when the broker is known to have appended nothing.
        """
        if isinstance(error, ProducerClosed):  # replaced while this message was on its way in
            return self._host.live is not producer
        if not needs_new_producer(error):
            return False
        try:
            await self._host.replace(producer, reason=type(error).__name__)
        except KafkaUnreachableError as unreachable:  # the caller is owed the first error; the next send tries again
            KAFKA_SWALLOWED.labels(client_id=self._client_id, operation="replace").inc()
            logger.error(  # noqa: TRY400  # one line; the caller gets the first error
                "kafka_producer_not_replaced", client_id=self._client_id, error=error_text(unreachable)
            )
            return False
        return is_sequence_error(error)
