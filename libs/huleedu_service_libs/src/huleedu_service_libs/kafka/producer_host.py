"""Owns the one live producer of a bus: starts it, replaces it, closes it.

`KafkaBus` and the parts that send use it. An aiokafka producer belongs to one event loop, cannot be
started twice, and is lost after a refused batch; all of that stays in here. How one is made and broken off
is ``driver_producer``'s; it knows nothing of messages.
"""

import asyncio
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._client_metrics import KAFKA_REBUILDS, KAFKA_SWALLOWED
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text, mask_url_credentials
from huleedu_service_libs._tasks import attended, begin
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka.driver_errors import KafkaUnreachableError
from huleedu_service_libs.kafka.driver_producer import break_off, build_producer
from huleedu_service_libs.logging_utils import create_service_logger

with requires_extra("kafka", module=__name__):
    from aiokafka.errors import KafkaError, ProducerClosed

__all__ = ["ProducerHost"]

logger = create_service_logger("huleedu_service_libs.kafka")


class ProducerHost:
    """The producer of a bus, whichever one is current.

    Args:
        client_id: Name of the client in the broker's logs, and label of the counters.
        bootstrap_servers: ``host:port``, comma-separated.
        config: Time-outs and sizes.
        sleep: Waits.
    """

    def __init__(
        self, client_id: str, bootstrap_servers: str, config: KafkaBusConfig, *, sleep: _clock.Sleep = _clock.sleep
    ) -> None:
        self._client_id = client_id
        self._bootstrap_servers = bootstrap_servers
        self._config = config
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._current: Any = None
        self._is_live = False
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Any:
        """The producer in use; built on first use, without any I/O.

        Raises:
            RuntimeError: It would have to be built, and no event loop is running.
        """
        if self._current is None:
            self._current = self._build()
        return self._current

    @current.setter
    def current(self, producer: Any) -> None:
        self._current = producer
        self._is_live = True

    @property
    def live(self) -> Any:
        """The producer in use, between `start` and `stop`.

        Raises:
            ProducerClosed: There is none; sends that were under way end with it.
        """
        if not self._is_live:
            raise ProducerClosed("the Kafka bus was stopped")
        return self.current if self._current is None else self._current

    async def start(self) -> None:
        """Connect the current producer.

        Raises:
            KafkaUnreachableError: No broker answered within the start time-out.
        """
        try:
            await self._connect(self.current)
        except BaseException:
            self._current = None  # a producer cannot be started twice
            raise
        self._is_live = True

    async def replace(self, broken: Any, *, reason: str) -> None:
        """Put a fresh producer (with a new producer id) in the place of ``broken``.

        Callers that failed together on the same producer share one replacement. What ``broken``
        still has in flight is finished in the background.

        Args:
            broken: The producer that failed.
            reason: Name of the error, for log and counter.

        Raises:
            KafkaUnreachableError: The new one found no broker; ``broken`` stays.
        """
        async with self._lock:
            if self._current is not broken:
                return
            logger.warning("kafka_producer_replacing", client_id=self._client_id, reason=reason)
            KAFKA_REBUILDS.labels(client_id=self._client_id, reason=reason).inc()
            fresh = self._build()
            await self._connect(fresh)
            if self._current is not broken:  # stopped in the meantime
                await self._close(fresh, operation="retire")
                return
            self._current = fresh
        task = begin(self._close(broken, operation="retire"), name="kafka-producer-retire")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def stop(self, *, within_s: float | None = None) -> None:
        """Send what is buffered and disconnect; never raises an error.

        Args:
            within_s: Seconds that it may take; the stop time-out by default.
        """
        producer, self._current, self._is_live = self._current, None, False
        closings = list(self._closing)
        if producer is not None:
            closings.append(
                attended(self._close(producer, operation="stop", within_s=within_s), name="kafka-producer-stop")
            )
        if closings:
            await asyncio.gather(*closings)

    def _build(self) -> Any:
        return build_producer(self._client_id, self._bootstrap_servers, self._config, sleep=self._sleep)

    async def _connect(self, producer: Any) -> None:
        try:
            async with asyncio.timeout(self._config.start_timeout_s):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await self._close(producer, operation="start")
            raise self._unreachable(error) from error
        except BaseException:
            await self._close(producer, operation="start")
            raise

    def _unreachable(self, error: Exception) -> KafkaUnreachableError:
        reason = str(error) or f"no answer within {self._config.start_timeout_s:g} s"
        return KafkaUnreachableError(
            self._client_id, mask_url_credentials(self._bootstrap_servers), mask_url_credentials(reason)
        )

    async def _close(self, producer: Any, *, operation: str, within_s: float | None = None) -> None:
        try:
            async with asyncio.timeout(self._config.stop_timeout_s if within_s is None else within_s):
                await producer.stop()
        except Exception as error:  # noqa: BLE001  # stop() promises to swallow, and the producer is given up anyway
            self._note_swallowed(operation, error)
            await break_off(producer, self._client_id)

    def _note_swallowed(self, operation: str, error: Exception) -> None:
        KAFKA_SWALLOWED.labels(client_id=self._client_id, operation=operation).inc()
        logger.error(
            "kafka_producer_stop_failed",
            client_id=self._client_id,
            operation=operation,
            error=error_text(error),
        )
