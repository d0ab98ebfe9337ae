"""The ports of a queue in Redis: a sorted set of ids and hashes of what is queued.

llm_provider_service binds `QueueRedisClientProtocol` in its container and builds
doubles from it; so, as in ``protocols``, members are not abstract and must not
grow. `queue_redis_client` has the implementation. Imports no driver.
"""

from typing import Any, Literal, Protocol, Self, overload

from huleedu_service_libs.queue_models import QueueItem

__all__ = ["QueueRedisClientProtocol", "QueueRedisPipelineProtocol"]


class QueueRedisPipelineProtocol(Protocol):
    """Commands that run as one transaction; each returns the pipeline, so that they chain."""

    def zadd(self, key: str, mapping: dict[str, float]) -> Self:
        """Queue ``ZADD``."""
        ...

    def zrem(self, key: str, *members: str) -> Self:
        """Queue ``ZREM``."""
        ...

    def hset(self, key: str, field: str, value: str) -> Self:
        """Queue ``HSET`` of one field."""
        ...

    def hdel(self, key: str, *fields: str) -> Self:
        """Queue ``HDEL``."""
        ...

    def delete(self, key: str) -> Self:
        """Queue ``DEL`` of one key."""
        ...

    def setex(self, key: str, ttl_seconds: int, value: str) -> Self:
        """Queue ``SET`` with a time to live."""
        ...

    async def execute(self) -> list[Any]:
        """Run what is queued, all of it or nothing; a reply for each command, in order."""
        ...


class QueueRedisClientProtocol(Protocol):
    """What a queue needs of Redis. Keys and values are ``str``."""

    async def start(self) -> None:
        """Reach the server."""
        ...

    async def stop(self) -> None:
        """Close the connections."""
        ...

    async def ping(self) -> bool:
        """Whether Redis answers; raises when it cannot be reached."""
        ...

    async def zadd(self, key: str, mapping: dict[str, float]) -> int:
        """Add scored members to a sorted set; the number that were new."""
        ...

    async def zrem(self, key: str, *members: str) -> int:
        """Remove members from a sorted set; the number removed."""
        ...

    async def zcard(self, key: str) -> int:
        """Size of a sorted set."""
        ...

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
        """A slice of a sorted set by rank, lowest score first, both ends included."""
        ...

    async def get_queue_items(self, queue_key: str, count: int) -> list[str]:
        """Ids of the first ``count`` items, lowest score first."""
        ...

    async def get_queue_items_with_priorities(self, queue_key: str, count: int) -> list[QueueItem]:
        """The first ``count`` items with their scores, lowest first."""
        ...

    async def hset(self, key: str, field: str, value: str) -> int:
        """Set one field of a hash; 1 when new, 0 when updated."""
        ...

    async def hget(self, key: str, field: str) -> str | None:
        """One field of a hash, or ``None``."""
        ...

    async def hmget(self, key: str, *fields: str) -> list[str | None]:
        """Several fields of a hash, in the order asked; ``None`` for each that is absent."""
        ...

    async def hdel(self, key: str, *fields: str) -> int:
        """Remove fields of a hash; the number removed."""
        ...

    async def hexists(self, key: str, field: str) -> bool:
        """Whether a hash has the field."""
        ...

    async def hkeys(self, key: str) -> list[str]:
        """Names of a hash's fields."""
        ...

    async def hgetall(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when the key is absent."""
        ...

    async def exists(self, key: str) -> bool:
        """Whether the key exists."""
        ...

    async def delete(self, key: str) -> int:
        """Delete one key; the number deleted, 0 or 1."""
        ...

    async def setex(self, key: str, ttl_seconds: int, value: str) -> bool:
        """Set ``key`` with a time to live."""
        ...

    def pipeline(self) -> QueueRedisPipelineProtocol:
        """A new transaction, with nothing queued."""
        ...
