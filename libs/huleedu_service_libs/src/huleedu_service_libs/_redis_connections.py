"""The driver's clients behind a `RedisClient`: four pools, so that none starves another, and all waiting on them.

Only `redis_client` uses it. It reaches the server, waits for items of lists and
closes, each within a limit of time. Commands borrow a connection for a moment;
transactions, blocking pops and subscriptions hold one for as long as they
last. From one pool, a hundred of them would leave none for commands.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, cast

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import mask_url_credentials

with requires_extra("redis", module=__name__):
    from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError
    from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["RedisClientConfig", "RedisConnections", "RedisUnreachableError", "reach"]

_SHORTEST_WAIT_S = 0.001


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
        stop_timeout_s: Seconds in which `stop` closes the connections; then they are given up and logged.
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
    stop_timeout_s: float = 5.0
    blocking_slice_s: float = 20.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


class RedisUnreachableError(RedisConnectionError):
    """No server answered when the client was started.

    Attributes:
        client_id: The client.
        address: Where it looked, without password.
        reason: What the driver said.
    """

    def __init__(self, client_id: str, address: str, reason: str) -> None:
        super().__init__(client_id, address, reason)
        self.client_id = client_id
        self.address = address
        self.reason = reason

    def __str__(self) -> str:
        return f"Redis client {self.client_id!r} reached no server at {self.address}: {self.reason}"


async def reach(client: Redis, client_id: str, redis_url: str, limit_s: float) -> None:
    """Wait for a server's first answer.

    Args:
        client: The driver's client.
        client_id: For the error.
        redis_url: For the error.
        limit_s: Seconds.

    Raises:
        RedisUnreachableError: There was none.
        redis.exceptions.RedisError: The server answered with an error, such as wrong credentials.
    """
    try:
        async with asyncio.timeout(limit_s):
            await client.ping()
    except AuthenticationError:
        raise
    except (RedisConnectionError, OSError, TimeoutError) as error:
        reason = str(error) or f"no answer within {limit_s:g} s"
        raise RedisUnreachableError(client_id, mask_url_credentials(redis_url), reason) from error


class RedisConnections:
    """Four clients of one server; nothing connects before its first command.

    redis-py 8 repeats every command by itself after a lost connection, which counts an ``INCR``
    twice and lets a successful ``SET NX`` report that the key was taken. That is switched off: a
    command is sent once, its error is raised, and the next command connects anew.

    Args:
        redis_url: Server, with credentials if needed.
        config: Sizes and time-outs.
        clock: Monotonic seconds.

    Attributes:
        commands: For everything that answers at once.
        transactions: For pipelines, which keep a connection while they watch keys.
        blocking: For commands that wait on the server.
        subscriptions: For publish/subscribe, which lends one for all subscribers and makes it again itself.
    """

    def __init__(self, redis_url: str, config: RedisClientConfig, *, clock: Clock = monotonic) -> None:
        self._config = config
        self._clock = clock
        once = Retry(NoBackoff(), 0)
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
            ConnectionPool.from_url(redis_url, **common, socket_timeout=config.socket_timeout_s, retry=once)
        )

    async def first_item(self, keys: list[str], timeout_s: float) -> tuple[str, str] | None:
        """Wait for an item at the head of one of several lists, in slices.

        Args:
            keys: Lists, in order of precedence.
            timeout_s: Seconds; 0 waits for ever.

        Returns:
            Key and item, or ``None`` when the time is up.
        """
        deadline = self._clock() + timeout_s if timeout_s > 0 else None
        while True:
            wait_s = self._config.blocking_slice_s
            if deadline is not None:
                wait_s = max(min(wait_s, deadline - self._clock()), _SHORTEST_WAIT_S)  # 0 would wait for ever
            found = await cast("Awaitable[Any]", self.blocking.blpop(keys, timeout=wait_s))
            if found is not None:
                return found[0], found[1]
            if deadline is not None and self._clock() >= deadline:
                return None

    async def aclose(self) -> None:
        """Close every connection of every pool at the same time, whatever happens; usable again afterwards.

        Raises:
            TimeoutError: Not all were closed within the stop time-out.
            Exception: The first error that a pool gave.
        """
        clients = (self.subscriptions, self.blocking, self.transactions, self.commands)
        limit_s = self._config.stop_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                outcomes = await asyncio.gather(*(client.aclose() for client in clients), return_exceptions=True)
        except TimeoutError as error:
            raise TimeoutError(f"connections not closed within {limit_s:g} s") from error
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
