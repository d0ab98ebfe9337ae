"""The servers that a stack hands out, with what each kind can do beyond starting and stopping.

Tests, the CLI and the demo use these.
"""

from typing import Any
from urllib.parse import urlsplit, urlunsplit

from huleedu_service_libs.testing.devstack.certificates import Certificates
from huleedu_service_libs.testing.devstack.databases import (
    create_database,
    create_topic,
    delete_topic,
    drop_database,
)
from huleedu_service_libs.testing.devstack.server import Kind, Nodes, Server

__all__ = [
    "KafkaServer",
    "PostgresServer",
    "RedisNodesServer",
    "RedisServer",
    "RedisTlsServer",
]

_MOST_REPLICAS = 3


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

        Raises:
            DevStackError: The server did not do it in time.
        """
        return self._address_of(create_database(self.address, template))

    def drop_database(self, name: str) -> None:
        """Drop a database, its connections included. Nothing happens when it does not exist.

        Args:
            name: Name or address of the database.

        Raises:
            DevStackError: The server did not do it in time.
        """
        drop_database(self.address, name.rpartition("/")[2])

    def _address_of(self, database: str) -> str:
        return urlunsplit(urlsplit(self.address)._replace(path=f"/{database}"))


class RedisServer(Server):
    """A server that speaks the Redis protocol; ``address`` is ``redis://127.0.0.1:port/0``.

    Those that are started from a package keep nothing on disk: a restart empties them.
    """


class RedisNodesServer(Nodes):
    """A Redis Cluster, or a primary and its replica with their Sentinels; the recipes say which node is which.

    ``address`` is ``redis+cluster://host:port,...`` or ``redis+sentinel://host:port,.../service``, with ``rediss``
    where clients need TLS. Nodes keep nothing on disk but their place in the cluster.

    Args:
        certificates: What to connect with, where clients need TLS.
        more: As for every server.
    """

    def __init__(self, *, certificates: Certificates | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.certificates = certificates


class RedisTlsServer(RedisServer):
    """A Redis that is reached over TLS and wants a certificate of its client; ``address`` is ``rediss://...``.

    Args:
        certificates: What to connect with.
        more: As for every server.
    """

    def __init__(self, *, certificates: Certificates, **more: Any) -> None:
        super().__init__(**more)
        self.certificates = certificates


class KafkaServer(Nodes):
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

        Raises:
            DevStackError: The server did not do it in time.
        """
        copies = min(_MOST_REPLICAS, self.node_count) if replicas is None else replicas
        create_topic(self.address, name, partitions=partitions, replicas=copies)

    def delete_topic(self, name: str) -> None:
        """Delete a topic. Nothing happens when it does not exist.

        Raises:
            DevStackError: The server did not do it in time.
        """
        delete_topic(self.address, name)
