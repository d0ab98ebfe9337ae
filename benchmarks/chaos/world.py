"""What a phase is, and what it works on: servers, processes at work, and what was killed so far."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.lab import Lab
from chaos.points import CONSUMER
from huleedu_service_libs import _clock
from huleedu_service_libs.testing.chaos.nursery import Child
from huleedu_service_libs.testing.chaos.oracle import Kill, Verdict
from huleedu_service_libs.testing.chaos.points import CrashPlan

__all__ = ["BATCH", "Phase", "Result", "Stroke", "World"]

BATCH = 50
_KEYS = 40
_PAUSES_S = {CONSUMER: 0.1}  # between two transactions of a writer: what came during a recovery is soon worked off
_PAUSE_S = 0.008  # where relays die: their batches are full

Stroke = Callable[["World"], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """What is done.

    Attributes:
        name: Stands in the table.
        role: Whose processes die at the point; None for none.
        point: The crash point, where it is not ``name``.
        stroke: What is done to servers or the network, over and over.
        strokes: How many kills or strokes; filled in by the caller.
        seconds: After which no further one begins.
        effects: Whether consumers run and their effects are judged.
        memory: Of the consumers: the inbox, or Redis alone.
        static: Whether consumers have static ids.
        sabotage: Makes a role wrong on purpose.
        sabotaged: Which one.
        finds: What the oracle must find then.
    """

    name: str
    role: str | None = None
    point: str = ""
    stroke: Stroke | None = None
    strokes: int = 1
    seconds: float = float("inf")
    effects: bool = False
    memory: str = "inbox"
    static: bool = False
    sabotage: str = ""
    sabotaged: str = ""
    finds: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """A phase and what it came to.

    Attributes:
        phase: The phase.
        kills: What was killed, and when.
        missed: Processes that did not come to their crash point in time.
        drained: Whether everything was done in the end within the time for that.
        verdict: The oracle's.
    """

    phase: Phase
    kills: Sequence[Kill]
    missed: int
    drained: bool
    verdict: Verdict


@dataclass(kw_only=True)
class World:
    """What a phase works on.

    Attributes:
        lab: Servers, proxies, nursery.
        phase: What is done.
        database: Direct address of the database.
        topic: The topic.
        slots: The running process of each place, by name.
        kills: What was killed so far.
        missed: Crash points that were not reached in time.
    """

    lab: Lab
    phase: Phase
    database: str
    topic: str
    slots: dict[str, Child] = field(default_factory=dict)
    kills: list[Kill] = field(default_factory=list)
    missed: int = 0

    async def fill(self, slot: str, plan: CrashPlan | None = None) -> Child:
        """Start the process of a place."""
        role = slot.partition("-")[0]
        options = {"producer": self._producer, "relay": self._relay, "consumer": self._consumer}[role](slot)
        target = {"producer": "roles:produce", "relay": "roles:relay", "consumer": "consumers:consume"}[role]
        child = await self.lab.nursery.spawn(f"chaos.{target}", name=slot, plan=plan, **options)
        self.slots[slot] = child
        return child

    def note(self, child: Child | None = None) -> None:
        """Note a kill: of the child, when it ended; without one, now."""
        at = child.ended_at if child is not None and child.ended_at else _clock.utc_now().timestamp()
        self.kills.append(Kill(point=self.phase.name, at=at, process=str(child.pid) if child is not None else ""))

    def _producer(self, slot: str) -> dict[str, Any]:
        keys = [f"{slot}-{number}" for number in range(_KEYS // 2)]
        return {
            "postgres": self.lab.postgres_address(self.database),
            "topic": self.topic,
            "keys": keys,
            "pause": _PAUSES_S.get(self.phase.role or "", _PAUSE_S),
        }

    def _relay(self, _: str) -> dict[str, Any]:
        return {
            "postgres": self.lab.postgres_address(self.database),
            "kafka": self.lab.kafka_address,
            "batch_size": BATCH,
            "sabotage": self.phase.sabotage if self.phase.sabotaged == "relay" else "",
        }

    def _consumer(self, slot: str) -> dict[str, Any]:
        return {
            "postgres": self.lab.postgres_address(self.database),
            "kafka": self.lab.kafka_address,
            "redis": self.lab.redis.url,
            "topic": self.topic,
            "memory": self.phase.memory,
            "static_id": slot if self.phase.static else None,
            "sabotage": self.phase.sabotage if self.phase.sabotaged == "consumer" else "",
        }
