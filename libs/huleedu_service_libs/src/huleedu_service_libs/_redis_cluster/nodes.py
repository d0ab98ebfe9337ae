"""The nodes of a cluster: connections and an executor for each, made when first needed, and the map of the slots."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs._redaction import error_text
from huleedu_service_libs._redis_cluster.slots import Place, SlotMap, read_slots
from huleedu_service_libs._redis_connections import RedisConnections
from huleedu_service_libs._redis_executor import Command, Executor
from huleedu_service_libs.logging_utils import create_service_logger

with requires_extra("redis", module=__name__):
    from redis.exceptions import ClusterDownError, RedisError
    from redis.exceptions import ConnectionError as RedisConnectionError

__all__ = ["ClusterUnreachableError", "Node", "Nodes"]

logger = create_service_logger("huleedu_service_libs.redis")

_CLUSTER_SLOTS = Command(words=("CLUSTER", "SLOTS"), repeatable=True, name="CLUSTER SLOTS")


class ClusterUnreachableError(RedisConnectionError):
    """No node of the cluster said who has which slot.

    Attributes:
        told: What each that was asked said.
    """

    def __init__(self, told: tuple[str, ...]) -> None:
        super().__init__(told)
        self.told = told

    def __str__(self) -> str:
        return (
            f"No node of the Redis Cluster answers ({'; '.join(self.told)}): "
            "does it run, and does the URL name nodes of it?"
        )


@dataclass(frozen=True, slots=True)
class Node:
    """One node.

    Attributes:
        connections: To it.
        executor: Sends it commands.
    """

    connections: RedisConnections
    executor: Executor


class Nodes:
    """All nodes that were needed so far.

    Args:
        seeds: Whom to ask first.
        make: Makes a node; opens nothing.
    """

    def __init__(self, seeds: tuple[Place, ...], make: Callable[[Place], Node]) -> None:
        self._seeds = seeds
        self._make = make
        self.forget()

    def forget(self) -> None:
        """Drop everything without a word: the loop that it belonged to is closed."""
        self._nodes: dict[Place, Node] = {}
        self._map = SlotMap()
        self._stale = True
        self._asking = asyncio.Lock()

    def at(self, place: Place) -> Node:
        """The node at a place."""
        node = self._nodes.get(place)
        if node is None:
            node = self._nodes[place] = self._make(place)
        return node

    def all(self) -> list[Node]:
        """Those that were needed so far."""
        return list(self._nodes.values())

    async def primaries(self) -> list[Node]:
        """Every primary, in a fixed order.

        Raises:
            ClusterUnreachableError: Nobody says who they are.
        """
        await self._know()
        return [self.at(place) for place in self._map.primaries]

    async def owner(self, slot: int | None) -> Node:
        """Who has the slot; any primary for ``None``.

        Raises:
            ClusterUnreachableError: Nobody says who has it.
            redis.exceptions.ClusterDownError: Nobody has it.
        """
        await self._know()
        place = self._map.owner(slot) if slot is not None else next(iter(self._map.primaries), None)
        if place is None:
            self._stale = True
            raise ClusterDownError(f"no node of the cluster has slot {slot}: see CLUSTER INFO on any of them")
        return self.at(place)

    def moved(self, slot: int, place: Place) -> None:
        """A node said that a slot is elsewhere now; others may be, too."""
        self._map.moved[slot] = place
        self._stale = True

    def doubt(self) -> None:
        """Ask who has what before the next command: a node has failed."""
        self._stale = True

    async def _know(self) -> None:
        if not self._stale:
            return
        async with self._asking:
            if self._stale:  # another caller may have asked meanwhile
                self._map = await self._ask()
                self._stale = False

    async def _ask(self) -> SlotMap:
        told: list[str] = []
        for place in dict.fromkeys((*self._map.primaries, *self._seeds)):
            try:
                answer = await self.at(place).executor.submit(_CLUSTER_SLOTS)
            except (RedisError, OSError) as error:
                told.append(f"{place[0]}:{place[1]}: {error_text(error)}")
                continue
            found = read_slots(answer, place[0])
            if found.places:
                return found
            told.append(f"{place[0]}:{place[1]} knows no slots")
        raise ClusterUnreachableError(tuple(told))
