"""The Redis client of the services: commands, transactions, scripts and publish/subscribe.

Services bind `RedisClient` in their containers as `AtomicRedisClientProtocol`.
It owns the driver (redis-py) together with ``_redis_connections``,
``_redis_transaction`` and ``redis_pubsub``. It knows nothing of idempotency or
of what its keys mean.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from huleedu_service_libs._client_metrics import log_redis_failure, note_redis_swallowed
from huleedu_service_libs._clock import Clock, monotonic
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import mask_url_credentials
from huleedu_service_libs._redis_connections import RedisClientConfig, RedisConnections, RedisUnreachableError, reach
from huleedu_service_libs._redis_transaction import Scripts, TransactionPipeline, open_pipeline
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.redis_pubsub import PubSubConfig, RedisPubSub

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

__all__ = [
    "REDIS_URL",
    "AtomicRedisClientProtocol",
    "RedisClient",
    "RedisClientConfig",
    "RedisUnreachableError",
]

logger = create_service_logger("huleedu_service_libs.redis")

REDIS_URL: str = os.environ.get("REDIS_URL", "redis://redis:6379")
"""The server, read from the environment when this module is imported."""

_SCAN_PAGE = 100

_Reply = TypeVar("_Reply")


class RedisClient(AtomicRedisClientProtocol):
    """One service's way to Redis. Replies are ``str``, never ``bytes``.

    Errors of the driver are logged once and raised unchanged. A command is never repeated behind
    the caller's back (see `RedisConnections`); after a restart of the server the next command
    connects anew.

    While it is not started, commands that the services use early (``get``, ``setex``,
    ``set_if_not_exists``, ``scan_pattern``, ``ping``) start the client with a warning; all others
    raise `RuntimeError`. That holds after `stop` as well as before `start`: unlike `KafkaBus`, a stopped
    client is used again by whoever shares it, and loses nothing by that.

    Constructing does no I/O and needs no running event loop.

    Args:
        client_id: Name in logs and metrics.
        redis_url: ``redis://[user:password@]host:port/db``, ``rediss://`` or ``unix://``.
        config: Sizes and time-outs.
        pubsub_config: Bounds of subscriptions.
        clock: Monotonic seconds, for `blpop`.

    Attributes:
        client_id: As given.
        redis_url: As given, credentials included: not for logs.
        client: The driver's client for plain commands.
    """

    def __init__(
        self,
        *,
        client_id: str,
        redis_url: str = REDIS_URL,
        config: RedisClientConfig | None = None,
        pubsub_config: PubSubConfig | None = None,
        clock: Clock = monotonic,
    ) -> None:
        self.client_id = client_id
        self.redis_url = redis_url
        self._config = config or RedisClientConfig()
        self._connections = RedisConnections(redis_url, self._config, clock=clock)
        self.client: Redis = self._connections.commands
        self._pubsub: RedisPubSub | None = None
        self._pubsub_config = pubsub_config
        self._scripts = Scripts(client_id)
        self._lifecycle = asyncio.Lock()
        self._started = False

    def __repr__(self) -> str:
        address = mask_url_credentials(self.redis_url)
        return f"RedisClient(client_id={self.client_id!r}, redis_url={address!r}, started={self._started})"

    # --- life ---

    @property
    def pubsub(self) -> RedisPubSub | None:
        """Publish/subscribe, between `start` and `stop`."""
        return self._pubsub

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Reach the server; does nothing when started. Callers at the same time share one start.

        Raises:
            RedisUnreachableError: No answer within the start time-out. It is a
                `redis.exceptions.ConnectionError`.
            redis.exceptions.RedisError: The server answered with an error, such as wrong credentials.
        """
        async with self._lifecycle:
            if self._started:
                return
            try:
                await reach(self.client, self.client_id, self.redis_url, self._config.start_timeout_s)
            except Exception as error:
                log_redis_failure(self.client_id, "start", error)
                raise
            self._pubsub = RedisPubSub(
                self.client,
                self.client_id,
                subscriptions=self._connections.subscriptions,
                config=self._pubsub_config,
            )
            self._started = True
        logger.info("Redis client started", client_id=self.client_id, address=mask_url_credentials(self.redis_url))

    async def stop(self) -> None:
        """Close all connections, within the stop time-out; errors are logged, counted and swallowed."""
        async with self._lifecycle:
            was_started, self._started = self._started, False
            pubsub, self._pubsub = self._pubsub, None
            try:
                if pubsub is not None:
                    await pubsub.aclose()
                await self._connections.aclose()
            except Exception as error:  # noqa: BLE001  # the contract: stop() never raises
                note_redis_swallowed(self.client_id, "stop", error)
        if was_started:
            logger.info("Redis client stopped", client_id=self.client_id)

    async def ping(self) -> bool:
        """Whether Redis answers; never raises."""
        try:
            await self._start_if_needed("ping")
            return bool(await self.client.ping())
        except (RedisError, OSError, TimeoutError) as error:
            note_redis_swallowed(self.client_id, "ping", error)
            return False

    async def server_info(self) -> dict[str, Any]:
        """What the server says of itself (``INFO``): its run, memory, persistence and statistics."""
        return cast("dict[str, Any]", await self._command("info", lambda redis: redis.info()))

    # --- strings and keys ---

    async def set_if_not_exists(self, key: str, value: str, ttl_seconds: int | None = None) -> bool:
        """Set ``key`` unless it exists; ``True`` only for the one caller that set it."""
        await self._start_if_needed("set_if_not_exists")
        return bool(await self._run("set_if_not_exists", self.client.set(key, value, nx=True, ex=ttl_seconds)))

    async def get(self, key: str) -> str | None:
        """The value of ``key``, or ``None``."""
        await self._start_if_needed("get")
        return cast("str | None", await self._run("get", self.client.get(key)))

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        """Set ``key`` with a time to live; the argument order is key, ttl, value."""
        await self._start_if_needed("setex")
        return bool(await self._run("setex", self.client.set(key, value, ex=ttl_seconds)))

    async def scan_pattern(self, pattern: str) -> list[str]:
        """All keys that match a glob pattern, each once, in no particular order."""
        await self._start_if_needed("scan_pattern")
        return await self._run("scan_pattern", self._scan(pattern))

    async def delete_key(self, key: str) -> int:
        """Delete one key; the number deleted, 0 or 1."""
        return await self._command("delete_key", lambda redis: redis.delete(key))

    async def delete(self, *keys: str) -> int:
        """Delete keys; the number deleted, 0 without keys."""
        self._require_started()
        return await self._command("delete", lambda redis: redis.delete(*keys)) if keys else 0

    async def expire(self, key: str, ttl_seconds: int) -> bool:
        """Set a time to live; ``False`` when the key is absent."""
        return bool(await self._command("expire", lambda redis: redis.expire(key, ttl_seconds)))

    async def ttl(self, key: str) -> int:
        """Remaining seconds; -2 when the key is absent, -1 without expiry."""
        return await self._command("ttl", lambda redis: redis.ttl(key))

    async def exists(self, key: str) -> int:
        """1 when the key exists, else 0."""
        return await self._command("exists", lambda redis: redis.exists(key))

    # --- sets and sorted sets ---

    async def sadd(self, key: str, *members: str) -> int:
        """Add members to a set; the number that were new."""
        return await self._command("sadd", lambda redis: redis.sadd(key, *members))

    async def srem(self, key: str, *members: str) -> int:
        """Remove members from a set; the number removed."""
        return await self._command("srem", lambda redis: redis.srem(key, *members))

    async def scard(self, key: str) -> int:
        """Size of a set."""
        return await self._command("scard", lambda redis: redis.scard(key))

    async def spop(self, key: str) -> str | None:
        """Remove and return one member of a set."""
        return cast("str | None", await self._command("spop", lambda redis: redis.spop(key)))

    async def smembers(self, key: str) -> set[str]:
        """All members of a set; empty when the key is absent."""
        return cast("set[str]", await self._command("smembers", lambda redis: redis.smembers(key)))

    async def zadd(self, key: str, mapping: dict[str, float]) -> int:
        """Add scored members to a sorted set; the number that were new."""
        return cast("int", await self._command("zadd", lambda redis: redis.zadd(key, mapping)))

    async def zrem(self, key: str, *members: str) -> int:
        """Remove members from a sorted set; the number removed."""
        return await self._command("zrem", lambda redis: redis.zrem(key, *members))

    # --- hashes ---

    async def hset(self, key: str, field: str, value: str) -> int:
        """Set one field of a hash; 1 when new, 0 when updated."""
        return await self._command("hset", lambda redis: redis.hset(key, field, value))

    async def hget(self, key: str, field: str) -> str | None:
        """One field of a hash, or ``None``."""
        return cast("str | None", await self._command("hget", lambda redis: redis.hget(key, field)))

    async def hlen(self, key: str) -> int:
        """Number of fields of a hash."""
        return await self._command("hlen", lambda redis: redis.hlen(key))

    async def hgetall(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when the key is absent."""
        return cast("dict[str, str]", await self._command("hgetall", lambda redis: redis.hgetall(key)))

    async def hexists(self, key: str, field: str) -> bool:
        """Whether a hash has the field."""
        return bool(await self._command("hexists", lambda redis: redis.hexists(key, field)))

    # --- lists ---

    async def rpush(self, key: str, *values: str) -> int:
        """Append to a list; its length."""
        return await self._command("rpush", lambda redis: redis.rpush(key, *values))

    async def lpush(self, key: str, *values: str) -> int:
        """Prepend to a list; its length."""
        return await self._command("lpush", lambda redis: redis.lpush(key, *values))

    async def llen(self, key: str) -> int:
        """Length of a list."""
        return await self._command("llen", lambda redis: redis.llen(key))

    async def lrange(self, key: str, start: int, stop: int) -> list[str]:
        """A slice of a list, both ends included."""
        return cast("list[str]", await self._command("lrange", lambda redis: redis.lrange(key, start, stop)))

    async def blpop(self, keys: list[str], timeout: float = 0) -> tuple[str, str] | None:  # noqa: ASYNC109  # Redis' own argument
        """Wait for an item at the head of one of several lists.

        Waiting callers use connections of their own and don't hinder commands. The wait is made of
        slices (`RedisClientConfig.blocking_slice_s`), so that it never runs into a socket time-out.

        Args:
            keys: Lists, in order of precedence.
            timeout: Seconds; 0 waits for ever.

        Returns:
            Key and item, or ``None`` when the time is up.
        """
        self._require_started()
        return await self._run("blpop", self._connections.first_item(keys, timeout))

    # --- transactions and scripts ---

    async def create_transaction_pipeline(self, *watch_keys: str) -> TransactionPipeline:
        """A transactional pipeline that already watches ``watch_keys``.

        Call ``multi()``, queue commands without awaiting them, then ``await pipe.execute()``, which raises
        `redis.exceptions.WatchError` when a watched key has changed. Use it with ``async with``
        to give its connection back however the block ends; ``execute()`` does so too.
        """
        self._require_started()
        return await self._run("watch", open_pipeline(self._connections.transactions, watch_keys))

    async def register_script(self, script_body: str) -> str:
        """Load a Lua script; its SHA-1."""
        return await self._command("register_script", lambda redis: self._scripts.register(redis, script_body))

    async def execute_script(self, sha: str, keys: list[str], args: list[Any]) -> Any:
        """Run a registered script.

        A server that has lost it (a restart, ``SCRIPT FLUSH``) gets it again, if this client
        registered it; nothing ran before that, so running it then is safe.

        Raises:
            redis.exceptions.NoScriptError: Neither the server nor this client knows ``sha``.
        """
        return await self._command("execute_script", lambda redis: self._scripts.run(redis, sha, keys, args))

    # --- publish/subscribe ---

    async def publish(self, channel: str, message: str) -> int:
        """Publish to a channel; the number of receivers."""
        return await self._require_pubsub().publish(channel, message)

    def subscribe(self, channel: str) -> AbstractAsyncContextManager[Any]:
        """A context in which the yielded PubSub object receives the channel's messages."""
        return self._require_pubsub().subscribe(channel)

    def get_user_channel(self, user_id: str) -> str:
        """The notification channel of a user."""
        return self._require_pubsub().get_user_channel(user_id)

    async def publish_user_notification(self, user_id: str, event_type: str, data: dict[str, Any]) -> int:
        """Publish ``{"event": ..., "data": ...}`` to a user's channel; the number of receivers."""
        return await self._require_pubsub().publish_user_notification(user_id, event_type, data)

    # --- inside ---

    async def _start_if_needed(self, operation: str) -> None:
        if self._started:
            return
        logger.warning(
            "Redis client used before start(); starting it now", client_id=self.client_id, operation=operation
        )
        await self.start()

    def _require_started(self) -> None:
        if not self._started:
            raise RuntimeError(f"Redis client '{self.client_id}' is not running.")

    def _require_pubsub(self) -> RedisPubSub:
        if self._pubsub is None:
            raise RuntimeError(f"Redis client '{self.client_id}' is not running: PubSub not initialized.")
        return self._pubsub

    async def _command(self, operation: str, send: Callable[[Redis], Awaitable[_Reply]]) -> _Reply:
        """Run a command that needs a started client."""
        self._require_started()
        return await self._run(operation, send(self.client))

    async def _run(self, operation: str, command: Awaitable[_Reply]) -> _Reply:
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self.client_id, operation, error)
            raise

    async def _scan(self, pattern: str) -> list[str]:
        # A dict keeps the order and drops the repetitions that SCAN may give while the table is resized
        return list(dict.fromkeys([key async for key in self.client.scan_iter(match=pattern, count=_SCAN_PAGE)]))
