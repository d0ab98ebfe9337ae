"""Commands of a queue that run together, as one ``MULTI``/``EXEC``.

``queue_redis_client`` hands it out; it knows nothing of connections.
"""

from typing import Any, Self, TypeVar

from huleedu_service_libs._client_metrics import log_redis_failure
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.queue_protocols import QueueRedisPipelineProtocol

with requires_extra("redis", module=__name__):
    from redis.asyncio.client import Pipeline
    from redis.exceptions import RedisError

__all__ = ["QueueRedisPipeline", "expect"]
_Expected = TypeVar("_Expected")


class QueueRedisPipeline(QueueRedisPipelineProtocol):
    """Commands that run together as one ``MULTI``/``EXEC``.

    Nothing is sent before `execute`. A failed `execute` has either run nothing or, when only the reply was
    lost, everything: it is not repeated behind the caller's back.

    Args:
        pipeline: The driver's, transactional.
        client_id: Name in logs.
    """

    def __init__(self, pipeline: Pipeline, client_id: str) -> None:
        self._pipeline = pipeline
        self._client_id = client_id

    def zadd(self, key: str, mapping: dict[str, float]) -> Self:
        """Queue ``ZADD``."""
        return self._queued(self._pipeline.zadd(key, mapping))

    def zrem(self, key: str, *members: str) -> Self:
        """Queue ``ZREM``."""
        return self._queued(self._pipeline.zrem(key, *members))

    def hset(self, key: str, field: str, value: str) -> Self:
        """Queue ``HSET`` of one field."""
        return self._queued(self._pipeline.hset(key, field, value))

    def hdel(self, key: str, *fields: str) -> Self:
        """Queue ``HDEL``."""
        return self._queued(self._pipeline.hdel(key, *fields))

    def delete(self, key: str) -> Self:
        """Queue ``DEL`` of one key."""
        return self._queued(self._pipeline.delete(key))

    def setex(self, key: str, ttl_seconds: int, value: str) -> Self:
        """Queue ``SET`` with a time to live in seconds."""
        return self._queued(self._pipeline.set(key, value, ex=ttl_seconds))

    async def execute(self) -> list[Any]:
        """Run what is queued; a reply for each command, in order. The pipeline is empty and usable afterwards.

        Raises:
            redis.exceptions.RedisError: Redis could not be reached, or one command failed; the others of a
                transaction have run even so.
            TypeError: The driver gave something else than a list.
        """
        try:
            replies = await self._pipeline.execute()
        except (RedisError, OSError, TimeoutError) as error:
            log_redis_failure(self._client_id, "execute", error)
            raise
        return expect(list, replies, "execute")

    def _queued(self, _reply: object) -> Self:
        return self


def expect(kind: type[_Expected], reply: Any, operation: str) -> _Expected:
    """``reply``, which is of that kind.

    Raises:
        TypeError: It is not; the text names the operation.
    """
    if not isinstance(reply, kind):
        raise TypeError(f"Redis answered {operation} with {type(reply).__name__}, expected {kind.__name__}")
    return reply
