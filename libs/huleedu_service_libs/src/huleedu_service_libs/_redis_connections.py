"""The driver's clients behind a `RedisClient`: four pools, so that none starves another, and all waiting on them.

`RedisClient` and `QueueRedisClient` have one, on a cluster one for each node. It connects, waits for items of lists and closes, each
within a limit of time. Plain commands share one connection of their own (`_redis_executor`);
transactions, blocking pops and subscriptions hold one for as long as they
last. From one pool, a hundred of them would leave none for commands.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, cast

from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import mask_url_credentials
from huleedu_service_libs._redis_config import RedisClientConfig
from huleedu_service_libs._redis_endpoints import Endpoint
from huleedu_service_libs._redis_executor import Opened
from huleedu_service_libs._redis_executor.spans import CommandSpans

with requires_extra("redis", module=__name__):
    from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import AuthenticationError
    from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["RedisConnections", "RedisUnreachableError", "reach"]

_SHORTEST_WAIT_S = 0.001

_MakePool = Callable[[], ConnectionPool]


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
        return (
            f"Redis client {self.client_id!r} reached no server at {self.address}: {self.reason}. "
            "Does it run there, and may this host reach it?"
        )


class Pinging(Protocol):
    """The driver's client, or whatever else can ask a server whether it is there."""

    def ping(self) -> Awaitable[Any]:
        """Its answer."""
        ...


async def reach(client: Pinging, client_id: str, redis_url: str, limit_s: float) -> None:
    """Wait for a server's first answer.

    Args:
        client: Asks it.
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
        commands: The raw client, for whoever wants the driver itself.
        transactions: For pipelines, which keep a connection while they watch keys.
        blocking: For commands that wait on the server.
        subscriptions: For publish/subscribe, which lends one for all subscribers and makes it again itself.
    """

    def __init__(self, redis_url: str, config: RedisClientConfig, *, clock: Clock = monotonic) -> None:
        self._config = config
        self._endpoint = self._reach(redis_url)
        self._clock = clock
        queueing = self._pool(
            BlockingConnectionPool,
            max_connections=config.max_connections,
            timeout=config.pool_wait_s,
            health_check_interval=config.health_interval_s,
        )
        waiting_s = config.blocking_slice_s + config.socket_timeout_s
        self._makers: tuple[_MakePool, ...] = (
            queueing,
            queueing,
            self._pool(ConnectionPool, socket_timeout=waiting_s),
            self._pool(ConnectionPool),
        )
        self.commands, self.transactions, self.blocking, self.subscriptions = (
            Redis.from_pool(make()) for make in self._makers
        )

    def _reach(self, redis_url: str) -> Endpoint:
        """What makes connections; a fake leads them elsewhere."""
        return self._config.endpoint(redis_url)

    def _pool(self, kind: type[ConnectionPool], **settings: Any) -> _MakePool:
        common: dict[str, Any] = {
            "decode_responses": True,
            "socket_connect_timeout": self._config.connect_timeout_s,
            "socket_timeout": self._config.socket_timeout_s,
            "socket_keepalive": True,
        }

        def make() -> ConnectionPool:
            fresh = {**common, **settings, "retry": Retry(NoBackoff(), 0)}
            return self._endpoint.pool(kind, **fresh)

        return make

    @property
    def _clients(self) -> tuple[Redis, ...]:
        return self.commands, self.transactions, self.blocking, self.subscriptions

    def forget(self) -> None:
        """Drop all connections unclosed, and begin anew: their event loop is closed."""
        for client, make in zip(self._clients, self._makers, strict=True):
            client.connection_pool = make()

    def spans(self) -> CommandSpans:
        """What makes spans of commands on this server."""
        at = self.commands.connection_pool.connection_kwargs
        return CommandSpans(at.get("host"), at.get("port"), at.get("db") or 0, enabled=self._config.spans)

    async def open_for_pipelining(self) -> Opened:
        """A connection outside of all pools, connected and authenticated by the driver and then taken from it.

        Raises:
            redis.exceptions.RedisError: As the driver raises it.
        """
        connection = self.commands.connection_pool.make_connection()  # type: ignore[no-untyped-call]  # no hint there
        try:
            await connection.connect()
        except BaseException:
            connection._close()  # noqa: SLF001  # its own way to close when nobody can wait
            raise
        reader, writer = connection._reader, connection._writer  # noqa: SLF001  # it has no way to hand them over
        connection._reader = connection._writer = None  # noqa: SLF001  # they are ours now
        return Opened(
            transport=writer.transport,
            received=bytes(reader._buffer),  # noqa: SLF001  # what came behind the answer to the last command
            error_of=connection._parser.parse_error,  # noqa: SLF001  # knows the driver's exceptions
            kept=(connection, reader, writer),
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
        clients = reversed(self._clients)
        limit_s = self._config.stop_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                outcomes = await asyncio.gather(*(client.aclose() for client in clients), return_exceptions=True)
        except TimeoutError as error:
            raise TimeoutError(f"connections not closed within {limit_s:g} s") from error
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
