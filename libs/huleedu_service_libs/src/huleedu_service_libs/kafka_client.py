"""The Kafka client of the services: publishes event envelopes, singly and in batches.

Services bind `KafkaBus` in their containers, the outbox relay hands it whole
batches. It owns the driver (aiokafka) together with its parts in ``kafka/``:
``producer_host`` (life of the producer), ``coalescing`` (single events), ``batching``, ``messages``,
``errors`` and ``driver_errors``. It knows neither circuit breakers nor the outbox.
"""

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs._client_metrics import KAFKA_SWALLOWED
from huleedu_service_libs._clock import Sleep, monotonic, sleep
from huleedu_service_libs._correlation import correlated
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import error_text, mask_url_credentials
from huleedu_service_libs.kafka.batching import BatchSender
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka.coalescing import Coalescer
from huleedu_service_libs.kafka.delivery import Delivery
from huleedu_service_libs.kafka.driver_batches import takes_open_batches
from huleedu_service_libs.kafka.driver_errors import KafkaUnreachableError, PublishTimeoutError
from huleedu_service_libs.kafka.errors import (
    EnvelopeEncodingError,
    InvalidMessageError,
    InvalidTopicError,
    KafkaBusStoppedError,
    KafkaPublishError,
    MessageHeldBackError,
    MessageTooLargeError,
)
from huleedu_service_libs.kafka.messages import encode_message, sending, trace_headers
from huleedu_service_libs.kafka.plain_sends import PlainSender
from huleedu_service_libs.kafka.producer_host import ProducerHost
from huleedu_service_libs.kafka.routing import Routes
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.observability.messaging import now_ns, record_sends, spans_are_recorded
from huleedu_service_libs.protocols import DeliveryOutcome, KafkaPublisherProtocol, OutgoingMessage, T_EventPayload

with requires_extra("kafka", module=__name__):
    from aiokafka.errors import ProducerClosed

__all__ = [
    "KAFKA_BOOTSTRAP_SERVERS",
    "EnvelopeEncodingError",
    "InvalidMessageError",
    "InvalidTopicError",
    "KafkaBus",
    "KafkaBusConfig",
    "KafkaBusStoppedError",
    "KafkaPublishError",
    "KafkaUnreachableError",
    "MessageHeldBackError",
    "MessageTooLargeError",
    "PublishTimeoutError",
    "T_EventPayload",
]

logger = create_service_logger("huleedu_service_libs.kafka")

KAFKA_BOOTSTRAP_SERVERS: str = os.environ.get("KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
"""Brokers to start from, read from the environment when this module is imported."""

_LAST_MOMENT_S = 0.1  # when what was buffered has used up the time of `stop`


class KafkaBus(StartStop, KafkaPublisherProtocol):
    """Publishes to Kafka; returns only once all in-sync replicas have the message.

    The producer is idempotent: retries inside the driver neither double nor reorder. A producer
    that a refused message has put out of step with the broker is replaced by itself. Keys are
    hashed with murmur2 like the Java clients do; clients on librdkafka use CRC-32 unless told
    otherwise, so a key that both write would land on two partitions.

    Constructing does no I/O and needs no running event loop.

    Args:
        client_id: Name in the broker's logs and in metrics.
        bootstrap_servers: ``host:port``, comma-separated.
        config: Time-outs and sizes.
        sleep: Waits between look-ups of a broker that is away.

    Attributes:
        client_id: As given.
        bootstrap_servers: As given.
    """

    def __init__(
        self,
        *,
        client_id: str,
        bootstrap_servers: str = KAFKA_BOOTSTRAP_SERVERS,
        config: KafkaBusConfig | None = None,
        sleep: Sleep = sleep,
    ) -> None:
        self.client_id = client_id
        self.bootstrap_servers = bootstrap_servers
        self._config = config or KafkaBusConfig()
        self._host = ProducerHost(client_id, bootstrap_servers, self._config, sleep=sleep)
        timeout_s = self._config.publish_timeout_s
        routes, delivery = Routes(self._host, timeout_s), Delivery(self._host, timeout_s)
        self._batches = BatchSender(routes, delivery, max_request_size=self._config.max_request_size)
        self._coalescer = Coalescer(self._host, routes, delivery, self._config)
        self._plain = PlainSender(client_id, self._host, timeout_s)
        self._lifecycle = asyncio.Lock()
        self._started = False
        self._stopped = False

    def __repr__(self) -> str:
        servers = mask_url_credentials(self.bootstrap_servers)
        return f"KafkaBus(client_id={self.client_id!r}, bootstrap_servers={servers!r}, started={self._started})"

    @property
    def producer(self) -> Any:
        """The `aiokafka.AIOKafkaProducer` in use, for what `publish` does not offer.

        ``send`` takes keys and values as text or bytes; anything else as a value is encoded as JSON.
        Ask for it each time: it changes when the producer is replaced.

        Raises:
            RuntimeError: No event loop is running and the bus was not started.
        """
        return self._host.current

    @producer.setter
    def producer(self, producer: Any) -> None:
        self._host.current = producer

    async def start(self) -> None:
        """Connect; does nothing when started. Callers at the same time share one start.

        Raises:
            KafkaUnreachableError: No broker answered within the start time-out. It is a
                `KafkaConnectionError` of aiokafka.
        """
        async with self._lifecycle:
            if self._started:
                return
            try:
                await self._host.start()
            except Exception as error:
                self._log_failure("kafka_bus_start_failed", error)
                raise
            self._started = True
            self._stopped = False
        logger.info(
            "kafka_bus_started",
            client_id=self.client_id,
            bootstrap_servers=mask_url_credentials(self.bootstrap_servers),
        )

    async def stop(self) -> None:
        """Send what is buffered, within the stop time-out, and disconnect.

        Errors are logged, counted and swallowed. The bus may be started again.
        """
        async with self._lifecycle:
            was_started, self._started, self._stopped = self._started, False, True
            deadline = monotonic() + self._config.stop_timeout_s
            await self._coalescer.drain(self._config.stop_timeout_s)
            await self._host.stop(within_s=max(deadline - monotonic(), _LAST_MOMENT_S))
        if was_started:
            logger.info("kafka_bus_stopped", client_id=self.client_id)

    async def ping(self) -> bool:
        """Whether a broker answers within the request time-out; failures are logged and counted, never raised."""
        if not self._started:
            return False
        try:
            async with asyncio.timeout(self._config.request_timeout_s):
                await self._host.live.client.fetch_all_metadata()
        except Exception as error:  # noqa: BLE001  # the answer is False, and the log says why
            KAFKA_SWALLOWED.labels(client_id=self.client_id, operation="ping").inc()
            self._log_failure("kafka_broker_silent", error)
            return False
        return True

    async def publish(
        self,
        topic: str,
        envelope: EventEnvelope[Any],
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Publish one envelope and wait until the broker has acknowledged it.

        What tasks publish at the same time travels together, in the order of the calls; each caller has
        its own outcome. A bus that was never started is started here, with a warning. After `stop` nothing is
        started silently: publishing then is a mistake in the order of shutdown.

        Args:
            topic: Where to.
            envelope: The event; sent as the JSON of ``model_dump(mode="json")``, with the running correlation id if it was
                made without one.
            key: Events of one key keep their order; an empty one is none.
            headers: Sent as UTF-8. The current trace is added, unless they or the envelope's metadata carry one.

        Raises:
            EnvelopeEncodingError: The envelope has no JSON form.
            InvalidTopicError: The topic's name is not legal.
            InvalidMessageError: Key or headers are not text.
            MessageTooLargeError: More than ``max_request_size``.
            KafkaBusStoppedError: The bus is not running (a `RuntimeError`).
            KafkaUnreachableError: It had to be started, and found no broker.
            PublishTimeoutError: Not acknowledged in time; the event may still arrive, unless ``sent`` is false.
            MessageHeldBackError: Not sent, because an earlier event of the partition may still arrive.
            aiokafka.errors.KafkaError: Anything else, as the driver raises it.
        """
        limit = self._config.max_request_size
        envelope = correlated(envelope)
        try:
            if not spans_are_recorded():
                added = trace_headers(envelope, headers)
                await self._send(encode_message(topic, envelope, key, headers, added, limit=limit))
                return
            with sending(self.client_id, topic, envelope, key, headers) as added:
                await self._send(encode_message(topic, envelope, key, headers, added, limit=limit))
        except Exception as error:
            self._log_failure(
                "kafka_publish_failed",
                error,
                topic=topic,
                event_type=getattr(envelope, "event_type", None),
                event_id=str(getattr(envelope, "event_id", None)),
            )
            raise

    async def publish_event(
        self,
        topic: str,
        envelope: EventEnvelope[Any],
        key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Another name of `publish`."""
        await self.publish(topic, envelope, key, headers)

    async def publish_batch(self, messages: Sequence[OutgoingMessage]) -> list[DeliveryOutcome]:
        """Send many encoded messages; one outcome each, in the same order.

        Keeps what `BatchPublisher` promises. Beyond it: whatever was left unacknowledged by a
        time-out or a cancellation is settled before anything else goes to its partition.

        Raises:
            KafkaBusStoppedError: After `stop`.
        """
        if not messages:
            return []
        try:
            await self._ensure_running(messages[0].topic)
        except KafkaUnreachableError as error:
            return [DeliveryOutcome(error=error, transient=True) for _ in messages]
        started = now_ns()
        outcomes = await self._batches.send(messages)
        if spans_are_recorded():
            record_sends(messages, outcomes, client_id=self.client_id, started_ns=started)
        return outcomes

    async def _ensure_running(self, topic: str) -> None:
        if self._started:
            return
        if not self._stopped:
            logger.warning("kafka_bus_used_before_start", client_id=self.client_id, topic=topic)
            await self.start()
        if not self._started:
            raise KafkaBusStoppedError(self.client_id, topic)

    async def _send(self, message: OutgoingMessage) -> None:
        if not self._started:
            await self._ensure_running(message.topic)
        own = takes_open_batches(self._host.live)
        try:
            await (self._coalescer if own else self._plain).send(message)
        except ProducerClosed as error:
            if self._started:
                raise
            raise KafkaBusStoppedError(self.client_id, message.topic) from error

    def _log_failure(self, event: str, error: Exception, **fields: Any) -> None:
        logger.error(event, client_id=self.client_id, error=error_text(error), **fields)
