"""Each server that devstack starts from packages can be stopped, killed and started again."""

from collections.abc import Iterator

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import TopicAlreadyExistsError
from redis.asyncio import Redis

from huleedu_service_libs.testing.devstack import DevStack, KafkaServer, Kind, PostgresServer, RedisServer
from huleedu_service_libs.testing.devstack.errors import JavaMissingError
from huleedu_service_libs.testing.devstack.java import JavaTools

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", name="stack")
def _stack() -> Iterator[DevStack]:
    """A stack of this module's own, from packages: its servers are killed."""
    with DevStack(environ={}) as stack:
        if Kind.DOCKER in {server.kind for server in stack.servers.values()}:
            pytest.skip("Docker hands out the servers here")
        yield stack


async def _value_of_pi(postgres: PostgresServer) -> str:
    connection = await asyncpg.connect(postgres.address, timeout=10)
    try:
        return str(await connection.fetchval("SELECT value FROM facts WHERE name = 'pi'"))
    finally:
        await connection.close()


async def test_postgres_keeps_address_and_data(stack: DevStack) -> None:
    """PostgreSQL comes back on its port with committed rows after stop, kill and restart."""
    postgres = stack.postgres
    address = postgres.address
    connection = await asyncpg.connect(address)
    await connection.execute("CREATE TABLE facts (name text, value text); INSERT INTO facts VALUES ('pi', '3.14')")
    await connection.close()

    for interrupt in (postgres.stop, postgres.kill, postgres.restart):
        interrupt()
        postgres.start()
        assert await _value_of_pi(postgres) == "3.14"
    assert postgres.address == address


async def test_postgres_is_down_after_kill(stack: DevStack) -> None:
    """Between kill and start nobody answers on the port."""
    stack.postgres.kill()
    with pytest.raises(OSError, match="Connect"):
        await asyncpg.connect(stack.postgres.address, timeout=5)
    stack.postgres.start()


async def test_database_copied_from_template(stack: DevStack) -> None:
    """A database made from a template has its tables; dropping one with open connections works."""
    postgres = stack.postgres
    template = postgres.create_database()
    connection = await asyncpg.connect(template)
    await connection.execute("CREATE TABLE essays (id int)")
    await connection.close()

    copy = postgres.create_database(template.rpartition("/")[2])
    connection = await asyncpg.connect(copy)
    assert await connection.fetchval("SELECT count(*) FROM essays") == 0
    postgres.drop_database(copy)
    postgres.drop_database(copy)
    connection.terminate()


async def test_redis_comes_back_empty(stack: DevStack) -> None:
    """Redis answers again on its port after stop, kill and restart, and keeps nothing."""
    redis = stack.redis
    for interrupt in (redis.stop, redis.kill, redis.restart):
        async with Redis.from_url(redis.address) as client:
            await client.set("key", "value")
        interrupt()
        redis.start()
        async with Redis.from_url(redis.address) as client:
            assert await client.get("key") is None


async def test_kafka_keeps_address_and_records(stack: DevStack) -> None:
    """An idempotent producer's records are still there after a restart and a kill."""
    kafka = stack.kafka
    if not kafka.supports_idempotent_producer:
        pytest.skip("needs Apache Kafka")
    kafka.create_topic("kept")
    for number, interrupt in enumerate((kafka.restart, kafka.kill)):
        async with AIOKafkaProducer(bootstrap_servers=kafka.address, enable_idempotence=True) as producer:
            await producer.send_and_wait("kept", str(number).encode())
        interrupt()
        kafka.start()
    assert await _read(kafka, "kept", 2) == [b"0", b"1"]


def test_topics_are_created_and_deleted(stack: DevStack) -> None:
    """A topic can be made once, deleted, deleted again without harm, and made again."""
    kafka = stack.kafka
    if kafka.kind is not Kind.JVM:
        pytest.skip("needs Apache Kafka")
    kafka.create_topic("passing", partitions=2)
    with pytest.raises(TopicAlreadyExistsError):
        kafka.create_topic("passing")
    kafka.delete_topic("passing")
    kafka.delete_topic("passing")
    kafka.create_topic("passing")


def _no_java() -> JavaTools:
    raise JavaMissingError("no java on the PATH")


async def test_tansu_serves_plain_producers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Docker and Java the in-memory broker steps in, and says what it cannot do."""
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.choice.find_java_tools", _no_java)
    monkeypatch.setattr("huleedu_service_libs.testing.devstack.stack.docker_answers", lambda: False)
    with DevStack(["kafka"], environ={}) as stack:
        assert stack.kafka.kind is Kind.TANSU
        assert not stack.kafka.supports_idempotent_producer
        stack.kafka.create_topic("plain")
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka.address) as producer:
            await producer.send_and_wait("plain", b"essay")
        assert await _read(stack.kafka, "plain", 1) == [b"essay"]


def test_types_and_kinds(stack: DevStack) -> None:
    """The stack hands out one typed server a service, and tells where each comes from."""
    assert isinstance(stack.postgres, PostgresServer)
    assert isinstance(stack.redis, RedisServer)
    assert isinstance(stack.kafka, KafkaServer)
    assert stack.postgres.kind is Kind.LOCAL
    assert stack.redis.kind is Kind.LOCAL
    assert stack.postgres.asyncpg_url.startswith("postgresql+asyncpg://postgres@127.0.0.1:")


async def _read(kafka: KafkaServer, topic: str, count: int) -> list[bytes]:
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka.address, auto_offset_reset="earliest") as consumer:
        return [(await consumer.getone()).value for _ in range(count)]
