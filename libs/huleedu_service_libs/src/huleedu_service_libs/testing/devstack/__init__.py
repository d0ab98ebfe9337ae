"""``devstack`` hands out real PostgreSQL, Redis and Kafka.

For each service, in this order: an address from the environment
(``HULEEDU_TEST_POSTGRES_URL``, ``HULEEDU_TEST_REDIS_URL``,
``HULEEDU_TEST_KAFKA_BOOTSTRAP``); Docker; a server started from packages on
loopback ports; for Kafka at last the in-memory Tansu. ``redis_cluster``, ``redis_sentinel``
and ``redis_tls``, ``redis_cluster_tls``, ``redis_sentinel_tls`` are always started from packages.
What it starts ends with the process that asked, also when that is killed.

Used by the pytest fixtures, the demo and ``make services``
(``python -m huleedu_service_libs.testing.devstack``).
"""

from huleedu_service_libs.testing.devstack.errors import (
    AddressError,
    CommandError,
    DevStackError,
    JarsError,
    NotOursError,
    NotStartedError,
    ServerEndedError,
    ServerStartError,
    ServiceUnavailableError,
    WardenError,
)
from huleedu_service_libs.testing.devstack.local import free_ports
from huleedu_service_libs.testing.devstack.server import Kind, Server
from huleedu_service_libs.testing.devstack.servers import (
    KafkaServer,
    PostgresServer,
    RedisNodesServer,
    RedisServer,
    RedisTlsServer,
)
from huleedu_service_libs.testing.devstack.stack import DevStack

__all__ = [
    "AddressError",
    "CommandError",
    "DevStack",
    "DevStackError",
    "JarsError",
    "KafkaServer",
    "Kind",
    "NotOursError",
    "NotStartedError",
    "PostgresServer",
    "RedisNodesServer",
    "RedisServer",
    "RedisTlsServer",
    "Server",
    "ServerEndedError",
    "ServerStartError",
    "ServiceUnavailableError",
    "WardenError",
    "free_ports",
]
