"""What Redis runs as one: transactional pipelines and Lua scripts.

`RedisClient` hands out the pipelines, which are redis-py's own except that they
give their connection back even when they are forgotten, and runs its scripts
here. Knows nothing of starting and stopping.
"""

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor import Command, commands
from huleedu_service_libs.logging_utils import create_service_logger

with requires_extra("redis", module=__name__):
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline
    from redis.exceptions import NoScriptError

__all__ = ["Scripts", "Submit", "TransactionPipeline", "open_pipeline"]

logger = create_service_logger("huleedu_service_libs.redis")

_giving_back: set[asyncio.Task[None]] = set()


class Submit(Protocol):
    """Sends one command."""

    def __call__(self, command: Command, /, *args: Any) -> Awaitable[Any]:
        """Its raw answer."""
        ...


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


async def open_pipeline(client: Redis, watch_keys: tuple[str, ...]) -> TransactionPipeline:
    """A pipeline that already watches ``watch_keys``; when that fails, its connection is given back."""
    pipeline = TransactionPipeline(client)
    if watch_keys:
        try:
            await pipeline.watch(*watch_keys)
        except BaseException:
            await pipeline.reset()  # type: ignore[no-untyped-call]  # the driver has no hint there
            raise
    return pipeline


class Scripts:
    """Lua scripts that one client has registered, kept so that a server that lost one gets it again.

    Args:
        client_id: Name in logs.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = client_id
        self._bodies: dict[str, str] = {}

    async def register(self, submit: Submit, body: str) -> str:
        """Load a script; its SHA-1."""
        sha = str(await submit(commands.SCRIPT_LOAD, body))
        self._bodies[sha] = body
        return sha

    async def run(self, submit: Submit, sha: str, keys: list[str], args: list[Any]) -> Any:
        """Run a script; one that the server has lost is loaded again first, as nothing ran before that.

        Raises:
            redis.exceptions.NoScriptError: Neither the server nor this object knows ``sha``.
        """
        try:
            return await submit(commands.EVALSHA, sha, len(keys), *keys, *args)
        except NoScriptError:
            body = self._bodies.get(sha)
            if body is None:
                raise
            logger.info("Redis lost a script; loading it again", client_id=self._client_id, sha=sha)
            await submit(commands.SCRIPT_LOAD, body)
            return await submit(commands.EVALSHA, sha, len(keys), *keys, *args)


async def _give_back(pool: Any, connection: Any) -> None:
    try:
        await connection.disconnect()  # also ends the WATCH
    finally:
        await pool.release(connection)
