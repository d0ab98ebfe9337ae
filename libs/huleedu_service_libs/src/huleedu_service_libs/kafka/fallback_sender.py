"""Sends messages through a breaker, each behind what waits with its key, and drains the queue in order.

The inner half of `ResilientKafkaPublisher`: it never decides to keep a message, and knows no start and stop.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from common_core import CircuitBreakerState
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.errors import UnsendableMessageError
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage
from huleedu_service_libs.kafka.fallback_metrics import count_fate
from huleedu_service_libs.kafka.safekeeping import Safekeeping
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.outages import is_outage
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.errors import CircuitBreakerError

__all__ = ["FallbackSender", "KafkaDelegate"]

logger = create_service_logger("huleedu_service_libs.kafka")


class KafkaDelegate(Protocol):
    """The bus that is wrapped."""

    client_id: str
    bootstrap_servers: str

    async def start(self) -> None:
        """Connect."""
        ...

    async def stop(self) -> None:
        """Disconnect."""
        ...

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Publish and wait for the acknowledgement."""
        ...


class FallbackSender:
    """Sends one message at a time out of the queue.

    Args:
        delegate: The bus.
        breaker: Every message goes through it; ``None`` calls the bus directly.
        handler: The queue.
        safe: Is told of messages that need no keeping any more.

    Attributes:
        delegate: May be replaced, like the next two.
        breaker: As given.
        handler: As given.
        held_up: Whether the last drain ended at a message that failed.
    """

    def __init__(
        self,
        delegate: KafkaDelegate,
        breaker: CircuitBreaker | None,
        handler: FallbackMessageHandler,
        safe: Safekeeping,
    ) -> None:
        self.delegate = delegate
        self.breaker = breaker
        self.handler = handler
        self.held_up = False
        self._safe = safe
        self._sending: QueuedMessage[Any] | None = None
        self._turn = asyncio.Lock()

    async def send(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None, headers: dict[str, str] | None
    ) -> None:
        """Send through the breaker, after what waits with the same key.

        Raises:
            CircuitBreakerError: The breaker is open.
            Exception: What the bus raises, for this message or for the one it had to wait for.
        """
        if not self.is_waited_for(topic, key):
            await self._through_the_breaker(topic, envelope, key, headers)
            return
        async with self._turn:
            failure = await self._drain(lambda: not self.handler.holds(topic, key), counted=False)
            if failure is not None:
                raise failure
            await self._through_the_breaker(topic, envelope, key, headers)

    async def send_waiting(self) -> None:
        """Send what waits, oldest first, until the queue is empty or one fails. An open breaker gives it a trial."""
        breaker = self.breaker
        if breaker is not None and breaker.state is CircuitBreakerState.OPEN:
            breaker.try_now()
        async with self._turn:
            failure = await self._drain(lambda: False, counted=True)
            self.held_up = failure is not None
            if not self.handler.has_queued_messages():
                await self._safe.all_gone()

    async def give_away(self) -> None:
        """Have what waits spilled, and forget exactly that: what comes meanwhile waits behind it."""
        async with self._turn:
            left = self.handler.waiting()
            if left and await self._safe.save(left):
                for _ in left:
                    await self.handler.get_next_message()

    def is_waited_for(self, topic: str, key: str | None) -> bool:
        """Whether a message of that topic and key waits, or is on its way out of the queue."""
        sending = self._sending
        if sending is not None and key and sending.order == (topic, key):
            return True
        return self.handler.holds(topic, key)

    def is_busy_before(self, topic: str, key: str | None) -> bool:
        """Whether messages of that key are being drained right now."""
        return self._turn.locked() and self.is_waited_for(topic, key)

    async def _drain(self, enough: Callable[[], bool], *, counted: bool) -> Exception | None:
        """Send queued messages until ``enough``; the error of the one that failed and waits again. Needs the turn."""
        while not enough():
            message = await self.handler.get_next_message()
            if message is None:
                return None
            self._sending = message
            try:
                await self._through_the_breaker(message.topic, message.envelope, message.key, message.headers)
            except Exception as error:  # noqa: BLE001  # whatever it is, the message goes back or is given up by name
                if self._is_hopeless(message, error, counted=counted):
                    await self._give_up(message, error)
                    continue
                self.handler.put_back(message)
                return error
            except BaseException:
                self.handler.put_back(message)
                raise
            finally:
                self._sending = None
            count_fate(self.delegate, "sent")
            await self._safe.gone(message)
        return None

    async def _through_the_breaker(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None, headers: dict[str, str] | None
    ) -> None:
        if self.breaker is None:
            await self.delegate.publish(topic, envelope, key, headers)
        else:
            await self.breaker.call(self.delegate.publish, topic, envelope, key, headers)

    def _is_hopeless(self, message: QueuedMessage[Any], error: Exception, *, counted: bool) -> bool:
        """Whether trying again is futile: at once where the broker was not even asked, else after several refusals."""
        if isinstance(error, UnsendableMessageError):
            return True
        if not counted or isinstance(error, CircuitBreakerError):
            return False
        message.retry_count += 1
        return message.retry_count >= self.handler.max_retries and not is_outage(error)

    async def _give_up(self, message: QueuedMessage[Any], error: Exception) -> None:
        self.handler.drop(message)
        count_fate(self.delegate, "dropped")
        logger.error(
            "kafka_message_dropped", message=message.name, retries=message.retry_count, error=error_text(error)
        )
        await self._safe.gone(message)
