"""A queue's way to Redis: a sorted set says what is next, hashes say what it is.

llm_provider_service binds `QueueRedisClient` as `QueueRedisClientProtocol`. It
owns the driver together with ``_redis_connections``; what runs together is in ``_redis_queue_pipeline``. It knows nothing of what is
queued, and of `RedisClient` only the connections that both are built on.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, cast, overload

from huleedu_service_libs._client_metrics import log_redis_failure, note_redis_swallowed
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._lifecycle import StartStop
from huleedu_service_libs._redaction import mask_url_credentials
from huleedu_service_libs._redis_cluster import open_redis
from huleedu_service_libs._redis_config import RedisClientConfig
from huleedu_service_libs._redis_connections import reach
from huleedu_service_libs._redis_queue_pipeline import QueueRedisPipeline, expect
from huleedu_service_libs._redis_transaction import TransactionPipeline
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.queue_models import QueueItem
from huleedu_service_libs.queue_protocols import QueueRedisClientProtocol

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.exceptions import RedisError

__all__ = ["REDIS_URL", "QueueRedisClient", "QueueRedisPipeline"]

logger = create_service_logger("huleedu_service_libs.redis")

REDIS_URL: str = os.environ.get("REDIS_URL", "redis://redis:6379")
"""The server, read from the environment when this module is imported."""

_Reply = TypeVar("_Reply")


class QueueRedisClient(StartStop, QueueRedisClientProtocol):
    """Sorted sets and hashes of a queue. Replies are ``str``, never ``bytes``.

    Errors of the driver are logged once and raised unchanged; a command is sent once. While it is
    not started, every command raises `RuntimeError`, except `ping`, which starts it with a warning.

    Constructing does no I/O and needs no running event loop.

    Args:
        client_id: Name in logs and metrics.
        redis_url: As for `RedisClient`.
        config: Sizes and time-outs.

    Attributes:
        client_id: As given.
        redis_url: As given, credentials included: not for logs.
        client: The driver's client.
    """

    def __init__(self, *, client_id: str, redis_url: str = REDIS_URL, config: RedisClientConfig | None = None) -> None:
        self.client_id = client_id
        self.redis_url = redis_url
        self._config = config or RedisClientConfig()
        self._connections, self._executor = open_redis(redis_url, self._config)
        self.client: Redis = self._connections.commands
        self._lifecycle = asyncio.Lock()
        self._started = False

    def __repr__(self) -> str:
        address = mask_url_credentials(self.redis_url)
        return f"QueueRedisClient(client_id={self.client_id!r}, redis_url={address!r}, started={self._started})"

    # --- life ---

    async def start(self) -> None:
        """Reach the server; does nothing when started.

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
            self._started = True
        address = mask_url_credentials(self.redis_url)
        logger.info("redis_queue_client_started", client_id=self.client_id, address=address)

    async def stop(self) -> None:
        """Close all connections, within the stop time-out; errors are logged, counted and swallowed."""
        async with self._lifecycle:
            was_started, self._started = self._started, False
            try:
                await self._executor.aclose(self._config.stop_timeout_s)
                await self._connections.aclose()
            except Exception as error:  # noqa: BLE001  # the contract: stop() never raises
                note_redis_swallowed(self.client_id, "stop", error)
        if was_started:
            logger.info("redis_queue_client_stopped", client_id=self.client_id)

    async def ping(self) -> bool:
        """Whether Redis answers. Unlike `RedisClient.ping` it raises when Redis cannot be reached.

        Raises:
            redis.exceptions.RedisError: It cannot.
        """
        if not self._started:
            logger.warning("redis_queue_client_used_before_start", client_id=self.client_id)
            await self.start()
        return bool(await self._command("ping", lambda redis: redis.ping()))

    # --- the queue: a sorted set ---

    async def zadd(self, key: str, mapping: dict[str, float]) -> int:
        """Add members with their scores (``mapping``) to a sorted set; the number that were new, without those whose score changed."""
        return expect(int, await self._command("zadd", lambda redis: redis.zadd(key, mapping)), "zadd")

    async def zrem(self, key: str, *members: str) -> int:
        """Remove members from a sorted set; the number removed."""
        return expect(int, await self._command("zrem", lambda redis: redis.zrem(key, *members)), "zrem")

    async def zcard(self, key: str) -> int:
        """Size of a sorted set."""
        return expect(int, await self._command("zcard", lambda redis: redis.zcard(key)), "zcard")

    @overload
    async def zrange(self, key: str, start: int, end: int, *, withscores: Literal[False] = False) -> list[str]: ...

    @overload
    async def zrange(self, key: str, start: int, end: int, *, withscores: Literal[True]) -> list[tuple[str, float]]: ...

    @overload
    async def zrange(
        self, key: str, start: int, end: int, *, withscores: bool
    ) -> list[str] | list[tuple[str, float]]: ...

    async def zrange(
        self, key: str, start: int, end: int, *, withscores: bool = False
    ) -> list[str] | list[tuple[str, float]]:
        """A slice of a sorted set by rank, lowest score first, both ends included.

        Args:
            key: The set.
            start: Rank of the first member, from 0; negative ones count from the end.
            end: Rank of the last one; -1 is the end.
            withscores: Give pairs of member and score.
        """
        found = await self._command("zrange", lambda redis: redis.zrange(key, start, end, withscores=withscores))
        members: list[Any] = expect(list, found, "zrange")
        return [(member, float(score)) for member, score in members] if withscores else members

    async def get_queue_items(self, queue_key: str, count: int) -> list[str]:
        """Ids of the first ``count`` items, lowest score first.

        Raises:
            ValueError: ``count`` is negative.
        """
        return await self.zrange(queue_key, 0, count - 1) if _wants_any(count) else []

    async def get_queue_items_with_priorities(self, queue_key: str, count: int) -> list[QueueItem]:
        """The first ``count`` items with their scores, lowest first.

        Raises:
            ValueError: ``count`` is negative.
        """
        pairs = await self.zrange(queue_key, 0, count - 1, withscores=True) if _wants_any(count) else []
        return [QueueItem.from_redis_tuple(pair) for pair in pairs]

    # --- what is queued: hashes and keys; on a cluster the driver's own delete() and exists() start pipelines ---

    async def hset(self, key: str, field: str, value: str) -> int:
        """Set one field of a hash; 1 when new, 0 when updated."""
        return expect(int, await self._command("hset", lambda redis: redis.hset(key, field, value)), "hset")

    async def hget(self, key: str, field: str) -> str | None:
        """One field of a hash, or ``None``."""
        return cast("str | None", await self._command("hget", lambda redis: redis.hget(key, field)))

    async def hmget(self, key: str, *fields: str) -> list[str | None]:
        """Several fields of a hash, in the order asked; ``None`` for each that is absent."""
        self._require_started()
        if not fields:
            return []
        return expect(list, await self._command("hmget", lambda redis: redis.hmget(key, list(fields))), "hmget")

    async def hdel(self, key: str, *fields: str) -> int:
        """Remove fields of a hash; the number removed."""
        return expect(int, await self._command("hdel", lambda redis: redis.hdel(key, *fields)), "hdel")

    async def hexists(self, key: str, field: str) -> bool:
        """Whether a hash has the field."""
        return bool(await self._command("hexists", lambda redis: redis.hexists(key, field)))

    async def hkeys(self, key: str) -> list[str]:
        """Names of a hash's fields."""
        return expect(list, await self._command("hkeys", lambda redis: redis.hkeys(key)), "hkeys")

    async def hgetall(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when the key is absent."""
        return expect(dict, await self._command("hgetall", lambda redis: redis.hgetall(key)), "hgetall")

    async def exists(self, key: str) -> bool:
        """Whether the key exists."""
        return bool(await self._command("exists", lambda redis: _raw(redis, "EXISTS", key)))

    async def delete(self, key: str) -> int:
        """Delete one key; the number deleted, 0 or 1."""
        return expect(int, await self._command("delete", lambda redis: _raw(redis, "DEL", key)), "delete")

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        """Set ``key`` with a time to live; the argument order is key, ttl, value."""
        return bool(await self._command("setex", lambda redis: redis.set(key, value, ex=ttl_seconds)))

    def pipeline(self) -> QueueRedisPipeline:
        """A new transaction, with nothing queued."""
        self._require_started()
        return QueueRedisPipeline(TransactionPipeline(self._connections.transactions), self.client_id)

    # --- inside ---

    def _require_started(self) -> None:
        if not self._started:
            raise RuntimeError(f"Queue Redis client '{self.client_id}' is not running.")

    async def _command(self, operation: str, send: Callable[[Redis], Awaitable[_Reply]]) -> _Reply:
        self._require_started()
        try:
            return await send(self.client)
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self.client_id, operation, error)
            raise


async def _raw(redis: Redis, *words: str) -> Any:
    return await redis.execute_command(*words)  # type: ignore[no-untyped-call]  # the driver has no hint there


def _wants_any(count: int) -> bool:
    """Whether any item is wanted: Redis would read the end -1 of "none" as the whole queue."""
    if count < 0:
        raise ValueError(f"count must not be negative, got {count}; 0 asks for nothing")
    return count > 0
