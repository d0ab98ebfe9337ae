"""The same servers as Docker containers, through testcontainers.

Containers publish on loopback only and always the same port. Testcontainers'
own reaper removes them when this process is killed.
"""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.testing.devstack.answers import brokers_known_to, postgres_answers, redis_answers
from huleedu_service_libs.testing.devstack.errors import ServerStartError
from huleedu_service_libs.testing.devstack.local import LOOPBACK, free_ports
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.server import Kind
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer

__all__ = ["docker_answers", "start_kafka_container", "start_postgres_container", "start_redis_container"]

_PING_LIMIT_S = 3
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 15
_POLL_S = 0.1
_POSTGRES_IMAGE = "postgres:18-alpine"
_REDIS_IMAGE = "redis:8-alpine"
_SIGNS_OF_DOCKER = ("/var/run/docker.sock", "~/.docker", "~/.testcontainers.properties")


def docker_answers() -> bool:
    """Return whether a Docker daemon answers within three seconds."""
    if not os.environ.get("DOCKER_HOST") and not any(map(_exists, _SIGNS_OF_DOCKER)):
        return False
    try:
        client = import_module("testcontainers.core.docker_client").DockerClient(timeout=_PING_LIMIT_S).client
    except Exception:  # noqa: BLE001 - whatever it is, there is no Docker for us
        return False
    with suppress(Exception):
        return bool(client.ping())
    return False


def start_postgres_container(run: RunContext) -> PostgresServer:
    """Start PostgreSQL in a container.

    Args:
        run: The run.

    Returns:
        The running server.
    """
    run.progress(f"postgres: starting (Docker, {_POSTGRES_IMAGE})")
    container = (
        _module("postgres")
        .PostgresContainer(_POSTGRES_IMAGE, driver=None)
        .with_command(
            "postgres -c fsync=off -c max_connections=200",
        )
    )
    port = _publish(container, 5432)
    container.start()
    return PostgresServer(
        name="postgres",
        kind=Kind.DOCKER,
        address=f"postgresql://{container.username}:{container.password}@{LOOPBACK}:{port}/{container.dbname}",
        label=_POSTGRES_IMAGE,
        controls=[ContainerControl(container, lambda: postgres_answers(LOOPBACK, port, container.username))],
    )


def start_redis_container(run: RunContext) -> RedisServer:
    """Start Redis in a container.

    Args:
        run: The run.

    Returns:
        The running server.
    """
    run.progress(f"redis: starting (Docker, {_REDIS_IMAGE})")
    container = _module("redis").RedisContainer(_REDIS_IMAGE)
    port = _publish(container, 6379)
    container.start()
    return RedisServer(
        name="redis",
        kind=Kind.DOCKER,
        address=f"redis://{LOOPBACK}:{port}/0",
        label=_REDIS_IMAGE,
        controls=[ContainerControl(container, lambda: redis_answers(LOOPBACK, port))],
    )


def start_kafka_container(run: RunContext) -> KafkaServer:
    """Start a one-node Kafka in a container.

    Args:
        run: The run.

    Returns:
        The running server.
    """
    run.progress("kafka: starting (Docker)")
    container = _module("kafka").KafkaContainer().with_kraft()
    port = _publish(container, container.port)
    container.start()
    return KafkaServer(
        name="kafka",
        kind=Kind.DOCKER,
        address=f"{LOOPBACK}:{port}",
        label=container.image,
        controls=[ContainerControl(container, lambda: bool(brokers_known_to(LOOPBACK, port)))],
    )


class ContainerControl:
    """Stop and start a container.

    Args:
        container: A testcontainers container that was started.
        is_ready: Whether the server in it answers.
    """

    def __init__(self, container: Any, is_ready: Callable[[], bool]) -> None:
        self._container = container
        self._is_ready = is_ready

    def start(self) -> None:
        """Start it again on the same port.

        Raises:
            ServerStartError: It does not answer.
        """
        self._container.get_wrapped_container().start()
        deadline = time.monotonic() + _START_LIMIT_S
        while not self._is_ready():
            if time.monotonic() > deadline:
                problem = f"was not ready within {_START_LIMIT_S:g} s"
                raise ServerStartError(self._container.image, "Docker", problem, "  see docker logs")
            time.sleep(_POLL_S)

    def stop(self) -> None:
        """Stop it gracefully."""
        self._container.get_wrapped_container().stop(timeout=_STOP_LIMIT_S)

    def kill(self) -> None:
        """Kill it."""
        with suppress(Exception):
            # Docker answers 409 when it does not run.
            self._container.get_wrapped_container().kill()

    def is_running(self) -> bool:
        """Whether the server in it answers."""
        return self._is_ready()

    def discard(self) -> None:
        """Remove it with its data."""
        with suppress(Exception):
            self._container.stop()


def _exists(sign: str) -> bool:
    try:
        return Path(sign).expanduser().exists()
    except (OSError, RuntimeError):
        return False  # no home, or not ours to see


def _module(name: str) -> Any:
    with requires_extra("testing", module=__name__):
        try:
            return import_module(f"testcontainers.community.{name}")
        except ModuleNotFoundError:
            # Where it was before testcontainers 4.15.
            return import_module(f"testcontainers.{name}")


def _publish(container: Any, inner: int) -> int:
    """Publish a port of the container on one of loopback, the same over restarts."""
    (port,) = free_ports(1)
    container.ports[str(inner)] = (LOOPBACK, port)
    return port
