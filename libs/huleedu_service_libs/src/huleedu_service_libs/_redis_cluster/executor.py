"""Sends each command to the node that has its keys, and follows when slots move.

It has the methods of `_redis_executor.Executor` that the client calls. Each node has an executor of its own, so commands
for one node share round trips.
"""

import asyncio
from typing import Any

from huleedu_service_libs._clock import Sleep
from huleedu_service_libs._clock import sleep as real_sleep
from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redis_cluster.keys import keys_of, shared_slot
from huleedu_service_libs._redis_cluster.nodes import Node, Nodes
from huleedu_service_libs._redis_executor import Command, RedisOverloadedError, ReplyLostError, commands
from huleedu_service_libs._tasks import attended

with requires_extra("redis", module=__name__):
    from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError
    from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["ClusterExecutor"]

_ASKING = Command(words=("ASKING",), repeatable=False, name="ASKING")
_REDIRECTIONS = 8
_PAUSE_S = 0.05


class ClusterExecutor:
    """See the module.

    Args:
        nodes: The nodes.
        sleep: Waits while slots are on their way.
    """

    def __init__(self, nodes: Nodes, *, sleep: Sleep = real_sleep) -> None:
        self._nodes = nodes
        self._sleep = sleep

    def submit(self, command: Command, *args: Any) -> "asyncio.Future[Any]":
        """Send a command; see `Executor.submit`.

        Raises:
            CrossSlotError: Its keys do not share a slot; nothing was sent.

        What is known later comes out of the future: `ClusterDownError` when nobody has that slot, and what `Executor.submit` tells of.
        """
        if command is commands.SCAN:
            return attended(self._scan(*args), name="redis-scan")
        if command is commands.SCRIPT_LOAD:
            return attended(self._everywhere(command, *args), name="redis-everywhere")
        slot = shared_slot(keys_of((*command.words, *args)))
        return attended(self._route(slot, command, args), name="redis-route")

    async def ping(self) -> None:
        """Ask whether every primary answers."""
        await self._everywhere(commands.PING)

    async def aclose(self, limit_s: float) -> None:
        """Wait for the replies to what was issued, so long at most, then close.

        Raises:
            TimeoutError: The limit was reached at one node; see `Executor.aclose`.
        """
        closing = (node.executor.aclose(limit_s) for node in self._nodes.all())
        outcomes = await asyncio.gather(*closing, return_exceptions=True)
        self._nodes.doubt()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    def cut(self) -> None:
        """Close at once; what is under way or waits gets an error."""
        for node in self._nodes.all():
            node.executor.cut()
        self._nodes.doubt()

    def forget(self) -> None:
        """Drop everything without a word: the loop that it belonged to is closed."""
        self._nodes.forget()

    async def _route(self, slot: int | None, command: Command, args: tuple[Any, ...]) -> Any:
        for _ in range(_REDIRECTIONS):
            node = await self._nodes.owner(slot)
            try:
                return await node.executor.submit(command, *args)
            except MovedError as error:
                self._nodes.moved(error.slot_id, (error.host, error.port))
            except AskError as error:
                return await self._ask(error, command, args)
            except TryAgainError:
                await self._sleep(_PAUSE_S)  # some of its keys have moved already
            except ClusterDownError:
                self._nodes.doubt()
                raise
            except RedisConnectionError as error:
                self._nodes.doubt()
                if not await self._has_successor(node, slot, error):
                    raise
        raise ClusterDownError(f"{command.name} was sent on {_REDIRECTIONS} times: slots are moving, try again")

    async def _has_successor(self, node: Node, slot: int | None, error: RedisConnectionError) -> bool:
        """Whether another node may be asked instead: nothing was sent to this one, and its slots are elsewhere now."""
        if isinstance(error, ReplyLostError | RedisOverloadedError):
            return False
        return await self._nodes.owner(slot) is not node

    async def _ask(self, moving: AskError, command: Command, args: tuple[Any, ...]) -> Any:
        """While a slot moves, the node that gets it answers this once; issued together, they stay together."""
        executor = self._nodes.at((moving.host, moving.port)).executor
        allowed, reply = executor.submit(_ASKING), executor.submit(command, *args)
        answers = await asyncio.gather(allowed, reply, return_exceptions=True)
        if isinstance(answers[1], BaseException):
            raise answers[1]
        return answers[1]

    async def _everywhere(self, command: Command, *args: Any) -> Any:
        answers = await asyncio.gather(
            *(node.executor.submit(command, *args) for node in await self._nodes.primaries()), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                self._nodes.doubt()
                raise answer
        return answers[0]

    async def _scan(self, cursor: str, *args: Any) -> list[Any]:
        """One page; the cursor is the number of a primary, a colon, and the cursor there."""
        number, _, there = str(cursor).rpartition(":")
        index = int(number or 0)
        primaries = await self._nodes.primaries()
        following, page = await primaries[index].executor.submit(commands.SCAN, there, *args)
        if str(following) != "0":
            return [f"{index}:{following}", page]
        return [f"{index + 1}:0" if index + 1 < len(primaries) else "0", page]
