"""A set of servers with one lifetime: what tests, the demo and ``make services`` start.

Which server is taken from where is ``choice``'s business; that nothing
outlives this process is the warden's.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from types import TracebackType
from typing import Self, cast

from huleedu_service_libs.testing.devstack.choice import RECIPES
from huleedu_service_libs.testing.devstack.docker import docker_answers
from huleedu_service_libs.testing.devstack.errors import NotStartedError
from huleedu_service_libs.testing.devstack.run_context import RunContext
from huleedu_service_libs.testing.devstack.run_folders import create_run_folder, sweep_stale_runs
from huleedu_service_libs.testing.devstack.server import Kind, Server
from huleedu_service_libs.testing.devstack.servers import KafkaServer, PostgresServer, RedisServer
from huleedu_service_libs.testing.devstack.supervision import Supervisor
from huleedu_service_libs.testing.devstack.together import together

__all__ = ["DevStack"]

_NODE_COUNTS = (1, 3)


class DevStack:
    """PostgreSQL, Redis and Kafka that end with this process, also when it is killed.

    Thread-safe. ``stop()`` before ``start()`` and twice is fine; after a stop
    it can be started again, with new and empty servers.

    Args:
        services: Which to start: ``postgres``, ``redis``, ``kafka``.
        kafka_nodes: One or three.
        progress: Told short lines such as ``redis: ready on 127.0.0.1:21211 in 0.1 s``.
        environ: Variables in which addresses are looked up.

    Raises:
        ValueError: For an unknown service or number of nodes.
    """

    def __init__(
        self,
        services: Iterable[str] = ("postgres", "redis", "kafka"),
        *,
        kafka_nodes: int = 1,
        progress: Callable[[str], None] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._services = tuple(services)
        if unknown := set(self._services) - RECIPES.keys():
            raise ValueError(f"unknown services {sorted(unknown)}: choose from {', '.join(RECIPES)}")
        if kafka_nodes not in _NODE_COUNTS:
            raise ValueError(f"kafka_nodes must be 1 or 3, not {kafka_nodes}")
        self._kafka_nodes = kafka_nodes
        self._progress = progress or (lambda _: None)
        self._environ = environ
        self._lock = threading.Lock()
        self._locks = {service: threading.Lock() for service in RECIPES}
        self._run: RunContext | None = None
        self._servers: dict[str, Server] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"DevStack({', '.join(map(repr, self._servers.values()))})"

    @property
    def servers(self) -> Mapping[str, Server]:
        """The running servers by service."""
        return dict(self._servers)

    @property
    def postgres(self) -> PostgresServer:
        """The PostgreSQL server. Not started is a `NotStartedError`."""
        return cast("PostgresServer", self._started("postgres"))

    @property
    def redis(self) -> RedisServer:
        """The Redis server. Not started is a `NotStartedError`."""
        return cast("RedisServer", self._started("redis"))

    @property
    def kafka(self) -> KafkaServer:
        """The Kafka cluster. Not started is a `NotStartedError`."""
        return cast("KafkaServer", self._started("kafka"))

    def start(self) -> None:
        """Start all services at the same time and wait until they answer.

        Raises:
            AddressError: A variable names a server that does not answer.
            ServiceUnavailableError: A server cannot be had on this machine.
            DevStackError: A server does not come up. Whatever was started is stopped.
        """
        try:
            run = self._current_run()
            together([partial(self._provide, service, run) for service in self._services])
        except BaseException:
            self.stop()
            raise

    def provide(self, service: str) -> Server:
        """Start one service unless it runs, also one that ``services`` does not name.

        Args:
            service: ``postgres``, ``redis`` or ``kafka``.

        Returns:
            Its server.

        Raises:
            AddressError: A variable names it, but it does not answer.
            ServiceUnavailableError: It cannot be had on this machine.
            DevStackError: It does not come up.
        """
        return self._provide(service, self._current_run())

    def check(self) -> None:
        """Do nothing while all servers run that were started.

        Raises:
            ServerEndedError: One has ended; one that somebody else runs does not answer any more.
            WardenError: The process that holds the servers is gone.
        """
        if (run := self._run) is not None:
            run.supervisor.check()
        for server in self.servers.values():
            server.check()

    def stop(self) -> None:
        """End what this stack started and remove its folder. Idempotent."""
        with self._lock:
            run, self._run = self._run, None
            servers, self._servers = self._servers, {}
        if run is None:
            return
        try:
            together([server.discard for server in servers.values()])
        finally:
            run.supervisor.close()

    def _current_run(self) -> RunContext:
        with self._lock:
            if self._run is None:
                sweep_stale_runs()
                self._run = RunContext(
                    supervisor=Supervisor(create_run_folder()),
                    environ=self._environ,
                    progress=self._progress,
                    docker_answers=cache(docker_answers),
                    kafka_nodes=self._kafka_nodes,
                )
            return self._run

    def _provide(self, service: str, run: RunContext) -> Server:
        with self._locks[service]:
            if server := self._servers.get(service):
                return server
            before = time.monotonic()
            server = RECIPES[service](run)
            with self._lock:
                if self._run is run:
                    self._servers[service] = server
            if server.kind is Kind.ADDRESS:
                self._progress(f"{service}: {server.where}, {server.label}")
            else:
                self._progress(f"{service}: ready on {server.where} in {time.monotonic() - before:.1f} s")
            return server

    def _started(self, service: str) -> Server:
        server = self._servers.get(service)
        if server is None:
            raise NotStartedError(service)
        return server
