"""The three services as processes of their own, on servers that somebody else started.

The demo and the tests use it. It knows how a service is started and told to
stop, nothing of what the services do.

All services end with this process, whatever ends it: each watches one end of a
pipe whose other end only this process holds.
"""

import math
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
from aiokafka.errors import KafkaError

from essay_pipeline.contracts import CHECKED_TOPIC, SUBMITTED_TOPIC
from essay_pipeline.demo.leftovers import remove_databases, remove_keys, remove_topics_and_groups
from essay_pipeline.demo.service import HOST, Log, ServiceFailedError, ServiceProcess
from huleedu_service_libs.testing.devstack.databases import create_topic
from huleedu_service_libs.testing.devstack.local import free_ports
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer

__all__ = ["PARTITIONS", "PipelineProcesses", "Servers"]

PARTITIONS = 6

_READY_LIMIT_S = 45.0
_STOP_LIMIT_S = 25.0
_FAILED_STOP_LIMIT_S = 5.0  # after a failure: a service whose server is gone would use up its whole grace
_BETWEEN_LOOKS_S = 1.0  # at the servers: looking at somebody else's takes a connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """What the services run on."""

    postgres: PostgresServer
    redis: RedisServer
    kafka: KafkaServer

    def check(self) -> None:
        """Do nothing while all serve.

        Raises:
            DevStackError: One has ended or does not answer any more.
        """
        for server in (self.postgres, self.redis, self.kafka):
            server.check()


@dataclass(slots=True, kw_only=True)
class PipelineProcesses:
    """The three services on topics and databases of their own.

    Attributes:
        servers: What they run on.
        make_log: Makes the log of the service of that name.
        progress: Told short lines for people.
        namespace: Before topics and groups, so that nobody else's services see these events.
        services: By name, once started.
        databases: Addresses (``postgresql://...``) by service.
    """

    servers: Servers
    make_log: Callable[[str], Log] = lambda _: Log()  # a default, not a name
    progress: Callable[[str], None] = lambda _: None
    namespace: str = field(default_factory=lambda: f"demo-{uuid4().hex[:8]}.")
    services: dict[str, ServiceProcess] = field(default_factory=dict)
    databases: dict[str, str] = field(default_factory=dict)
    _lifeline: tuple[int, int] | None = None
    _looked_at: float = -math.inf
    _prepared: bool = False

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop(limit=_FAILED_STOP_LIMIT_S)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        failed = isinstance(error, Exception)
        self.stop(limit=_FAILED_STOP_LIMIT_S if failed else _STOP_LIMIT_S)

    @property
    def topics(self) -> tuple[str, str]:
        """The topic of submitted and the one of checked essays."""
        return self.namespace + SUBMITTED_TOPIC, self.namespace + CHECKED_TOPIC

    @property
    def dead_letter_topics(self) -> list[str]:
        """What the consumers have made for events that cannot be processed."""
        spellcheck, notify = self.groups
        submitted, checked = self.topics
        read = ((submitted, spellcheck), (submitted, notify), (checked, notify))
        return [f"{topic}.{group}.dead-letter" for topic, group in read]

    @property
    def groups(self) -> tuple[str, str]:
        """The consumer groups of *spellcheck* and *notify*."""
        return self.namespace + "spellcheck-service", self.namespace + "notify-service"

    @property
    def intake_url(self) -> str:
        """Where *intake* answers."""
        return self.services["intake"].url

    @property
    def spellcheck_url(self) -> str:
        """Where *spellcheck* answers."""
        return self.services["spellcheck"].url

    @property
    def notify_url(self) -> str:
        """Where *notify* answers, and the page is."""
        return self.services["notify"].url

    @property
    def logs(self) -> dict[str, Log]:
        """What the services wrote, by name."""
        return {name: service.log for name, service in self.services.items()}

    def start(self) -> None:
        """Create topics and databases, start the services and wait until all are healthy.

        Raises:
            ServiceFailedError: One ended or is not healthy in time.
        """
        began = time.monotonic()
        self._prepared = True
        self._prepare_servers()
        self._lifeline = os.pipe()
        ports = dict(zip(("intake", "spellcheck", "notify"), free_ports(3), strict=True))
        for name, environment in self._environments(ports).items():
            self.services[name] = self._spawn(name, ports[name], environment)
        for service in self.services.values():
            service.wait_until_healthy(_READY_LIMIT_S)
            self.progress(f"{service.name}: ready on {service.url} in {time.monotonic() - began:.1f} s")

    def check_alive(self) -> None:
        """Do nothing while all services and servers run; at the servers it looks once a second.

        Raises:
            DevStackError: A server has ended.
            ServiceFailedError: A service has ended.
        """
        if time.monotonic() - self._looked_at >= _BETWEEN_LOOKS_S:
            self.check_servers()
        for service in self.services.values():
            service.check_alive()

    def check_servers(self) -> None:
        """Do nothing while all servers run.

        Raises:
            DevStackError: One has ended.
        """
        self._looked_at = time.monotonic()
        self.servers.check()

    def replace(self, name: str) -> int:
        """Deploy a service anew: start a second process beside the first, then stop the first.

        Args:
            name: The service; it answers at another address afterwards.

        Returns:
            The exit code of the first process.

        Raises:
            ServiceFailedError: The second one does not become healthy; the first goes on.
        """
        old, (port,) = self.services[name], free_ports(1)
        new = self._spawn(name, port, {**old.environment, f"{name.upper()}_PORT": str(port)})
        try:
            new.wait_until_healthy(_READY_LIMIT_S)
        except BaseException:
            new.process.kill()
            new.wait()
            raise
        self.services[name] = new
        old.terminate()
        code = old.wait()
        old.log.close()
        return code

    def stop(self, limit: float = _STOP_LIMIT_S) -> dict[str, int]:
        """Stop the services gracefully; drop databases, and everything else on somebody else's servers. Idempotent.

        Args:
            limit: Seconds in which the services must have ended; then they are killed.

        Returns:
            Exit codes by service.
        """
        services, self.services = self.services, {}
        for service in services.values():
            service.terminate()
        deadline = time.monotonic() + limit
        codes = {name: service.wait(max(0.0, deadline - time.monotonic())) for name, service in services.items()}
        for service in services.values():
            service.log.close()
        if self._lifeline is not None:
            for end in self._lifeline:
                os.close(end)
            self._lifeline = None
        if self._prepared:
            self._prepared = False
            databases, self.databases = list(self.databases.values()), {}
            remove_databases(self.servers.postgres, databases, self.progress)
            remove_topics_and_groups(
                self.servers.kafka, [*self.topics, *self.dead_letter_topics], self.groups, self.progress
            )
            remove_keys(self.servers.redis, self.namespace, self.progress)
        return codes

    def _prepare_servers(self) -> None:
        """Create topics and databases.

        Raises:
            ServiceFailedError: A server, which may be somebody else's, does not answer or refuses.
        """
        postgres, kafka = self.servers.postgres, self.servers.kafka
        replicas = min(3, kafka.node_count)
        try:
            for topic in self.topics:
                create_topic(kafka.address, topic, partitions=PARTITIONS, replicas=replicas)
        except (OSError, KafkaError) as error:
            raise ServiceFailedError(f"Kafka on {kafka.address} takes no topics: {error!r}") from error
        try:
            for name in ("intake", "spellcheck"):
                self.databases[name] = postgres.create_database()
        except (OSError, asyncpg.PostgresError) as error:
            where = urlsplit(postgres.address).netloc.rpartition("@")[2]
            raise ServiceFailedError(f"PostgreSQL on {where} takes no databases: {error!r}") from error

    def _environments(self, ports: Mapping[str, int]) -> dict[str, dict[str, str]]:
        """The variables of each service."""
        common = {
            "HOST": HOST,
            "REDIS_URL": self.servers.redis.address,
            "KAFKA_BOOTSTRAP_SERVERS": self.servers.kafka.address,
            "KAFKA_IDEMPOTENT_PRODUCER": str(self.servers.kafka.supports_idempotent_producer),
            "KAFKA_NAMESPACE": self.namespace,
        }
        own = {
            "intake": {
                "DATABASE_URL": _for_sqlalchemy(self.databases["intake"]),
                "ALLOWED_ORIGIN": f"http://{HOST}:{ports['notify']}",
                "DEMO_ROLLBACK_ENABLED": "true",
            },
            "spellcheck": {"DATABASE_URL": _for_sqlalchemy(self.databases["spellcheck"])},
            "notify": {"INTAKE_URL": f"http://{HOST}:{ports['intake']}"},
        }
        shared = {"HULEEDU_INTERNAL_API_KEY": secrets.token_urlsafe(32), "ENVIRONMENT": "development"}
        return {
            name: {
                **shared,
                **{
                    f"{name.upper()}_{key}": value
                    for key, value in {**common, **settings, "PORT": str(ports[name])}.items()
                },
            }
            for name, settings in own.items()
        }

    def _spawn(self, name: str, port: int, environment: Mapping[str, str]) -> ServiceProcess:
        if self._lifeline is None:
            raise RuntimeError("start() makes the pipe first")
        log, (reading, _) = self.make_log(name), self._lifeline
        process = subprocess.Popen(  # noqa: S603  # nothing in it comes from outside
            [sys.executable, "-m", f"essay_pipeline.{name}", "--parent-pipe", str(reading)],
            stdin=subprocess.DEVNULL,
            stdout=log.file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            pass_fds=(reading,),
            start_new_session=True,  # Ctrl-C is for this process, which then stops them in order
        )
        return ServiceProcess(name=name, port=port, environment=environment, process=process, log=log)


def _for_sqlalchemy(address: str) -> str:
    return address.replace("postgresql://", "postgresql+asyncpg://", 1)
