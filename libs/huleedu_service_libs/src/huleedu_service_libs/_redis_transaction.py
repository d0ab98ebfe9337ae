"""What Redis runs as one: transactional pipelines, and optimistic transactions with their retries.

`RedisClient` hands them out. They are redis-py's own pipelines, except that they give their connection back even
when they are forgotten, and tell a lost connection from a lost race. Knows nothing of starting and stopping.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, Self, cast

from huleedu_service_libs._backoff import FULL_JITTER, grown, spread
from huleedu_service_libs._clock import Sleep
from huleedu_service_libs._clock import sleep as real_sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_executor import ReplyLostError
from huleedu_service_libs._tasks import begin

with requires_extra("redis", module=__name__):
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.client import Pipeline
    from redis.exceptions import ConnectionError as RedisConnectionError
    from redis.exceptions import MovedError, WatchError
    from redis.exceptions import TimeoutError as RedisTimeoutError

__all__ = ["Transaction", "TransactionConflictError", "TransactionPipeline", "open_pipeline", "transact"]

_FIRST_PAUSE_S = 0.002
_LONGEST_PAUSE_S = 0.1


class TransactionConflictError(WatchError):
    """Somebody else wrote to a watched key: nothing of the transaction has run.

    Attributes:
        keys: What was watched.
        attempts: How often it was tried.
    """

    def __init__(self, keys: tuple[str, ...], attempts: int = 1) -> None:
        super().__init__(keys, attempts)
        self.keys = keys
        self.attempts = attempts

    def __str__(self) -> str:
        times = "" if self.attempts == 1 else f" in each of {self.attempts} attempts"
        return f"Another client wrote to one of {', '.join(self.keys)}{times}; nothing has run. Read again and retry"


class Routing(Protocol):
    """What a client of a cluster has, so that a transaction finds the node that has its keys."""

    def keys_of(self, words: Sequence[Any]) -> tuple[str, ...]:
        """The keys of a command."""
        ...

    def check(self, keys: Sequence[str]) -> None:
        """Raise when no node has all of them."""
        ...

    async def pool_for(self, keys: Sequence[str]) -> ConnectionPool:
        """The pool of the node that has them."""
        ...

    def doubt(self) -> None:
        """It was the wrong node: ask anew."""
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
        self._routing: Routing | None = cast("Routing", client) if hasattr(client, "pool_for") else None
        self._keys: tuple[str, ...] = ()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """See the driver. On a cluster keys that do not share a slot are refused here, before anything is sent."""
        if self._routing is not None:
            keys = (*self._keys, *self._routing.keys_of(args))
            self._routing.check(keys)
            self._keys = keys
        return super().execute_command(*args, **options)

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """See the driver. A connection that broke while keys were watched is a `WatchError`."""
        await self._settle()
        await self._check_watch()
        return await super().immediate_execute_command(*args, **options)  # type: ignore[no-untyped-call]  # no hint

    async def reset(self) -> None:  # type: ignore[override]  # the driver has two of that name
        """See the driver."""
        await super().reset()  # type: ignore[no-untyped-call]  # the driver has no hint there
        self._keys = ()

    async def _settle(self) -> None:
        """On a cluster: use the pool of the node that has the keys."""
        if self._routing is not None and self.connection is None:
            self.connection_pool = await self._routing.pool_for(self._keys)

    async def _check_watch(self) -> None:
        """Raise when the connection that watched is closed: the driver would connect anew, and watch nothing.

        A command that is cancelled closes it, as by a time limit around a read, and so does stopping the client.
        """
        if self.watching and self.connection is not None and not self.connection.is_connected:
            self.watching = False
            await self.reset()
            raise WatchError("the connection was closed while keys were watched; nothing has run")

    def setex(self, name: Any, time: Any, value: Any) -> Any:
        """``SET name value EX time``: the driver deprecates its own ``setex`` with a warning at every call."""
        return self.set(name, value, ex=time)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT001, FBT002  # the driver's signature
        """Run what was queued.

        Raises:
            redis.exceptions.WatchError: A watched key has changed; nothing has run.
            ReplyLostError: The connection broke. The driver calls that a lost race, too, if keys were watched; but
                the transaction may have run, and whoever tries again would do it twice.
            redis.exceptions.RedisError: As the driver raises it.
        """
        if self.command_stack:
            await self._settle()
        await self._check_watch()
        try:
            return await super().execute(raise_on_error)
        except MovedError:
            if self._routing is not None:
                self._routing.doubt()
            raise
        except WatchError as error:
            cause = error.__context__
            if isinstance(cause, RedisConnectionError | RedisTimeoutError):
                raise ReplyLostError("EXEC", str(cause)) from cause
            raise

    def __del__(self) -> None:  # type: ignore[override]  # the base takes arguments that nobody passes
        connection, self.connection = getattr(self, "connection", None), None
        if connection is None:
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return  # the loop is gone, and the connection with it
        _ = begin(_give_back(self.connection_pool, connection), name="redis-give-back")


async def open_pipeline(client: Redis, watch_keys: tuple[str, ...]) -> TransactionPipeline:
    """A pipeline that already watches ``watch_keys``; when that fails, its connection is given back."""
    pipeline = TransactionPipeline(client)
    if watch_keys:
        try:
            await pipeline.watch(*watch_keys)
        except BaseException:
            await pipeline.reset()
            raise
    return pipeline


class Transaction(TransactionPipeline):
    """An optimistic transaction on a connection of its own: ``watch``, read, ``multi``, queue, ``exec``.

    Leaving ``async with`` gives the connection back, whatever has happened.

    Args:
        client: Whose pool it uses.
        keys: Watched from the beginning of the block.

    Attributes:
        watched: All keys that are watched or were.
    """

    def __init__(self, client: Redis, keys: tuple[str, ...]) -> None:
        super().__init__(client)
        self.watched = keys

    async def __aenter__(self) -> Self:
        if self.watched:
            await super().watch(*self.watched)
        return self

    async def watch(self, *names: Any) -> Any:  # type: ignore[override]  # the driver's hints say None
        """Watch further keys, before `multi`."""
        self.watched += tuple(str(name) for name in names)
        return await super().watch(*names)

    async def exec(self) -> list[Any]:
        """Run what was queued since `multi`, all of it or nothing.

        Returns:
            One reply for each command.

        Raises:
            TransactionConflictError: A watched key has changed; nothing has run.
            ReplyLostError: The connection broke: it may have run or not.
            redis.exceptions.RedisError: As the driver raises it.
        """
        try:
            return await self.execute()
        except WatchError as error:
            raise TransactionConflictError(self.watched) from error


async def transact(
    begin: Callable[[], Transaction],
    keys: tuple[str, ...],
    work: Callable[[Transaction], Awaitable[None]],
    *,
    attempts: int,
    sleep: Sleep = real_sleep,
    draw: Callable[[], float] = random.random,
) -> list[Any]:
    """Run an optimistic transaction, again when it lost the race; see `RedisClient.transact`."""
    for attempt in range(1, attempts + 1):
        try:
            async with begin() as transaction:
                await work(transaction)
                return await transaction.exec()
        except WatchError as error:  # also when the connection broke while keys were watched: nothing was sent yet
            if attempt == attempts:
                raise TransactionConflictError(keys, attempts) from error
        longest = grown(attempt, first=_FIRST_PAUSE_S, longest=_LONGEST_PAUSE_S)
        await sleep(spread(longest, draw(), FULL_JITTER))  # at random, so that rivals don't meet again
    raise ValueError(f"attempts must be positive, got {attempts}")


async def _give_back(pool: Any, connection: Any) -> None:
    try:
        await connection.disconnect()  # also ends the WATCH
    finally:
        await pool.release(connection)
