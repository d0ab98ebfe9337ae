"""One producer of aiokafka: how it is made, and how it is broken off.

``producer_host`` uses it. What the life of a producer needs of aiokafka's insides stands in here, what sending needs
in ``driver_batches``. Which producer a bus has, and when it needs another, is not known.
"""

import asyncio
from typing import Any

from huleedu_service_libs import _clock
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._json import dumps
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.bus_config import KafkaBusConfig
from huleedu_service_libs.kafka.partitioning import partition_for
from huleedu_service_libs.logging_utils import create_service_logger

with requires_extra("kafka", module=__name__):
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaTimeoutError

__all__ = ["break_off", "build_producer"]

logger = create_service_logger("huleedu_service_libs.kafka")

_FORCED_CLOSE_S = 2.0
_METADATA_RETRY_S = 0.25


def build_producer(client_id: str, bootstrap_servers: str, config: KafkaBusConfig, *, sleep: _clock.Sleep) -> Any:
    """A producer that waits for all in-sync replicas; not connected yet.

    Args:
        client_id: Name in the broker's logs.
        bootstrap_servers: ``host:port``, comma-separated.
        config: Time-outs and sizes.
        sleep: Waits after a look-up of the cluster that nobody answered.

    Raises:
        RuntimeError: No event loop is running.
    """
    producer = AIOKafkaProducer(
        client_id=client_id,
        bootstrap_servers=bootstrap_servers,
        acks="all",
        enable_idempotence=config.enable_idempotence,
        key_serializer=_key_bytes,
        value_serializer=_value_bytes,
        partitioner=partition_for,
        request_timeout_ms=round(config.request_timeout_s * 1000),
        max_request_size=config.max_request_size,
        max_batch_size=config.batch_size,
        linger_ms=config.linger_ms,
        compression_type=config.compression,
    )
    _pace_metadata(producer.client, sleep)
    return producer


async def break_off(producer: Any, client_id: str) -> None:
    """End what ``stop()`` of a producer waits for; never raises an error.

    An idempotent producer retries for as long as the broker is away, and ``stop()`` waits for
    that. aiokafka offers no way out, hence the reach into its sender and accumulator.
    """
    try:
        async with asyncio.timeout(_FORCED_CLOSE_S):
            await producer._sender.close()  # noqa: SLF001  # no public way to break it off
    except Exception as error:  # noqa: BLE001  # giving up: nothing is left to try on the sender
        logger.debug("kafka_sender_broken_off", client_id=client_id, error=error_text(error))
    try:
        _fail_undelivered(producer)
        async with asyncio.timeout(_FORCED_CLOSE_S):
            await producer.client.close()
    except Exception as error:  # noqa: BLE001  # as above
        logger.debug("kafka_connections_broken_off", client_id=client_id, error=error_text(error))


def _pace_metadata(client: Any, sleep: _clock.Sleep) -> None:
    """Let time pass after a look-up that no broker answered.

    When a leader is unknown, aiokafka's sender asks for metadata again at once: during an outage
    several thousand times a second, each with two log lines. There is no setting for it.
    """
    look_up = client._metadata_update  # noqa: SLF001  # no public setting for the pace

    async def paced(cluster: Any, topics: Any) -> Any:
        updated = await look_up(cluster, topics)
        if not updated:
            await sleep(_METADATA_RETRY_S)
        return updated

    client._metadata_update = paced  # noqa: SLF001  # as above


def _fail_undelivered(producer: Any) -> None:
    accumulator = producer._message_accumulator  # noqa: SLF001  # no public way to the unsent batches
    batches = [batch for queue in accumulator._batches.values() for batch in queue]  # noqa: SLF001  # as above
    batches += accumulator._pending_batches  # noqa: SLF001  # as above
    accumulator.fail_all(KafkaTimeoutError("The Kafka bus was stopped before the broker acknowledged"))
    for batch in batches:
        waiter = batch._drain_waiter  # noqa: SLF001  # as above
        if waiter.done() and not waiter.cancelled():
            waiter.exception()  # seen: or asyncio would report it


def _key_bytes(key: Any) -> bytes | None:
    if key is None or isinstance(key, bytes):
        return key
    if isinstance(key, bytearray | memoryview):
        return bytes(key)
    return str(key).encode("utf-8")


def _value_bytes(value: Any) -> bytes | None:
    """Text and bytes pass as they are: whoever hands them over has encoded them."""
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        return value.encode("utf-8")
    return dumps(value)
