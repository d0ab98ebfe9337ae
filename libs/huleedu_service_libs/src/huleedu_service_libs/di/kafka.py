"""The Kafka publisher for a container, guarded when the settings say so. Loads no Redis driver."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Protocol

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka.driver_errors import KafkaError
from huleedu_service_libs.kafka.fallback_handler import FallbackMessageHandler
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka.spill import MessageSpill
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.protocols import KafkaPublisherProtocol
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerRegistry
from huleedu_service_libs.resilience.metrics import CircuitBreakerMetrics

with requires_extra("di", module=__name__):
    from dishka import Provider, Scope, provide

__all__ = ["KafkaProvider", "KafkaSettings"]


class KafkaSettings(Protocol):
    """What `KafkaProvider` reads of a service's settings. What stands under Attributes is read where it is there.

    Attributes:
        PRODUCER_CLIENT_ID: The client's id.
        CIRCUIT_BREAKER_ENABLED: Whether a `ResilientKafkaPublisher` stands around the bus.
        KAFKA_CIRCUIT_BREAKER_FAILURE_THRESHOLD: Failures in a row that open its breaker. More than a breaker's own
            default, since one lost broker fails a whole batch of publishes at once.
        KAFKA_CIRCUIT_BREAKER_RECOVERY_TIMEOUT: Seconds for which it stays open, or a ``timedelta``.
        KAFKA_CIRCUIT_BREAKER_SUCCESS_THRESHOLD: Successful trial calls that close it.
        KAFKA_FALLBACK_QUEUE_SIZE: Messages that wait for the broker at most.
    """

    @property
    def SERVICE_NAME(self) -> str:  # noqa: N802  # the services' name
        """The service; the client's id is ``<SERVICE_NAME>-producer`` by default."""
        ...

    @property
    def KAFKA_BOOTSTRAP_SERVERS(self) -> str:  # noqa: N802  # the services' name
        """``host:port``, comma-separated."""
        ...


class KafkaProvider(Provider):
    """One started publisher for the application, as `KafkaPublisherProtocol`.

    With ``settings.CIRCUIT_BREAKER_ENABLED`` it is a `ResilientKafkaPublisher` around the bus, whose
    breaker stands in the registry as ``kafka_producer``; else it is the bus itself. `KafkaSettings` has all the names.

    Args:
        settings: The service's settings.
        config: Time-outs and sizes of the bus.
        metrics: Of the breaker.
        spill: Where messages go that cannot be sent before the end.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        config: KafkaBusConfig | None = None,
        *,
        metrics: CircuitBreakerMetrics | None = None,
        spill: MessageSpill | None = None,
    ) -> None:
        super().__init__(scope=Scope.APP)
        self._settings = settings
        self._config = config
        self._metrics = metrics
        self._spill = spill

    @provide
    def circuit_breaker_registry(self) -> CircuitBreakerRegistry:
        """The application's breakers; a service's own registry, provided later, takes its place."""
        return CircuitBreakerRegistry()

    @provide
    async def kafka_bus(self) -> AsyncIterator[KafkaBus]:
        """The bus, between ``start()`` and ``stop()``."""
        settings = self._settings
        client_id = getattr(settings, "PRODUCER_CLIENT_ID", None) or f"{settings.SERVICE_NAME}-producer"
        async with KafkaBus(
            client_id=client_id, bootstrap_servers=settings.KAFKA_BOOTSTRAP_SERVERS, config=self._config
        ) as bus:
            yield bus

    @provide
    async def kafka_publisher(
        self, bus: KafkaBus, registry: CircuitBreakerRegistry
    ) -> AsyncIterator[KafkaPublisherProtocol]:
        """The bus, or the guarded publisher around it, between ``start()`` and ``stop()``."""
        if not getattr(self._settings, "CIRCUIT_BREAKER_ENABLED", False):
            yield bus
            return
        async with self._guarded(bus, registry) as publisher:
            yield publisher

    def _guarded(self, bus: KafkaBus, registry: CircuitBreakerRegistry) -> ResilientKafkaPublisher:
        settings = self._settings
        seconds = getattr(settings, "KAFKA_CIRCUIT_BREAKER_RECOVERY_TIMEOUT", 30)
        breaker = CircuitBreaker(
            name=f"{settings.SERVICE_NAME}.kafka_producer",
            failure_threshold=getattr(settings, "KAFKA_CIRCUIT_BREAKER_FAILURE_THRESHOLD", 10),
            recovery_timeout=seconds if isinstance(seconds, timedelta) else timedelta(seconds=seconds),
            success_threshold=getattr(settings, "KAFKA_CIRCUIT_BREAKER_SUCCESS_THRESHOLD", 3),
            expected_exception=KafkaError,
            service_name=settings.SERVICE_NAME,
            metrics=self._metrics,
        )
        registry.register("kafka_producer", breaker)
        queue = FallbackMessageHandler(max_queue_size=getattr(settings, "KAFKA_FALLBACK_QUEUE_SIZE", 1000))
        return ResilientKafkaPublisher(bus, breaker, queue, spill=self._spill)
