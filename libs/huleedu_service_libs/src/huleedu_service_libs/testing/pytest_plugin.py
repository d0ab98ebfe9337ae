"""Pytest fixtures that hand out real servers; registered as a plugin, so no import is needed.

Nothing is started before a test asks for it, and each server once a session.
A test whose server cannot be had on this machine is skipped with the reason;
with ``CI=true`` it fails. The fixtures know nothing of the library's clients.
"""

import os
from collections.abc import Callable, Iterator
from typing import NoReturn, Protocol, TypeVar, cast
from uuid import uuid4

import pytest

from huleedu_service_libs.testing.devstack.errors import ServiceUnavailableError
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import (
    KafkaServer,
    PostgresServer,
    RedisNodesServer,
    RedisServer,
    RedisTlsServer,
)
from huleedu_service_libs.testing.devstack.stack import DevStack

__all__ = ["TopicFactory"]

T = TypeVar("T")


class TopicFactory(Protocol):
    """Creates topics; works in tests with and without a running event loop."""

    def __call__(self, name: str = "test", partitions: int = 1) -> str:
        """Create a topic whose name starts with ``name`` and is used by nobody else.

        Returns:
            The whole name.
        """


@pytest.fixture(scope="session", name="devstack")
def _devstack() -> Iterator[DevStack]:
    """The session's servers; ``devstack.provide("redis")`` starts one."""
    with DevStack(services=()) as stack:
        yield stack


@pytest.fixture(scope="session", name="postgres_server")
def _postgres_server(devstack: DevStack) -> PostgresServer:
    """The session's PostgreSQL; take ``postgres_database`` unless the test stops or restarts it."""
    return cast("PostgresServer", _or_skip(lambda: devstack.provide("postgres")))


@pytest.fixture(scope="session", name="redis_server")
def _redis_server(devstack: DevStack) -> RedisServer:
    """The session's Redis."""
    return cast("RedisServer", _or_skip(lambda: devstack.provide("redis")))


@pytest.fixture(scope="session", name="redis_cluster")
def _redis_cluster(devstack: DevStack) -> RedisNodesServer:
    """The session's Redis Cluster of three primaries."""
    return cast("RedisNodesServer", _or_skip(lambda: devstack.provide("redis_cluster")))


@pytest.fixture(scope="session", name="redis_sentinel")
def _redis_sentinel(devstack: DevStack) -> RedisNodesServer:
    """The session's primary (node 0) and replica (node 1), watched by three Sentinels."""
    return cast("RedisNodesServer", _or_skip(lambda: devstack.provide("redis_sentinel")))


@pytest.fixture(scope="session", name="redis_tls")
def _redis_tls(devstack: DevStack) -> RedisTlsServer:
    """The session's Redis behind TLS that wants a client certificate; ``redis_tls.certificates`` has the files."""
    return cast("RedisTlsServer", _or_skip(lambda: devstack.provide("redis_tls")))


@pytest.fixture(scope="session", name="redis_cluster_tls")
def _redis_cluster_tls(devstack: DevStack) -> RedisNodesServer:
    """As ``redis_cluster``, behind TLS that wants a client certificate; ``certificates`` has the files."""
    return cast("RedisNodesServer", _or_skip(lambda: devstack.provide("redis_cluster_tls")))


@pytest.fixture(scope="session", name="redis_sentinel_tls")
def _redis_sentinel_tls(devstack: DevStack) -> RedisNodesServer:
    """As ``redis_sentinel``, all five behind TLS that wants a client certificate; ``certificates`` has the files."""
    return cast("RedisNodesServer", _or_skip(lambda: devstack.provide("redis_sentinel_tls")))


@pytest.fixture(scope="session", name="kafka_server")
def _kafka_server(devstack: DevStack) -> KafkaServer:
    """The session's Kafka, one node."""
    return cast("KafkaServer", _or_skip(lambda: devstack.provide("kafka")))


@pytest.fixture(scope="session", name="real_kafka")
def _real_kafka(kafka_server: KafkaServer) -> KafkaServer:
    """The session's Kafka when it serves idempotent producers; otherwise the test is skipped."""
    if not kafka_server.supports_idempotent_producer:
        _unavailable(f"needs a broker that serves idempotent producers, this one is {kafka_server.label}")
    return kafka_server


@pytest.fixture(scope="session", name="postgres_template")
def _postgres_template() -> str | None:
    """Name of the database that ``postgres_database`` copies; None for empty ones.

    Override it with a fixture that creates a database once, fills it and returns its name.
    """
    return None


@pytest.fixture(name="postgres_database")
def _postgres_database(postgres_server: PostgresServer, postgres_template: str | None) -> Iterator[str]:
    """Address (``postgresql+asyncpg://...``) of a database of this test's own, dropped afterwards."""
    address = postgres_server.create_database(postgres_template)
    yield address.replace("postgresql://", "postgresql+asyncpg://", 1)
    postgres_server.drop_database(address)


@pytest.fixture(name="redis_url")
def _redis_url(redis_server: RedisServer) -> str:
    """Address of the session's Redis; keep to keys that begin with ``redis_prefix``."""
    return redis_server.address


@pytest.fixture(name="redis_prefix")
def _redis_prefix(unique_name: str) -> str:
    """A key prefix that no other test has, with its colon."""
    return f"{unique_name}:"


@pytest.fixture(name="kafka_bootstrap_servers")
def _kafka_bootstrap_servers(kafka_server: KafkaServer) -> str:
    """Bootstrap servers of the session's Kafka."""
    return kafka_server.address


@pytest.fixture(name="kafka_topic")
def _kafka_topic(kafka_server: KafkaServer) -> Iterator[TopicFactory]:
    """A function that creates topics: ``topic = kafka_topic("essays", partitions=3)``."""
    created: list[str] = []

    def _create(name: str = "test", partitions: int = 1) -> str:
        topic = f"{name}-{uuid4().hex[:12]}"
        kafka_server.create_topic(topic, partitions=partitions)
        created.append(topic)
        return topic

    yield _create
    if kafka_server.kind is Kind.ADDRESS:
        # Our own brokers end with the session; somebody else's should not fill up.
        for topic in created:
            kafka_server.delete_topic(topic)


@pytest.fixture(name="unique_name")
def _unique_name() -> str:
    """A short name that no other test has: letters, digits, hyphen."""
    return f"test-{uuid4().hex[:12]}"


def _or_skip(provide: Callable[[], T]) -> T:
    try:
        return provide()
    except ServiceUnavailableError as error:
        _unavailable(error.reason)


def _unavailable(reason: str) -> NoReturn:
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI=true allows no skip for want of a server. {reason}", pytrace=False)
    pytest.skip(reason)
