"""The resilient publisher on a real broker that goes away under load and comes back."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from common_core import EventEnvelope
from huleedu_service_libs.kafka import ResilientKafkaPublisher
from huleedu_service_libs.kafka.driver_errors import KafkaError
from huleedu_service_libs.kafka_client import KafkaBus, KafkaBusConfig
from huleedu_service_libs.outbox.relay import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.resilience import CircuitBreaker
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import KafkaServer

from ..topics import read_all
from ..waiting import until
from .test_relay import _fill, _numbers_by_key, _waiting

pytestmark = pytest.mark.integration


def _publisher(address: str) -> ResilientKafkaPublisher:
    breaker = CircuitBreaker(
        failure_threshold=3,
        recovery_timeout=timedelta(seconds=0.5),
        success_threshold=1,
        expected_exception=KafkaError,
        name="path.kafka_producer",
    )
    config = KafkaBusConfig(request_timeout_s=1, publish_timeout_s=1)
    return ResilientKafkaPublisher(
        KafkaBus(client_id="path", bootstrap_servers=address, config=config), breaker, retry_interval=1
    )


async def _stop(kafka: KafkaServer) -> None:
    try:
        await asyncio.to_thread(kafka.stop)
    except NotOursError as error:
        pytest.skip(str(error))


async def test_a_broker_away_under_load(real_kafka: KafkaServer, kafka_topic: Callable[..., str]) -> None:
    """The breaker opens, messages wait, and arrive without a further publish: none lost, each key in its order."""
    topic = kafka_topic("away", partitions=3)
    sent: defaultdict[str, list[int]] = defaultdict(list)

    async def write(key: str, numbers: range) -> None:
        for number in numbers:
            sent[key].append(number)
            event: EventEnvelope[Any] = EventEnvelope(event_type="t.v1", source_service="s", data={"n": number})
            with suppress(KafkaError):
                await publisher.publish(topic, event, key)

    async with _publisher(real_kafka.address) as publisher:
        breaker = publisher.circuit_breaker
        assert breaker is not None
        await asyncio.gather(*(write(f"key-{each}", range(20)) for each in range(5)))
        await _stop(real_kafka)
        try:
            await asyncio.gather(*(write(f"key-{each}", range(20, 40)) for each in range(5)))
            assert breaker.get_state()["state"] == "open"
            assert publisher.get_fallback_queue_size() == 100
        finally:
            await asyncio.to_thread(real_kafka.start)
        await until(lambda: publisher.get_fallback_queue_size() == 0)
        assert breaker.get_state()["state"] == "closed"
    arrived = _numbers_by_key(await read_all(real_kafka.address, topic))
    firsts = {key.decode(): list(dict.fromkeys(numbers)) for key, numbers in arrived.items()}
    assert firsts == sent


async def test_the_relay_through_the_resilient_publisher(
    engine: AsyncEngine, real_kafka: KafkaServer, kafka_topic: Callable[..., str]
) -> None:
    """An outage acknowledges nothing that the broker does not have, queues nothing, and burns no attempt."""
    topic = kafka_topic("relay-away", partitions=3)
    async with _publisher(real_kafka.address) as publisher:
        await _stop(real_kafka)
        worker = EventRelayWorker(
            PostgreSQLOutboxRepository(engine, service_name="path"),
            publisher,
            OutboxSettings(error_retry_interval_seconds=0.2, max_retries=2, enable_metrics=False),
            "path",
        )
        try:
            await _fill(engine, topic, 100, 10)
            await worker.start()
            await until(lambda: publisher.get_circuit_breaker_state()["state"] == "open")
            assert await _waiting(engine) == 100
            assert publisher.get_fallback_queue_size() == 0
        finally:
            await asyncio.to_thread(real_kafka.start)
        async with asyncio.timeout(40):
            while await _waiting(engine):
                await asyncio.sleep(0.1)
        await worker.stop()
    by_key = _numbers_by_key(await read_all(real_kafka.address, topic))
    firsts = {key: list(dict.fromkeys(numbers)) for key, numbers in by_key.items()}
    assert firsts == {f"key-{each}".encode(): list(range(each, 100, 10)) for each in range(10)}
