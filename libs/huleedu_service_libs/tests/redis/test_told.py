"""What the client tells of its commands: metrics and spans, on a real server."""

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from prometheus_client import REGISTRY
from redis.exceptions import ResponseError

from huleedu_service_libs.redis_client import PipeliningConfig, RedisClient, RedisClientConfig, ReplyLostError
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

pytestmark = pytest.mark.integration


def _value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"huleedu_redis_{name}", labels) or 0.0


async def test_commands_and_batches_are_counted(redis_url: str, redis_prefix: str) -> None:
    """Each reply has its duration, each write its size, and a connection is counted once."""
    async with RedisClient(client_id="counted", redis_url=redis_url) as client:
        await asyncio.gather(*(client.get(f"{redis_prefix}{n}") for n in range(50)))
        await client.setex(f"{redis_prefix}k", 60, "v")
    assert _value("command_duration_seconds_count", client_id="counted", command="GET") == 50
    assert _value("command_duration_seconds_count", client_id="counted", command="SET") == 1
    assert 0 < _value("command_duration_seconds_sum", client_id="counted", command="GET") < 500
    assert _value("batch_commands_sum", client_id="counted") == 52  # with the ping of the start
    assert _value("batch_commands_count", client_id="counted") < 10
    assert _value("pipelining_connections_total", client_id="counted", kind="first") == 1
    assert _value("pipelining_connections_total", client_id="counted", kind="again") == 0


async def test_errors_lost_replies_and_reconnects_are_counted(redis_url: str, redis_prefix: str) -> None:
    """By kind of error, by what became of the command, and each new connection."""
    async with FaultProxy(redis_url) as proxy, RedisClient(client_id="unlucky", redis_url=proxy.url) as client:
        await client.setex(f"{redis_prefix}text", 60, "v")
        with pytest.raises(ResponseError):
            await client.sadd(f"{redis_prefix}text", "m")
        proxy.lose_replies(to=b"\r\nGET\r\n")
        assert await client.get(f"{redis_prefix}text") == "v"
        proxy.lose_replies(to=b"\r\nSADD\r\n")
        with pytest.raises(ReplyLostError):
            await client.sadd(f"{redis_prefix}set", "m")
        await client.ping()
    labels = {"client_id": "unlucky", "operation": "sadd"}
    assert _value("client_errors_total", **labels, error="ReplyLostError") == 1
    assert _value("client_errors_total", **labels, error="ResponseError") == 1
    assert _value("replies_lost_total", client_id="unlucky", outcome="repeated") == 1
    assert _value("replies_lost_total", client_id="unlucky", outcome="told") == 1
    assert _value("pipelining_connections_total", client_id="unlucky", kind="again") == 2


@pytest.fixture(name="spans")
def _spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", provider)
    return exporter


async def test_commands_have_spans_inside_a_recorded_one(
    client: RedisClient, redis_prefix: str, spans: InMemorySpanExporter
) -> None:
    """Each with the conventions' attributes and its outcome; keys and values are in none, and nobody records outside."""
    tracer = TracerProvider().get_tracer("test")
    await client.get(f"{redis_prefix}outside")
    with tracer.start_as_current_span("request") as parent:
        await client.setex(f"{redis_prefix}hemlig", 60, "hemlig")
        with pytest.raises(ResponseError):
            await client.sadd(f"{redis_prefix}hemlig", "m")
        await client.set_if_not_exists(f"{redis_prefix}hemlig", "v", 60)
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["SET", "SADD", "set_if_not_exists"]
    assert all(span.kind is SpanKind.CLIENT for span in found)
    assert all(span.parent is not None and span.parent.span_id == parent.get_span_context().span_id for span in found)
    assert [span.status.status_code for span in found] == [StatusCode.UNSET, StatusCode.ERROR, StatusCode.UNSET]
    attributes = dict(found[1].attributes or {})
    assert attributes["db.system.name"] == "redis"
    assert attributes["db.operation.name"] == "SADD"
    assert attributes["error.type"] == "ResponseError"
    assert {"server.address", "server.port", "db.namespace"} <= set(attributes)
    assert "hemlig" not in "".join(span.to_json() for span in found)


async def test_spans_can_be_switched_off(redis_url: str, spans: InMemorySpanExporter) -> None:
    """By a setting, without a span left."""
    config = RedisClientConfig(spans=False)
    async with RedisClient(client_id="quiet", redis_url=redis_url, config=config) as client:
        with TracerProvider().get_tracer("test").start_as_current_span("request"):
            await client.get("k")
    assert spans.get_finished_spans() == ()


async def test_a_dead_idle_connection_is_replaced_before_it_is_needed(redis_url: str, redis_prefix: str) -> None:
    """An idle connection is asked now and then; one that does not answer is cut, and the next command meets a new one."""
    config = RedisClientConfig(
        health_interval_s=0.1, socket_timeout_s=0.3, pipelining=PipeliningConfig(first_delay_s=0.01)
    )
    async with (
        FaultProxy(redis_url) as proxy,
        RedisClient(client_id="idle", redis_url=proxy.url, config=config) as client,
    ):
        proxy.lose_replies(to=b"\r\nPING\r\n", hang=True)
        async with asyncio.timeout(20):
            while client._executor._line is not None:
                await asyncio.sleep(0.01)
        assert await client.rpush(f"{redis_prefix}l", "x") == 1
        assert await client.expire(f"{redis_prefix}l", 60)
