"""Redis in memory, for services' own tests: the library's clients over a fakeredis server, without a process or a port.

The clients are the real ones but for their connections, and pass the conformance suite of the real ones. What only a
server can show (time-outs, restarts, lost replies, sharing between processes) needs one: the fixture ``redis_url``.
"""

import asyncio
from typing import Any, TypeVar, cast

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_config import RedisClientConfig
from huleedu_service_libs._redis_connections import RedisConnections
from huleedu_service_libs._redis_endpoints import Endpoint
from huleedu_service_libs._redis_executor import Command, Executor
from huleedu_service_libs._tasks import attended
from huleedu_service_libs.queue_redis_client import QueueRedisClient
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import PubSubConfig

with requires_extra("testing", module=__name__):
    from fakeredis import FakeAsyncRedisConnection, FakeServer
    from redis.asyncio import ConnectionPool, Redis
    from redis.maint_notifications import MaintNotificationsConfig

__all__ = ["FakeQueueRedisClient", "FakeRedisClient", "FakeRedisServer"]

_URL = "redis://in-memory"
_Made = TypeVar("_Made", bound=ConnectionPool)


class FakeRedisServer:
    """What the clients of one test share. Empty at first, and gone with the last reference to it."""

    def __init__(self) -> None:
        self._server = FakeServer(version=(7,))

    def go_away(self) -> None:
        """From now on every command raises `redis.exceptions.ConnectionError`; the data stay."""
        self._server.connected = False

    def come_back(self) -> None:
        """Answer again."""
        self._server.connected = True

    def pool(self, kind: type[_Made], **settings: Any) -> _Made:
        """A pool of connections to it, in the way of an `Endpoint`."""
        ours = {
            "connection_class": FakeAsyncRedisConnection,
            "server": self._server,
            "version": (7,),
            "server_type": "redis",
            "lua_modules": None,
            "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        }
        not_theirs = {"health_check_interval", "socket_connect_timeout", "socket_keepalive"}
        return kind(**{**{name: value for name, value in settings.items() if name not in not_theirs}, **ours})


class _FakeConnections(RedisConnections):
    """Pools that lead to a server in memory."""

    def __init__(self, server: FakeRedisServer, config: RedisClientConfig) -> None:
        self._server = server
        super().__init__(_URL, config)

    def _reach(self, _redis_url: str) -> Endpoint:
        return cast("Endpoint", self._server)


class _FakeExecutor:
    """Sends each command on a connection of a pool; the answers are as raw as the real executor's."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._redis = Redis.from_pool(pool)
        self._redis.response_callbacks.clear()
        self._under_way: set[asyncio.Future[Any]] = set()

    def submit(self, command: Command, *args: Any) -> "asyncio.Future[Any]":
        reply = attended(self._send((*command.words, *args)), name="fake-reply")
        self._under_way.add(reply)
        reply.add_done_callback(self._under_way.discard)
        return asyncio.shield(reply)  # as with the real one, cancelling the wait does not undo the command

    async def ping(self) -> None:
        await self._send(("PING",))

    async def aclose(self, limit_s: float) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=limit_s)
        await self._redis.aclose()

    def cut(self) -> None:
        for reply in self._under_way:
            reply.cancel()

    def forget(self) -> None:
        self._under_way.clear()

    async def _send(self, words: tuple[Any, ...]) -> Any:
        return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]  # no hint there


class FakeRedisClient(RedisClient):
    """A `RedisClient` whose server is in memory.

    Args:
        client_id: Name in logs and metrics.
        server: Shared with other clients; one of its own by default.
        pubsub_config: As for `RedisClient`.
    """

    def __init__(
        self,
        *,
        client_id: str = "fake",
        server: FakeRedisServer | None = None,
        pubsub_config: PubSubConfig | None = None,
    ) -> None:
        super().__init__(client_id=client_id, redis_url=_URL, pubsub_config=pubsub_config)
        self.server = server or FakeRedisServer()
        self._connections = _FakeConnections(self.server, self._config)
        self._executor = cast("Executor", _FakeExecutor(self._connections.commands.connection_pool))
        self.client = self._connections.commands


class FakeQueueRedisClient(QueueRedisClient):
    """A `QueueRedisClient` whose server is in memory.

    Args:
        client_id: Name in logs and metrics.
        server: Shared with other clients; one of its own by default.
    """

    def __init__(self, *, client_id: str = "fake", server: FakeRedisServer | None = None) -> None:
        super().__init__(client_id=client_id, redis_url=_URL)
        self.server = server or FakeRedisServer()
        self._connections = _FakeConnections(self.server, self._config)
        self._executor = cast("Executor", _FakeExecutor(self._connections.commands.connection_pool))
        self.client = self._connections.commands
