"""How a Redis client is set up: how many connections, and how patient.

Read by ``_redis_connections``, the cluster's connections and the clients; knows addresses, and nothing that is open.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

from huleedu_service_libs._checks import numbers_of, positive
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_address import read_address
from huleedu_service_libs._redis_endpoints import Endpoint
from huleedu_service_libs._redis_executor import PipeliningConfig
from huleedu_service_libs._redis_patience import Patience
from huleedu_service_libs.redis_access import RedisAccess, read_numbers

with requires_extra("redis", module=__name__):
    pass

__all__ = ["RedisClientConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisClientConfig:
    """How many connections, and how patient.

    Attributes:
        max_connections: Connections for transactions, and as many again for users of the raw client.
            Further callers queue. The client's own commands share one connection beside those.
        pool_wait_s: Seconds that a caller queues for a connection, or a command for its turn, before it
            gets a `ConnectionError`. As the driver's own blocking pool.
        connect_timeout_s: Seconds to open a connection.
        socket_timeout_s: Seconds to wait for a reply.
        start_timeout_s: Seconds in which `start` reaches the server or fails: room for two attempts that time out.
        stop_timeout_s: Seconds in which `stop` closes the connections; then they are given up and logged. Less than Kafka's:
            nothing is buffered here that has to leave first.
        blocking_slice_s: Seconds that one ``BLPOP`` waits on the server; longer waits are made of several,
            so that a dead connection is noticed.
        pipelining: How commands share their connection.
        spans: Whether commands inside a recorded OpenTelemetry span have spans of their own.
        health_interval_s: Seconds that a connection may be idle before it is asked whether it lives. Longer than for
            subscriptions, since the next command finds a dead one anyway.
        connect_attempts: How often a connection is tried to be made; once made, it repeats nothing by itself.
        connect_first_delay_s: The longest pause before the second attempt, in seconds; doubles with each. A pause is a
            random share of it.
        connect_longest_delay_s: The longest pause between attempts at all, in seconds.
        access: Credentials and TLS.

    Raises:
        ValueError: A value is not positive.
    """

    max_connections: int = 64
    pool_wait_s: float = 20.0
    connect_timeout_s: float = 5.0
    socket_timeout_s: float = 5.0
    start_timeout_s: float = 10.0
    stop_timeout_s: float = 5.0
    blocking_slice_s: float = 20.0
    pipelining: PipeliningConfig = field(default_factory=PipeliningConfig)
    spans: bool = True
    health_interval_s: float = 30.0
    connect_attempts: int = 3
    connect_first_delay_s: float = 0.05
    connect_longest_delay_s: float = 1.0
    access: RedisAccess = field(default_factory=RedisAccess)

    def __post_init__(self) -> None:
        positive(**numbers_of(self))

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read ``REDIS_CONNECT_TIMEOUT_S`` and so on, the names above in capitals; for `access` see there.

        Raises:
            ValueError: A variable cannot be used; the text names it.
        """
        return cls(**read_numbers(cls, environ), access=RedisAccess.from_environment(environ))

    def endpoint(self, redis_url: str) -> Endpoint:
        """What makes connections to the server that a URL names.

        Raises:
            ValueError: The URL cannot be read, or does not fit `access`.
        """
        patience = Patience(
            attempts=self.connect_attempts,
            first_delay_s=self.connect_first_delay_s,
            longest_delay_s=self.connect_longest_delay_s,
        )
        return Endpoint(read_address(redis_url), self.access, patience, connect_timeout_s=self.connect_timeout_s)
