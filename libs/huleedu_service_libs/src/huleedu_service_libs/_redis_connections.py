"""The driver's clients behind a `RedisClient`: four pools, so that none starves another.

Only `redis_client` uses it. Commands borrow a connection for a moment;
transactions, blocking pops and subscriptions hold one for as long as they
last. From one pool, a hundred subscribers would leave none for commands.
"""

from dataclasses import dataclass
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff, NoBackoff

__all__ = ["RedisClientConfig", "RedisConnections"]

_SUBSCRIPTION_RETRIES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisClientConfig:
    """How many connections, and how patient.

    Attributes:
        max_connections: Connections for commands, and as many again for watching transactions.
            Further callers queue.
        pool_wait_s: Seconds that a caller queues for a connection before it gets a `ConnectionError`.
        connect_timeout_s: Seconds to open a connection.
        socket_timeout_s: Seconds to wait for a reply.
        start_timeout_s: Seconds in which `start` reaches the server or fails.
        blocking_slice_s: Seconds that one ``BLPOP`` waits on the server; longer waits are made of several,
            so that a dead connection is noticed.

    Raises:
        ValueError: A value is not positive.
    """

    max_connections: int = 64
    pool_wait_s: float = 20.0
    connect_timeout_s: float = 5.0
    socket_timeout_s: float = 5.0
    start_timeout_s: float = 10.0
    blocking_slice_s: float = 20.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class RedisConnections:
    """Four clients of one server; nothing connects before its first command.

    redis-py 8 repeats every command by itself after a lost connection, which counts an ``INCR``
    twice and lets a successful ``SET NX`` report that the key was taken. That is switched off: a
    command is sent once, its error is raised, and the next command connects anew.

    Args:
        redis_url: Server, with credentials if needed.
        config: Sizes and time-outs.

    Attributes:
        commands: For everything that answers at once.
        transactions: For pipelines, which keep a connection while they watch keys.
        blocking: For commands that wait on the server.
        subscriptions: For publish/subscribe; these connections do reconnect by themselves, as
            nothing is repeated but the subscription.
    """

    def __init__(self, redis_url: str, config: RedisClientConfig) -> None:
        once = Retry(NoBackoff(), 0)
        again = Retry(ExponentialBackoff(cap=1.0, base=0.05), _SUBSCRIPTION_RETRIES)
        common: dict[str, Any] = {
            "decode_responses": True,
            "socket_connect_timeout": config.connect_timeout_s,
            "socket_keepalive": True,
        }
        queueing: dict[str, Any] = {
            **common,
            "max_connections": config.max_connections,
            "timeout": config.pool_wait_s,
            "socket_timeout": config.socket_timeout_s,
            "retry": once,
        }
        waiting_s = config.blocking_slice_s + config.socket_timeout_s
        self.commands: Redis = Redis.from_pool(BlockingConnectionPool.from_url(redis_url, **queueing))
        self.transactions: Redis = Redis.from_pool(BlockingConnectionPool.from_url(redis_url, **queueing))
        self.blocking: Redis = Redis.from_pool(
            ConnectionPool.from_url(redis_url, **common, socket_timeout=waiting_s, retry=once)
        )
        self.subscriptions: Redis = Redis.from_pool(
            ConnectionPool.from_url(redis_url, **common, socket_timeout=config.socket_timeout_s, retry=again)
        )

    async def aclose(self) -> None:
        """Close every connection of every pool, whatever happens on the way; usable again afterwards.

        Raises:
            Exception: The first error that a pool gave.
        """
        errors: list[Exception] = []
        for client in (self.subscriptions, self.blocking, self.transactions, self.commands):
            try:
                await client.aclose()
            except Exception as error:  # noqa: BLE001  # raised below, once all are closed
                errors.append(error)
        if errors:
            raise errors[0]
