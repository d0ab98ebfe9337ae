"""Publishing that survives a broker's absence: a breaker in front of a bus, and a queue behind it.

Services bind `ResilientKafkaPublisher` in place of the bus. While the breaker is open, `publish`
keeps messages in memory and returns; they are sent when the broker is back, though nobody
publishes, and in the order of their keys. Who must know that the broker has a message uses
`publish_confirmed` or `publish_batch`, as the outbox relay does: those never queue.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from common_core import CircuitBreakerState
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs import _clock
from huleedu_service_libs.kafka.confirmed_batches import ConfirmedBatches
from huleedu_service_libs.kafka.errors import (
    EnvelopeEncodingError,
    InvalidMessageError,
    InvalidTopicError,
    MessageTooLargeError,
)
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler, QueuedMessage
from huleedu_service_libs.kafka.fallback_metrics import FALLBACK_MESSAGES
from huleedu_service_libs.kafka.spill import MessageSpill
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage, T_EventPayload
from huleedu_service_libs.resilience.circuit_breaker import CircuitBreaker
from huleedu_service_libs.resilience.errors import CircuitBreakerError

__all__ = ["KafkaDelegate", "ResilientKafkaPublisher", "T_EventPayload"]

STOP_SECONDS = 5.0  # for the recovery task, and again for sending what is left

_HOPELESS = (EnvelopeEncodingError, InvalidMessageError, InvalidTopicError, MessageTooLargeError)

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


class ResilientKafkaPublisher:
    """A `KafkaBus` behind a circuit breaker, with a fallback queue. Not a subclass of it.

    Messages of one topic and key keep their order as long as each is published after the call
    before has ended: while some of them wait, later ones wait behind them.

    Args:
        delegate: The bus.
        circuit_breaker: Without one this only passes calls on.
        fallback_handler: The queue; by default one for 1000 messages.
        retry_interval: Seconds between attempts to send what waits; by default the queue's, 30.
        spill: Takes what is left at `stop`, and gives it back at `start`; without one it stays in
            memory and is reported by name.
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
        self.delegate = delegate
        self.circuit_breaker = circuit_breaker
        self.fallback_handler = fallback_handler if fallback_handler is not None else FallbackMessageHandler()
        self.retry_interval = self.fallback_handler.retry_interval if retry_interval is None else retry_interval
        self._spill = spill
        self._spilled = False
        self._now = now
        self._batches = ConfirmedBatches(delegate)
        self._sending: QueuedMessage[Any] | None = None
        self._held_up = False
        self._turn = asyncio.Lock()
        self._wake = asyncio.Event()
        self._running = False
        self._recovery: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"ResilientKafkaPublisher({self.delegate!r}, {self.circuit_breaker!r}, waiting={self.get_fallback_queue_size()})"

    @property
    def client_id(self) -> str:
        """The bus's."""
        return self.delegate.client_id

    @property
    def bootstrap_servers(self) -> str:
        """The bus's."""
        return self.delegate.bootstrap_servers

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Life

    async def start(self) -> None:
        """Start the bus, take back what was spilled, and look after the queue from now on. May follow a `stop`."""
        if self._running:
            return
        await self.delegate.start()
        self._running = True
        if self.circuit_breaker is None:
            return
        self._wake = asyncio.Event()  # of the loop that runs now
        await self._take_back()
        self._recovery = asyncio.create_task(self._recover(), name="kafka-fallback-recovery")

    async def stop(self) -> None:
        """Send what waits if the broker can be reached, spill or report the rest, and stop the bus."""
        self._running = False
        task, self._recovery = self._recovery, None
        if task is not None:
            self._wake.set()
            _, late = await asyncio.wait([task], timeout=STOP_SECONDS)
            for each in late:
                each.cancel()
                await asyncio.wait([each])
        await self._send_the_rest()
        await self.delegate.stop()

    # Publishing

    async def publish(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Publish, or keep the message while the breaker is open.

        Returning does not mean that the broker has the message: see `publish_confirmed`.

        Raises:
            FallbackQueueFullError: It could be neither sent nor kept.
            Exception: What the bus raises. Unless the message can never be sent, it is kept as well,
                and will be sent later: who publishes it again sends it twice.
        """
        if self.circuit_breaker is None:
            await self.delegate.publish(topic, envelope, key, headers)
            return
        if self._turn.locked() and self._is_waited_for(topic, key):  # no need to wait for a trial that may time out
            await self._keep(topic, envelope, key, headers)
            self._look_again()
            return
        try:
            await self._send(topic, envelope, key, headers)
        except CircuitBreakerError:
            await self._keep(topic, envelope, key, headers)
        except _HOPELESS:
            raise
        except Exception:
            await self._keep(topic, envelope, key, headers)
            raise
        else:
            self._look_again()  # the broker is there

    async def publish_event(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Another name of `publish`."""
        await self.publish(topic, envelope, key, headers)

    async def publish_confirmed(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        """Publish; returns only when the broker has acknowledged the message, and keeps nothing.

        Raises:
            CircuitBreakerError: The breaker is open.
            Exception: What the bus raises.
        """
        if self.circuit_breaker is None:
            await self.delegate.publish(topic, envelope, key, headers)
        else:
            await self._send(topic, envelope, key, headers)

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

    # One message

    async def _send(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None, headers: dict[str, str] | None
    ) -> None:
        """Send through the breaker, behind what waits with the same key."""
        breaker = self.circuit_breaker
        if breaker is None:
            raise RuntimeError("there is no breaker")
        if not self._is_waited_for(topic, key):
            await breaker.call(self.delegate.publish, topic, envelope, key, headers)
            return
        async with self._turn:
            failure = await self._drain(lambda: not self.fallback_handler.holds(topic, key), counted=False)
            if failure is not None:
                raise failure
            await breaker.call(self.delegate.publish, topic, envelope, key, headers)

    def _is_waited_for(self, topic: str, key: str | None) -> bool:
        sending = self._sending
        if sending is not None and key and sending.order == (topic, key):
            return True
        return self.fallback_handler.holds(topic, key)

    def _look_again(self) -> None:
        """Have the queue drained now; but what was just refused waits for its interval, however much traffic there is."""
        if self.fallback_handler.has_queued_messages() and not self._held_up:
            self._wake.set()

    async def _keep(
        self, topic: str, envelope: EventEnvelope[Any], key: str | None, headers: dict[str, str] | None
    ) -> None:
        message = QueuedMessage(
            topic=topic, envelope=envelope, key=key, queued_at=self._now(), retry_count=0, headers=headers
        )
        await self.fallback_handler.queue_message(message)
        self._count("queued")
        logger.warning("kafka_message_queued", message=message.name, waiting=self.get_fallback_queue_size())

    # The queue

    async def _process_queued_messages(self) -> None:
        """Send what waits, oldest first, until the queue is empty or one fails. An open breaker gives it a trial."""
        breaker = self.circuit_breaker
        if breaker is not None and breaker.state is CircuitBreakerState.OPEN:
            breaker.try_now()
        async with self._turn:
            failure = await self._drain(lambda: False, counted=True)
            self._held_up = failure is not None
            if self._spilled and not self.fallback_handler.has_queued_messages():
                await self._save([])

    async def _drain(self, enough: Callable[[], bool], *, counted: bool) -> Exception | None:
        """Send queued messages until ``enough``; the error of the one that failed. Needs the turn."""
        while not enough():
            message = await self.fallback_handler.get_next_message()
            if message is None:
                return None
            self._sending = message
            try:
                await self._deliver(message)
            except Exception as error:  # noqa: BLE001  # whatever it is, the message goes back or is given up by name
                self._came_back(message, error, counted=counted)
                return error
            except BaseException:
                self.fallback_handler.put_back(message)
                raise
            finally:
                self._sending = None
            self._count("sent")
        return None

    async def _deliver(self, message: QueuedMessage[Any]) -> None:
        arguments = (message.topic, message.envelope, message.key, message.headers)
        if self.circuit_breaker is None:
            await self.delegate.publish(*arguments)
        else:
            await self.circuit_breaker.call(self.delegate.publish, *arguments)

    def _came_back(self, message: QueuedMessage[Any], error: Exception, *, counted: bool) -> None:
        """Put a message that failed back to the front, or give it up: an outage is not its fault."""
        if counted and not isinstance(error, CircuitBreakerError):
            message.retry_count += 1
            outage = bool(getattr(error, "retriable", False)) or isinstance(error, TimeoutError | OSError)
            if message.retry_count >= self.fallback_handler.max_retries and not outage:
                self.fallback_handler.drop(message)
                self._count("dropped")
                logger.error(
                    "kafka_message_dropped", message=message.name, retries=message.retry_count, error=_text(error)
                )
                return
        self.fallback_handler.put_back(message)

    async def _recover(self) -> None:
        while self._running:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            self._wake.clear()
            if self._may_try():
                try:
                    await self._process_queued_messages()
                except Exception as error:  # noqa: BLE001  # the task must live; the next round tries again
                    self._count("recovery_error")
                    logger.error("kafka_recovery_failed", error=_text(error))  # noqa: TRY400  # the text says it

    def _pause(self) -> float:
        """The interval, or less when an open breaker tries again sooner.

        Not at the very moment: where there is traffic, somebody's own message makes the trial.
        """
        breaker = self.circuit_breaker
        left = 0.0 if breaker is None else breaker.retry_after()
        if left <= 0 or not self.fallback_handler.has_queued_messages():
            return self.retry_interval
        return min(self.retry_interval, left + self.retry_interval / 4)

    def _may_try(self) -> bool:
        breaker = self.circuit_breaker
        return self.fallback_handler.has_queued_messages() and (breaker is None or breaker.retry_after() <= 0)

    # Start and stop

    async def _take_back(self) -> None:
        if self._spill is None:
            return
        known = {message.envelope.event_id for message in self.fallback_handler.waiting()}
        for message in await self._spill.load():
            self._spilled = True
            if message.envelope.event_id not in known:
                await self.fallback_handler.queue_message(message)
        if self.fallback_handler.has_queued_messages():
            self._wake.set()

    async def _send_the_rest(self) -> None:
        if self._may_try():
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self._process_queued_messages()
        left = self.fallback_handler.waiting()
        if left and not await self._save(left):
            self._count("unsent", len(left))
            logger.error("kafka_messages_unsent", count=len(left), messages=[message.name for message in left])

    async def _save(self, messages: Sequence[QueuedMessage[Any]]) -> bool:
        """Spill exactly ``messages``; whether that worked."""
        if self._spill is None:
            return False
        try:
            await self._spill.save(messages)
        except Exception as error:  # noqa: BLE001  # a stop must go on; the messages are reported by name
            self._count("spill_error")
            logger.error("kafka_spill_failed", error=_text(error))  # noqa: TRY400  # the text says it
            return False
        self._spilled = bool(messages)
        if messages:
            self._count("spilled", len(messages))
            await self.fallback_handler.clear_queue()
            logger.warning("kafka_messages_spilled", count=len(messages))
        return True

    def _count(self, fate: str, number: int = 1) -> None:
        FALLBACK_MESSAGES.labels(client_id=str(getattr(self.delegate, "client_id", "")), fate=fate).inc(number)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
