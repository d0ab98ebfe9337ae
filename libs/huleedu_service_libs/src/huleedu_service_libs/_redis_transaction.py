"""A transactional pipeline that gives its connection back even when it is forgotten.

`RedisClient.create_transaction_pipeline` hands it out; otherwise it is
redis-py's own pipeline.
"""

import asyncio
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

__all__ = ["TransactionPipeline"]

_giving_back: set[asyncio.Task[None]] = set()


class TransactionPipeline(Pipeline):
    """Watches keys, queues commands, runs them as one ``MULTI``/``EXEC``.

    ``execute()`` and leaving ``async with`` return the connection. A caller that does neither,
    because something raised in between, would keep one for ever: the pool counts it as lent. So
    the garbage collector returns it as well.

    Args:
        client: Whose pool it uses.
    """

    def __init__(self, client: Redis) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction=True, shard_hint=None)

    def setex(self, name: Any, time: Any, value: Any) -> Any:
        """``SET name value EX time``: the driver deprecates its own ``setex`` with a warning at every call."""
        return self.set(name, value, ex=time)

    def __del__(self) -> None:  # type: ignore[override]  # the base takes arguments that nobody passes
        connection, self.connection = getattr(self, "connection", None), None
        if connection is None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # the loop is gone, and the connection with it
        task = loop.create_task(_give_back(self.connection_pool, connection))
        _giving_back.add(task)
        task.add_done_callback(_giving_back.discard)


async def _give_back(pool: Any, connection: Any) -> None:
    try:
        await connection.disconnect()  # also ends the WATCH
    finally:
        await pool.release(connection)
