"""Set commands on a driver client that somebody else owns (result_aggregator_service's cache index).

Knows nothing of starting and stopping.
"""

from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

from huleedu_service_libs._client_metrics import log_redis_failure
from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.exceptions import RedisError

__all__ = ["RedisSetOperations"]

_Reply = TypeVar("_Reply")


class RedisSetOperations:
    """Sets of strings.

    Args:
        client: The driver's client, with ``decode_responses=True``; for instance `RedisClient.client`.
        client_id: Name in logs.

    Attributes:
        client: As given.
        client_id: As given.
    """

    def __init__(self, client: Redis, client_id: str) -> None:
        self.client = client
        self.client_id = client_id

    async def sadd(self, key: str, *members: str) -> int:
        """Add members; the number that were new."""
        return await self._logged("sadd", self.client.sadd(key, *members))

    async def smembers(self, key: str) -> set[str]:
        """All members; empty when the key is absent."""
        return set(await self._logged("smembers", cast("Awaitable[Any]", self.client.smembers(key))))

    async def srem(self, key: str, *members: str) -> int:
        """Remove members; the number removed."""
        return await self._logged("srem", self.client.srem(key, *members))

    @asynccontextmanager
    async def pipeline(self) -> AsyncIterator[Pipeline]:
        """A pipeline for several commands in one transaction; ``await pipe.execute()`` runs them.

        Nothing runs by itself when the block ends.
        """
        async with self.client.pipeline(transaction=True) as pipe:
            yield pipe

    async def _logged(self, operation: str, command: Awaitable[_Reply]) -> _Reply:
        try:
            return await command
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self.client_id, operation, error)
            raise
