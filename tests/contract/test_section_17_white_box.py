"""Section 17, the rest: what services' tests build, assign and read on buses, publishers, breakers, Redis clients and spans."""

import asyncio
import json
import subprocess
import sys
import types
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock, patch
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from aiokafka import AIOKafkaConsumer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from quart import Quart, jsonify

from common_core.error_enums import ErrorCode
from common_core.events.envelope import EventEnvelope
from common_core.status_enums import CircuitBreakerState
from huleedu_service_libs.error_handling import HuleEduError, create_error_detail_with_context, raise_processing_error
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox import EventRelayWorker, OutboxSettings
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.outbox.monitoring import OutboxMetrics
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError
from tests.contract.consuming import confirming, message

ID = UUID(int=7)


def envelope() -> EventEnvelope[Any]:
    """An event."""
    return EventEnvelope(event_type="e.v1", source_service="svc", data={"text": "räksmörgås"})


@pytest.mark.contract("17-bus-start-stop")
async def test_the_real_constructor_between_patched_start_and_stop() -> None:
    """The class's methods are replaced; what is constructed is a bus, and no address was looked up for it."""
    with (
        patch.object(KafkaBus, "start", new_callable=AsyncMock) as start,
        patch.object(KafkaBus, "stop", new_callable=AsyncMock) as stop,
        patch("socket.getaddrinfo", side_effect=AssertionError("the constructor looks up an address")),
    ):
        bus = KafkaBus(client_id="svc", bootstrap_servers="nowhere.invalid:1")
        await bus.start()
        await bus.stop()
    start.assert_awaited_once()
    stop.assert_awaited_once()
    assert (bus.client_id, bus.bootstrap_servers) == ("svc", "nowhere.invalid:1")


@pytest.mark.contract("17-bus-in-the-service")
def test_a_service_patches_the_name_in_its_own_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module that has imported the class builds the double."""
    module: Any = types.ModuleType("services_di")
    source = (
        "from huleedu_service_libs.kafka_client import KafkaBus\ndef provide():\n    return KafkaBus(client_id='svc')\n"
    )
    exec(source, module.__dict__)  # noqa: S102  # a service's module, as it is written
    monkeypatch.setitem(sys.modules, "services_di", module)
    assert isinstance(module.provide(), KafkaBus)
    with patch("services_di.KafkaBus") as double:
        assert module.provide() is double.return_value
    double.assert_called_once_with(client_id="svc")


@pytest.mark.contract("17-bus-producer-send")
async def test_a_producer_assigned_by_hand() -> None:
    """The double of a bus takes whatever stands for its producer."""
    bus = AsyncMock(spec=KafkaBus)
    bus.client_id, bus.producer = "svc", AsyncMock()
    await bus.producer.send(topic="t.dlq", key=None, value="{}", headers={})
    bus.producer.send.assert_awaited_once_with(topic="t.dlq", key=None, value="{}", headers={})


@pytest.mark.integration
@pytest.mark.contract("17-bus-producer-send")
async def test_dead_letters_by_the_producer(real_kafka: Any, kafka_topic: Any) -> None:
    """Text keys or none, headers as an empty dictionary, and a body that is JSON already arrives as it is."""
    topic, value = kafka_topic(), json.dumps({"fel": "å"})
    bus = KafkaBus(client_id="contract", bootstrap_servers=real_kafka.address)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=real_kafka.address, auto_offset_reset="earliest")
    await bus.start()
    try:
        for key in ("batch-1", None):
            await bus.producer.send(topic=topic, key=key, value=value, headers={})
        await bus.producer.flush()
        await consumer.start()
        records = [await asyncio.wait_for(consumer.getone(), 30) for _ in range(2)]
    finally:
        await consumer.stop()
        await bus.stop()
    assert [(one.key, json.loads(one.value or b"")) for one in records] == [
        (b"batch-1", {"fel": "å"}),
        (None, {"fel": "å"}),
    ]


@pytest.mark.contract("17-publisher-queue", "17-publisher-parts")
async def test_the_queue_of_a_publisher() -> None:
    """What an open breaker has queued goes through the delegate, and what is left can be cleared."""
    bus, breaker = AsyncMock(spec=KafkaBus), CircuitBreaker(failure_threshold=1, name="svc.kafka_producer")
    publisher = ResilientKafkaPublisher(bus, breaker)
    assert (publisher.delegate, publisher.circuit_breaker) == (bus, breaker)
    breaker.state, breaker.last_failure_time = CircuitBreakerState.OPEN, datetime.now()  # noqa: DTZ005
    await publisher.publish("t", envelope(), "k")
    assert (publisher.get_fallback_queue_size(), bus.publish.await_count) == (1, 0)
    breaker.reset()
    await publisher._process_queued_messages()
    assert (publisher.get_fallback_queue_size(), bus.publish.await_count) == (0, 1)
    breaker.state, breaker.last_failure_time = CircuitBreakerState.OPEN, datetime.now()  # noqa: DTZ005
    await publisher.publish("t", envelope(), "k")
    assert await publisher.fallback_handler.clear_queue() == 1
    assert publisher.get_fallback_queue_size() == 0


@pytest.mark.contract("17-breaker-state")
async def test_a_state_and_a_naive_time() -> None:
    """Blocked while the assigned failure is fresh, tried when it is old."""
    breaker = CircuitBreaker(recovery_timeout=timedelta(seconds=30), success_threshold=1)
    breaker.state, breaker.last_failure_time = CircuitBreakerState.OPEN, datetime.now()  # noqa: DTZ005
    work = AsyncMock(return_value=1)
    with pytest.raises(CircuitBreakerError):
        await breaker.call(work)
    work.assert_not_called()
    breaker.last_failure_time = datetime.now() - timedelta(seconds=31)  # noqa: DTZ005
    assert (await breaker.call(work), breaker.state) == (1, CircuitBreakerState.CLOSED)


@pytest.mark.contract("17-outbox-settings", "17-worker-metrics")
def test_settings_and_metrics_of_a_relay() -> None:
    """Assigned afterwards they count; metrics are there or `None`; fakes of any kind are enough."""
    for enabled, kind in ((True, OutboxMetrics), (False, type(None))):
        settings = OutboxSettings(enable_metrics=enabled)
        settings.poll_interval_seconds = 0.1
        worker = EventRelayWorker(
            outbox_repository=Mock(), kafka_bus=Mock(), settings=settings, service_name="contract-svc"
        )
        assert worker.settings.poll_interval_seconds == 0.1
        assert isinstance(worker.metrics, kind)


@pytest.mark.contract("17-manager-repository")
async def test_the_parts_of_a_manager() -> None:
    """The repository given can be read, is called by keyword, and one token wakes the relay."""
    repository, redis = AsyncMock(), AsyncMock(spec=AtomicRedisClientProtocol)
    outbox_manager = OutboxManager(outbox_repository=repository, redis_client=redis, service_name="svc")
    assert outbox_manager.outbox_repository is repository
    await outbox_manager.publish_to_outbox(
        aggregate_type="essay", aggregate_id="a-1", event_type="e.v1", event_data=envelope(), topic="t"
    )
    keywords = repository.add_event.call_args.kwargs
    assert (keywords["aggregate_id"], keywords["aggregate_type"], keywords["topic"]) == ("a-1", "essay", "t")
    redis.lpush.assert_called_once_with("outbox:wake:svc", "wake")


@pytest.mark.integration
@pytest.mark.contract("17-redis-started")
async def test_whether_a_redis_client_has_started(redis_url: str) -> None:
    """`_started` is False before the start, True after it, False again after the stop."""
    client = RedisClient(client_id="contract", redis_url=redis_url)
    found = [client._started]
    await client.start()
    found.append(client._started)
    await client.stop()
    assert ([*found, client._started], client.client_id) == ([False, True, False], "contract")


@pytest.mark.integration
@pytest.mark.contract("17-redis-flushdb")
async def test_the_raw_redis_client(redis_url: str, redis_prefix: str) -> None:
    """`client` is the driver's: what it flushes is gone. In a database of its own, since others use the server."""
    own = urlsplit(redis_url)._replace(path="/9").geturl()
    client = RedisClient(client_id="contract", redis_url=own)
    await client.start()
    try:
        await client.setex(f"{redis_prefix}k", 60, "v")
        assert await client.client.get(f"{redis_prefix}k") == "v"
        await client.client.flushdb()
        assert await client.get(f"{redis_prefix}k") is None
    finally:
        await client.stop()


@pytest.mark.contract("17-span-of-an-error")
def test_the_span_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider that a suite installs is used at once, and an error on its span says all of it."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    with pytest.raises(HuleEduError), trace.get_tracer("svc").start_as_current_span("operation"):
        raise_processing_error(service="svc", operation="op", message="broke", correlation_id=ID, essay_id="e-1")
    (span,) = exporter.get_finished_spans()
    types_of = [(event.attributes or {})["exception.type"] for event in span.events]
    assert "huleedu_service_libs.error_handling.huleedu_error.HuleEduError" in types_of
    assert span.status.status_code is StatusCode.ERROR
    attributes = dict(span.attributes or {})
    expected = {
        "error": True,
        "error.code": "PROCESSING_ERROR",
        "error.message": "broke",
        "error.service": "svc",
        "error.operation": "op",
        "error.details.essay_id": "e-1",
        "correlation_id": str(ID),
    }
    assert expected.items() <= attributes.items()


@pytest.mark.contract("17-identity-status")
async def test_what_identity_answers_with() -> None:
    """400 for want of a status, and the dump is an answer."""
    detail = create_error_detail_with_context(ErrorCode.TIMEOUT, "late", "svc", "op", ID, {"a": 1})
    assert getattr(detail, "status_code", 400) == 400
    async with Quart("x").app_context():
        body = await jsonify({"error": detail.model_dump()}).get_json()
    assert (body["error"]["error_code"], body["error"]["correlation_id"]) == ("TIMEOUT", str(ID))


@pytest.mark.contract("17-redis-doubles")
async def test_a_redis_double_of_an_event_that_was_done() -> None:
    """Looked up once; neither claimed nor confirmed again, and the handler does not run."""
    done = json.dumps({"status": "completed"})
    redis: Any = types.SimpleNamespace(
        get=AsyncMock(return_value=done),
        set_if_not_exists=AsyncMock(return_value=False),
        setex=AsyncMock(),
        delete_key=AsyncMock(),
    )
    handler, ran = confirming(redis)
    assert await handler(message(headers=[])) is None
    assert (ran.call_count, redis.get.await_count, redis.setex.await_count) == (0, 1, 0)
    redis.delete_key.assert_not_called()


EMPTIED = """
import asyncio, sys
from prometheus_client import REGISTRY, generate_latest

import httpx
from fastapi import FastAPI
from quart import Quart
from huleedu_service_libs.database import DatabaseMetrics
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware as of_fastapi,
)
from huleedu_service_libs.metrics_middleware import setup_standard_service_metrics_middleware as of_quart
from huleedu_service_libs.outbox.monitoring import OutboxMetrics


async def once() -> None:
    fastapi = FastAPI()
    fastapi.get("/x")(lambda: "x")
    of_fastapi(fastapi, "svc")
    quart = Quart("svc")
    quart.get("/x")(lambda: "x")
    of_quart(quart, "svc")
    for app in (fastapi, quart):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t") as http:
            assert (await http.get("/x")).status_code == 200
    metrics = DatabaseMetrics("svc")
    metrics.record_connection_acquired(1, 0)
    metrics.record_query_duration("select", "t", 0.1)
    OutboxMetrics("svc").increment_published_events("e")


for _ in range(3):
    asyncio.run(once())
    text = generate_latest().decode()
    for wanted in ("svc_http_requests_total", "svc_database_connections_acquired_total"):
        assert wanted in text, wanted
    for collector in list(REGISTRY._collector_to_names):
        REGISTRY.unregister(collector)
    assert generate_latest() == b""
"""


@pytest.mark.contract("17-emptied-registry")
def test_an_emptied_registry() -> None:
    """In an interpreter of its own: set up, used and emptied three times, without an error, and exposed each time."""
    run = subprocess.run([sys.executable, "-c", EMPTIED], capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    assert run.returncode == 0, run.stderr


class _Double(AtomicRedisClientProtocol):
    """As one service writes it."""

    called: tuple[str, ...] = ()

    async def get(self, key: str) -> str | None:
        return None

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        return True

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        return True

    async def lpush(self, key: str, *values: str) -> int:
        return 1

    async def watch(self, *keys: str) -> bool:
        raise AssertionError("watch was called")

    multi = exec = unwatch = watch


@pytest.mark.contract("17-protocol-double")
async def test_a_double_that_subclasses_the_protocol() -> None:
    """It can be made, and serves idempotency and outbox, which do without its own four methods."""
    double: type[Any] = _Double  # a type checker would ask for every method; services do not
    redis = double()
    handler, ran = confirming(redis)
    assert await handler(message(headers=[])) == "done"
    ran.assert_called_once()
    repository = MagicMock(add_event=AsyncMock())
    await OutboxManager(repository, redis, "svc").publish_to_outbox(
        aggregate_type="essay", aggregate_id="a", event_type="e", event_data=envelope(), topic="t"
    )
    repository.add_event.assert_awaited_once()
