"""Publishing that survives a broker's absence: a breaker in front of a bus, and a queue behind it.

Services bind `ResilientKafkaPublisher` in place of the bus. While the breaker is open, `publish`
keeps messages in memory and returns; they are sent when the broker is back, though nobody
publishes, and in the order of their keys. Who must know that the broker has a message uses
`publish_confirmed` or `publish_batch`, as the outbox relay does: those never queue.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import _clock
from huleedu_service_libs._correlation import correlated
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs.kafka.confirmed_batches import ConfirmedBatches
from huleedu_service_libs.kafka.errors import KafkaBusStoppedError, MessageHeldBackError, UnsendableMessageError
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage
from huleedu_service_libs.kafka.fallback_metrics import count_fate
from huleedu_service_libs.kafka.fallback_sender import FallbackSender, KafkaDelegate
from huleedu_service_libs.kafka.recovery import Recovery
from huleedu_service_libs.kafka.safekeeping import Safekeeping
from huleedu_service_libs.kafka.spill import MessageSpill
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage, T_EventPayload
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.errors import CircuitBreakerError

__all__ = ["KafkaDelegate", "ResilientKafkaPublisher", "T_EventPayload"]

STOP_S = 5.0  # for the recovery task, and again for sending what is left

logger = create_service_logger("huleedu_service_libs.kafka")


class ResilientKafkaPublisher(StartStop):
    """A `KafkaBus` behind a circuit breaker, with a fallback queue. Not a subclass of it.

    Messages of one topic and key keep their order as long as each is published after the call
    before has ended: while some of them wait, later ones wait behind them.

    Args:
        delegate: The bus.
        circuit_breaker: Without one this only passes calls on.
        fallback_handler: The queue; by default one for 1000 messages.
        retry_interval: Seconds between attempts to send what waits; by default the queue's, 30.
        spill: Keeps what waits beyond a stop, and a `FileJournal` beyond a crash, too; an
            ``OutboxHandover`` has the relay send it. Without one it stays in memory, and a stop reports it by name.
        now: The time of day.

    Attributes:
        delegate: As given.
        circuit_breaker: As given.
        fallback_handler: The queue.
        retry_interval: In use.
    """

    def __init__(
        self,
        delegate: KafkaDelegate,
        circuit_breaker: CircuitBreaker | None = None,
        fallback_handler: FallbackMessageHandler | None = None,
        retry_interval: float | None = None,
        *,
        spill: MessageSpill | None = None,
        now: _clock.Now = _clock.utc_now,
    ) -> None:
        handler = fallback_handler if fallback_handler is not None else FallbackMessageHandler()
        self._safe = Safekeeping(spill, delegate)
        self._sender = FallbackSender(delegate, circuit_breaker, handler, self._safe)
        self.retry_interval: float = handler.retry_interval if retry_interval is None else retry_interval
        self._now = now
        self._batches = ConfirmedBatches(delegate)
        self._recovery = Recovery(self._sender, self._process_queued_messages, lambda: self.retry_interval)
        self._lifecycle = asyncio.Lock()
        self._running = False

    def __repr__(self) -> str:
        return f"ResilientKafkaPublisher({self.delegate!r}, {self.circuit_breaker!r}, waiting={self.get_fallback_queue_size()})"

    @property
    def delegate(self) -> KafkaDelegate:
        """The bus."""
        return self._sender.delegate

    @delegate.setter
    def delegate(self, delegate: KafkaDelegate) -> None:
        self._sender.delegate = delegate
        self._batches = ConfirmedBatches(delegate)

    @property
    def circuit_breaker(self) -> CircuitBreaker | None:
        """The breaker in front of the bus."""
        return self._sender.breaker

    @circuit_breaker.setter
    def circuit_breaker(self, breaker: CircuitBreaker | None) -> None:
        self._sender.breaker = breaker

    @property
    def fallback_handler(self) -> FallbackMessageHandler:
        """The queue."""
        return self._sender.handler

    @fallback_handler.setter
    def fallback_handler(self, handler: FallbackMessageHandler) -> None:
        self._sender.handler = handler

    @property
    def client_id(self) -> str:
        """The bus's."""
        return self.delegate.client_id

    @property
    def bootstrap_servers(self) -> str:
        """The bus's."""
        return self.delegate.bootstrap_servers

    # Life

    async def start(self) -> None:
        """Start the bus, take back what was spilled, and look after the queue from now on. May follow a `stop`.

        Raises:
            Exception: What the bus raises when it cannot start, or the spill when it cannot be read.
        """
        async with self._lifecycle:
            if self._running:
                return
            await self.delegate.start()
            self._running = True
            if self.circuit_breaker is None:
                return
            try:
                await self._safe.load_into(self.fallback_handler)
            except BaseException:
                self._running = False
                await self._safe.close()
                await self.delegate.stop()
                raise
            self._recovery.start()

    async def stop(self) -> None:
        """Send what waits if the broker can be reached, spill or report the rest, and stop the bus."""
        async with self._lifecycle:
            self._running = False
            await self._recovery.stop(STOP_S)
            await self._send_the_rest()
            await self._safe.close()
            await self.delegate.stop()

    # Publishing

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Publish, or keep the message while the breaker is open.

        Returning does not mean that the broker has the message: see `publish_confirmed`. Arguments as for `KafkaBus.publish`.

        Raises:
            FallbackQueueFullError: It could be neither sent nor kept.
            KafkaBusStoppedError: Stopped, and not started again yet. It is kept, and sent after the next start.
            Exception: What the bus raises. Unless the message can never be sent, it is kept as well,
                and will be sent later: who publishes it again sends it twice.
        """
        if self.circuit_breaker is None:
            await self.delegate.publish(topic, envelope, key, headers)
            return
        envelope = correlated(envelope)  # now: what is kept is sent when something else runs
        if self._safe.away:
            await self._keep(topic, envelope, key, headers)
            raise KafkaBusStoppedError(self.client_id, topic)
        if self._sender.is_busy_before(topic, key):  # no need to wait for a trial that may time out
            await self._keep(topic, envelope, key, headers)
            self._recovery.look_again()
            return
        if await self._safe.holds(topic, key):  # somebody else is about to send what was before it
            await self._keep(topic, envelope, key, headers)
            return
        try:
            await self._sender.send(topic, envelope, key, headers)
        except CircuitBreakerError:
            await self._keep(topic, envelope, key, headers)
        except UnsendableMessageError:
            raise
        except Exception:
            await self._keep(topic, envelope, key, headers)
            raise
        else:
            self._recovery.look_again()  # the broker is there

    async def publish_event(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Another name of `publish`."""
        await self.publish(topic, envelope, key, headers)

    async def publish_confirmed(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Publish; returns only when the broker has acknowledged the message, and keeps nothing. Arguments as for `KafkaBus.publish`.

        Raises:
            CircuitBreakerError: The breaker is open.
            KafkaBusStoppedError: Stopped, and not started again yet.
            MessageHeldBackError: Earlier messages of its key were handed over and are not sent yet.
            Exception: What the bus raises.
        """
        if self._safe.away:
            raise KafkaBusStoppedError(self.client_id, topic)
        if await self._safe.holds(topic, key):
            raise MessageHeldBackError(topic, "an earlier message of its key was handed over and is not sent yet")
        await self._sender.send(topic, envelope, key, headers)

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        """Send encoded messages through the breaker; see `BatchPublisher`. Keeps nothing.

        With the breaker open every outcome is transient and not attempted.
        """
        return await self._batches.send(messages, self.circuit_breaker)

    # Looking at it

    def get_fallback_queue_size(self) -> int:
        """How many messages wait."""
        return self.fallback_handler.queue_size()

    def get_circuit_breaker_state(self) -> dict[str, Any]:
        """The breaker's state and how many messages wait, for health checks."""
        if self.circuit_breaker is None:
            return {"enabled": False}
        return {
            **self.circuit_breaker.get_state(),
            "enabled": True,
            "fallback_queue_size": self.get_fallback_queue_size(),
        }

    # What waits

    async def _process_queued_messages(self) -> None:
        await self._sender.send_waiting()

    async def _keep(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None, headers: dict[str, str] | None
    ) -> None:
        message = QueuedMessage(
            topic=topic, envelope=envelope, key=key, queued_at=self._now(), retry_count=0, headers=headers
        )
        # What waits in memory is sent from there, and what follows it behind it.
        if not self._sender.is_waited_for(topic, key) and await self._safe.hand_over(message):
            return
        await self.fallback_handler.queue_message(message)
        count_fate(self.delegate, "queued")
        logger.warning("kafka_message_queued", message=message.name, waiting=self.get_fallback_queue_size())
        await self._safe.kept(message)

    async def _send_the_rest(self) -> None:
        if self._recovery.may_try():
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._process_queued_messages()
        with suppress(TimeoutError):  # somebody holds the queue for so long: what is left is reported
            async with asyncio.timeout(STOP_S):
                await self._sender.give_away()
        left = self.fallback_handler.waiting()
        if left:
            count_fate(self.delegate, "unsent", len(left))
            logger.error("kafka_messages_unsent", count=len(left), messages=[message.name for message in left])
