"""Section 18: names of the architecture rule stand beside those in use, and do the same."""

import inspect
from contextlib import suppress
from typing import Any
from unittest.mock import AsyncMock, Mock
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry, Counter
from quart import Quart
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import WatchError

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.database import DatabaseHealthChecker, DatabaseMetricsProtocol, query_performance_tracker
from huleedu_service_libs.error_handling import ErrorContext, HuleEduError, raise_resource_not_found
from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.metrics_middleware import setup_standard_service_metrics_middleware
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware as setup_fastapi,
)
from huleedu_service_libs.outbox import EventOutbox, EventRelayWorker
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerError, StandardCircuitBreakerMetrics
from tests.contract.consuming import confirming, message
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

COLUMNS = "id aggregate_id aggregate_type event_type event_data event_key topic created_at published_at retry_count last_error"


@pytest.mark.parametrize("wanted", signatures(18), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Both names have the same parameters."""
    assert wanted.faults() == []


@pytest.mark.contract("18-publish-event")
async def test_another_name_for_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same call, by either name."""
    publish = AsyncMock()
    monkeypatch.setattr(KafkaBus, "publish", publish)
    event: EventEnvelope[Any] = EventEnvelope(event_type="e", source_service="s", data={})
    await KafkaBus(client_id="svc").publish_event("t", event, key="k", headers={"a": "b"})
    publish.assert_awaited_once()
    call: Any = publish.await_args
    names = ("topic", "envelope", "key", "headers")
    given = dict(zip(names, [one for one in call.args if not isinstance(one, KafkaBus)], strict=False)) | call.kwargs
    assert given == {"topic": "t", "envelope": event, "key": "k", "headers": {"a": "b"}}


@pytest.mark.integration
@pytest.mark.contract("18-transaction", "18-pipeline-still-there")
async def test_an_optimistic_transaction(redis_url: str, redis_prefix: str) -> None:
    """All of it, or nothing when somebody else was faster; the pipeline is still there for who wants that."""
    client: Any = RedisClient(client_id="contract", redis_url=redis_url)  # the driver types only a part of it
    key = f"{redis_prefix}k"
    await client.start()
    try:
        async with client.watch(key) as transaction:
            transaction.multi()
            transaction.setex(key, 60, "ours")
            await client.exec(transaction)
        assert await client.get(key) == "ours"

        async def overtaken() -> None:
            async with client.watch(key) as transaction:
                await client.setex(key, 60, "theirs")
                transaction.multi()
                transaction.setex(key, 60, "too late")
                await client.exec(transaction)

        with pytest.raises(WatchError):
            await overtaken()
        assert await client.get(key) == "theirs"
        pipeline: Any = await client.create_transaction_pipeline(key)
        pipeline.multi()
        pipeline.set(key, "by pipeline")
        await pipeline.execute()
        assert await client.get(key) == "by pipeline"
    finally:
        await client.stop()


@pytest.mark.contract("18-transaction-not-in-the-port")
def test_the_port_has_not_grown() -> None:
    """Doubles of services stay complete."""
    for name in ("watch", "multi", "exec"):
        assert callable(getattr(RedisClient, name))
        assert not hasattr(AtomicRedisClientProtocol, name)


@pytest.mark.contract("18-http-labels", "18-own-label-names")
async def test_labels_of_http_metrics(unique_name: str) -> None:
    """Ours carry the rule's three labels; a service's own collector keeps its names."""
    registry, own = CollectorRegistry(), CollectorRegistry()
    fastapi = FastAPI()
    fastapi.get("/x")(lambda: "x")
    setup_fastapi(fastapi, unique_name, registry)
    quart = Quart("x")
    quart.get("/x")(lambda: "x")
    setup_standard_service_metrics_middleware(quart, unique_name)
    quart.extensions["metrics"] = {
        "request_count": Counter("own", "d", ["method", "endpoint", "http_status"], registry=own)
    }
    apps: tuple[Any, ...] = (fastapi, quart)
    for app in apps:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t") as http:
            assert (await http.get("/x")).status_code == 200
    ours = [
        sample.labels
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith("request_duration_seconds_count") and "status" in sample.labels
    ]
    assert [(one["method"], one["endpoint"], one["status"]) for one in ours] == [("GET", "/x", "200")]
    labels = {"method": "GET", "endpoint": "/x", "http_status": "200"}
    assert own.get_sample_value("own_total", labels) == 1


@pytest.mark.contract("18-standard-metrics")
async def test_metrics_of_breakers_with_collectors_of_their_own() -> None:
    """Calls by result, the state as a number, and the change."""
    registry = CollectorRegistry()
    metrics = StandardCircuitBreakerMetrics(registry)
    breaker = CircuitBreaker(failure_threshold=1, name="b", service_name="svc", metrics=metrics)
    await breaker.call(AsyncMock())
    for _ in range(2):
        with suppress(KeyError, CircuitBreakerError):
            await breaker.call(AsyncMock(side_effect=KeyError))
    labels = {"service": "svc", "circuit_name": "b"}
    calls = [
        registry.get_sample_value("circuit_breaker_calls_total", {**labels, "result": result})
        for result in ("success", "failure", "blocked")
    ]
    assert (calls, registry.get_sample_value("circuit_breaker_state", labels)) == ([1, 1, 1], 1)
    change = {**labels, "from_state": "closed", "to_state": "open"}
    assert registry.get_sample_value("circuit_breaker_state_changes_total", change) == 1


@pytest.mark.contract("18-error-context")
def test_the_context_of_an_error() -> None:
    """What is running, captured, and handed to a factory."""
    with TracerProvider().get_tracer("t").start_as_current_span("work") as span:
        context = ErrorContext.current(service="svc", operation="op", error=KeyError("k"))
    ids = span.get_span_context()
    assert (context.trace_id, context.span_id) == (f"{ids.trace_id:032x}", f"{ids.span_id:016x}")
    assert (context.service, context.operation, context.causes[0].type) == ("svc", "op", "KeyError")
    assert isinstance(context.correlation_id, UUID)
    with pytest.raises(HuleEduError) as caught:
        raise_resource_not_found(resource_type="Essay", resource_id="1", **context.arguments())
    detail = caught.value.error_detail
    assert (detail.correlation_id, detail.trace_id, detail.service) == (
        context.correlation_id,
        context.trace_id,
        "svc",
    )


@pytest.mark.contract("18-health-checker-kept")
async def test_a_checker_for_the_application_or_for_a_request() -> None:
    """Both answer alike, request after request."""
    engine = Mock(spec=["begin", "dispose", "pool"])
    engine.begin.side_effect = ConnectionError("away")
    kept = DatabaseHealthChecker(engine, "svc")
    for _ in range(2):
        answers = [await one.get_health_summary() for one in (kept, DatabaseHealthChecker(engine, "svc"))]
        assert [one["status"] for one in answers] == ["unhealthy", "unhealthy"]
        assert set(answers[0]) == set(answers[1])


@pytest.mark.contract("18-tracker-without-table")
@pytest.mark.parametrize("table", [(), ("essays",)])
async def test_the_tracker(table: tuple[str, ...]) -> None:
    """With a table under its name, without one all the same."""
    metrics = Mock(spec=DatabaseMetricsProtocol)

    @query_performance_tracker(metrics, "select", *table)
    async def find() -> int:
        return 7

    assert await find() == 7
    keywords = metrics.record_query_duration.call_args.kwargs
    assert keywords["operation"] == "select"
    assert keywords["table"] == "essays" if table else isinstance(keywords["table"], str)


@pytest.mark.contract("18-eleven-columns")
def test_columns_of_the_outbox() -> None:
    """There are eleven, in this order and of these names."""
    assert [column.name for column in EventOutbox.__table__.columns] == COLUMNS.split()


@pytest.mark.contract("18-fail-open", "18-deterministic-ids")
async def test_idempotency() -> None:
    """With Redis away the handler runs; equal content has one id."""
    redis = AsyncMock(spec=AtomicRedisClientProtocol)
    for name in ("get", "set_if_not_exists", "setex", "delete_key", "ping"):
        getattr(redis, name).side_effect = RedisConnectionError("away")
    handle, ran = confirming(redis)
    body = b'{"event_id": "1", "event_type": "e.v1", "data": {"a": 1}}'
    assert await handle(message(body, headers=[])) == "done"
    ran.assert_called_once()
    spaced = b'{"data": {"a": 1},  "event_type": "other", "event_id": "1"}'
    assert generate_deterministic_event_id(body) == generate_deterministic_event_id(spaced)
    assert generate_deterministic_event_id(body) != generate_deterministic_event_id(body.replace(b"1}", b"2}"))


@pytest.mark.integration
@pytest.mark.contract("18-user-notification", "21-redis-names")
async def test_notifications_and_claims(redis_url: str, redis_prefix: str) -> None:
    """The channel of the user, and a key that only the first one sets."""
    client = RedisClient(client_id="contract", redis_url=redis_url)
    await client.start()
    try:
        assert client.get_user_channel("u-1") == "ws:u-1"
        async with client.subscribe("ws:u-1") as channel:
            await client.publish_user_notification(user_id="u-1", event_type="graded", data={"grade": "A"})
            message = None
            for _ in range(50):
                message = await channel.get_message(ignore_subscribe_messages=True, timeout=0.2)
                if message:
                    break
        assert message is not None
        assert "graded" in message["data"]
        first, second = [await client.set_if_not_exists(f"{redis_prefix}k", "v", ttl_seconds=60) for _ in range(2)]
        assert (first, second) == (True, False)
    finally:
        await client.stop()


@pytest.mark.contract("18-start-stop")
@pytest.mark.parametrize("kind", [KafkaBus, RedisClient, QueueRedisClient, ResilientKafkaPublisher, EventRelayWorker])
def test_lifecycles(kind: Any) -> None:
    """Coroutine methods that ask for nothing."""
    for name in ("start", "stop"):
        method = getattr(kind, name)
        assert inspect.iscoroutinefunction(method)
        assert [
            one
            for one in list(inspect.signature(method).parameters.values())[1:]
            if one.default is inspect.Parameter.empty
        ] == []
