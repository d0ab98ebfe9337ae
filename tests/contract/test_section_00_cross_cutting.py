"""The rules that hold for the whole contract: loggers, types, and doubles built in three ways."""

import asyncio
import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, create_autospec
from uuid import UUID, uuid4

import pytest
from dishka import Provider, Scope, make_async_container

from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig, idempotent_consumer
from huleedu_service_libs.kafka.resilient_kafka_bus import ResilientKafkaPublisher
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.outbox import EventRelayWorker, OutboxRepositoryProtocol, OutboxSettings
from huleedu_service_libs.outbox.manager import OutboxManager
from huleedu_service_libs.protocols import AtomicRedisClientProtocol, KafkaPublisherProtocol, RedisClientProtocol
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.resilience import CircuitBreaker
from tests.contract.consuming import message

NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("names.json").read_text())
CLASSES = [
    (module, name) for module, names in NAMES.items() for name in names if name[0].isupper() and not name.isupper()
]
SPECS = [
    ("protocols", "AtomicRedisClientProtocol"),
    ("kafka_client", "KafkaBus"),
    ("outbox.manager", "OutboxManager"),
    ("outbox.protocols", "OutboxRepositoryProtocol"),
    ("protocols", "KafkaPublisherProtocol"),
    ("protocols", "RedisClientProtocol"),
    ("database.metrics", "DatabaseMetricsProtocol"),
    ("database.metrics", "DatabaseMetrics"),
    ("outbox.monitoring", "OutboxMetrics"),
    ("redis_set_operations", "RedisSetOperations"),
]
CALLED_WITH_KEYWORDS = {
    ("kafka_client", "KafkaBus"): "client_id bootstrap_servers",
    ("redis_client", "RedisClient"): "client_id redis_url",
    (
        "resilience",
        "CircuitBreaker",
    ): "name failure_threshold recovery_timeout success_threshold expected_exception metrics service_name",
    ("outbox.manager", "OutboxManager"): "outbox_repository redis_client service_name",
    ("outbox.relay", "EventRelayWorker"): "outbox_repository kafka_bus settings service_name redis_client event_mapper",
    ("idempotency_v2", "IdempotencyConfig"): "service_name event_type_ttls default_ttl key_prefix enable_debug_logging",
    ("idempotency_v2", "idempotent_consumer"): "redis_client config",
    (
        "outbox.manager",
        "OutboxManager.publish_to_outbox",
    ): "self aggregate_type aggregate_id event_type event_data topic message_key headers session",
    ("error_handling", "raise_validation_error"): "service operation field message correlation_id value",
    ("error_handling", "raise_processing_error"): "service operation message correlation_id anything_else",
    (
        "error_handling",
        "raise_external_service_error",
    ): "service operation external_service message correlation_id status_code",
}


def _thing(module: str, path: str) -> Any:
    found: Any = importlib.import_module(f"huleedu_service_libs.{module}")
    for part in path.split("."):
        found = getattr(found, part)
    return found


# Loggers and types


@pytest.mark.contract("0-logger-before-configuration")
def test_a_logger_before_any_configuration() -> None:
    """In a fresh process, at import time: made and used, at every level, without an error."""
    code = """
from huleedu_service_libs.logging_utils import create_service_logger
logger = create_service_logger("service.module")
for name in ("debug", "info", "warning", "error", "critical"):
    getattr(logger, name)("early", essay_id="e-1")
try:
    raise ValueError("odd")
except ValueError:
    logger.exception("early")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert "early" in done.stdout + done.stderr


@pytest.mark.contract("0-plain-types")
@pytest.mark.parametrize(("module", "name"), CLASSES)
def test_classes_are_plain_types(module: str, name: str) -> None:
    """A class, hashable, that pickles and imports by its name: what a container takes as a key."""
    found = getattr(importlib.import_module(module), name)
    assert inspect.isclass(found)
    assert {found: 1}[found] == 1
    assert getattr(importlib.import_module(found.__module__), found.__qualname__) is found


@pytest.mark.contract("0-dishka-keys")
async def test_a_container_binds_clients_to_ports() -> None:
    """The concrete client is made once, and is had by its own name and by the port's."""
    provider = Provider(scope=Scope.APP)
    provider.provide(lambda: KafkaBus(client_id="svc", bootstrap_servers="b:1"), provides=KafkaBus)
    provider.alias(source=KafkaBus, provides=KafkaPublisherProtocol)
    provider.provide(lambda: RedisClient(client_id="svc", redis_url="redis://r:1"), provides=AtomicRedisClientProtocol)
    provider.alias(source=AtomicRedisClientProtocol, provides=RedisClientProtocol)
    container = make_async_container(provider)
    port: Any = KafkaPublisherProtocol
    assert await container.get(port) is await container.get(KafkaBus)
    redis: Any = AtomicRedisClientProtocol
    assert isinstance(await container.get(redis), RedisClient)
    await container.close()


# Doubles


@pytest.mark.contract("0-spec-classes")
@pytest.mark.parametrize(("module", "name"), SPECS, ids=[name for _, name in SPECS])
def test_methods_are_functions(module: str, name: str) -> None:
    """Functions of a class, with parameters of their own instead of ``*args, **kwargs``; a mock knows which are awaited."""
    found, double = _thing(module, name), AsyncMock(spec=_thing(module, name))
    methods = {n: inspect.getattr_static(found, n) for n in dir(found) if not n.startswith("_")}
    methods = {n: m for n, m in methods.items() if callable(m)}
    assert methods
    for n, method in methods.items():
        assert inspect.isfunction(method), f"{name}.{n} is a {type(method).__name__}"
        kinds = [one.kind for one in inspect.signature(method).parameters.values()]
        assert inspect.Parameter.VAR_KEYWORD not in kinds, f"{name}.{n} takes any keyword"
        assert isinstance(getattr(double, n), AsyncMock) == inspect.iscoroutinefunction(method), n


@pytest.mark.contract("0-autospec")
async def test_autospec_of_the_manager() -> None:
    """The double takes what the real method takes, and refuses what it refuses."""
    double = create_autospec(OutboxManager, instance=True)
    given = {"aggregate_type": "a", "aggregate_id": "1", "event_type": "e", "event_data": None, "topic": "t"}
    await double.publish_to_outbox(**given)
    double.publish_to_outbox.assert_awaited_once_with(**given)
    with pytest.raises(TypeError):
        double.publish_to_outbox(**given, partition="p")


@pytest.mark.contract("0-keywords")
@pytest.mark.parametrize(("place", "keywords"), CALLED_WITH_KEYWORDS.items(), ids=str)
def test_everything_can_be_given_by_keyword(place: tuple[str, str], keywords: str) -> None:
    """The names of the parameters are the contract."""
    inspect.signature(_thing(*place)).bind(**dict.fromkeys(keywords.split()))


@pytest.mark.contract("0-doubles-spec", "0-doubles-subclass", "0-doubles-by-hand")
async def test_doubles_are_made_in_three_ways() -> None:
    """`AsyncMock(spec=...)`, a class with some methods, and a subclass of the port that overrides only one."""

    class Double(AtomicRedisClientProtocol):
        async def get(self, key: str) -> str | None:
            return key

    double = Double()  # type: ignore[abstract]  # for mypy, whatever has no body
    mock = AsyncMock(spec=AtomicRedisClientProtocol)
    mock.get.return_value = "a"
    mock.get_user_channel.return_value = "ws:u"
    assert (await mock.get("a"), mock.get_user_channel("u"), await double.get("b")) == ("a", "ws:u", "b")
    assert await double.lpush("k", "v") is None


class _Redis:
    """By hand: what manager, relay and decorator need, and no more."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, ...]] = []

    async def lpush(self, key: str, *values: str) -> int:
        self.pushed.append((key, *values))
        return 1

    async def blpop(self, keys: list[str], timeout: float) -> tuple[str, str] | None:  # noqa: ASYNC109  # the port's
        await asyncio.sleep(min(timeout, 0.01))
        return None

    async def get(self, key: str) -> str | None:
        return None

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        return True

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        return True

    async def delete_key(self, key: str) -> int:
        return 1


class _SubclassedRedis(_Redis, AtomicRedisClientProtocol):
    """By inheritance: the rest is the port's."""

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[Any]:
        @asynccontextmanager
        async def nothing() -> AsyncIterator[None]:
            yield

        return nothing()


class _Kafka:
    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.client_id, self.bootstrap_servers = "svc", "b:1"

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def publish(
        self, topic: str, envelope: Any, key: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.published.append({"topic": topic, "envelope": envelope, "key": key, "headers": headers})


class _SubclassedKafka(_Kafka, KafkaPublisherProtocol):
    pass


class _Row:
    """An event as hand-written repositories make it."""

    def __init__(self, **fields: Any) -> None:
        self.id, self.retry_count, self.created_at, self.published_at, self.last_error = uuid4(), 0, None, None, None
        self.__dict__.update(fields)


class _Repository:
    def __init__(self) -> None:
        self.rows: dict[UUID, Any] = {}

    async def add_event(self, *, session: Any, **fields: Any) -> UUID:
        row = _Row(**fields)
        self.rows[row.id] = row
        return row.id

    async def get_unpublished_events(self, limit: int = 100) -> list[Any]:
        return [row for row in self.rows.values() if row.published_at is None][:limit]

    async def mark_event_published(self, event_id: UUID) -> None:
        self.rows[event_id].published_at = "now"

    async def mark_event_failed(self, event_id: UUID, error: str) -> None: ...

    async def increment_retry_count(self, event_id: UUID, error: str) -> None: ...

    async def get_event_by_id(self, event_id: UUID) -> Any:
        return self.rows.get(event_id)


class _SubclassedRepository(_Repository, OutboxRepositoryProtocol):  # type: ignore[misc]  # fewer parameters by name
    pass


@pytest.mark.contract("0-only-port-methods", "0-doubles-by-hand", "0-doubles-subclass")
@pytest.mark.parametrize(
    ("redis", "kafka", "repository"),
    [(_Redis(), _Kafka(), _Repository()), (_SubclassedRedis(), _SubclassedKafka(), _SubclassedRepository())],  # type: ignore[abstract]
    ids=["by hand", "subclasses"],
)
async def test_the_library_needs_only_what_the_ports_list(redis: Any, kafka: Any, repository: Any) -> None:
    """An event's whole way, from the manager over the relay to a consumer, over doubles that have nothing else."""
    envelope: EventEnvelope[Any] = EventEnvelope(event_type="e.v1", source_service="svc", data={"text": "å"})
    manager = OutboxManager(outbox_repository=repository, redis_client=redis, service_name="svc")
    await manager.publish_to_outbox(
        aggregate_type="essay", aggregate_id="a-1", event_type="e.v1", event_data=envelope, topic="t"
    )
    assert redis.pushed[0] == ("outbox:wake:svc", "wake")
    publisher = ResilientKafkaPublisher(kafka, CircuitBreaker(name="b"))
    worker = EventRelayWorker(
        outbox_repository=repository,
        kafka_bus=publisher,
        settings=OutboxSettings(poll_interval_seconds=0.05),
        service_name="svc",
        redis_client=redis,
    )
    await publisher.start()
    await worker.start()
    async with asyncio.timeout(20):
        while not kafka.published:
            await asyncio.sleep(0.01)
    await worker.stop()
    await publisher.stop()
    (sent,) = kafka.published
    assert (sent["topic"], sent["envelope"].data) == ("t", {"text": "å"})

    @idempotent_consumer(redis_client=redis, config=IdempotencyConfig("svc"))
    async def handle(msg: Any, *, confirm_idempotency: Any) -> bool:
        await confirm_idempotency()
        return True

    assert await handle(message(sent["envelope"].model_dump(mode="json"))) is True
