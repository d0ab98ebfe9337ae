"""One phase: a fresh database and topic, processes at work, something done to them, and a verdict."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg

from chaos import points as at
from chaos.lab import Lab
from chaos.tables import EFFECTS, ORDERS, create_tables, create_topic, waiting
from huleedu_service_libs import _clock
from huleedu_service_libs.testing.chaos.nursery import Child, ChildError
from huleedu_service_libs.testing.chaos.oracle import Kill, Verdict, judge
from huleedu_service_libs.testing.chaos.points import Action, CrashPlan
from huleedu_service_libs.testing.chaos.readback import read_arrivals, read_effects, read_written

__all__ = ["BATCH", "Phase", "Result", "World", "run"]

BATCH = 50
_KEYS = 40
_PAUSE_S = 0.008  # between two transactions of a writer
_WARM_S = 1.0
_READY_LIMIT_S = 30.0
_PATIENCE_S = 40.0  # from the start to the crash point
_DRAIN_LIMIT_S = 90.0
_MISSES = 2  # crash points that may not be reached in time before a phase is given up
_ERROR_LENGTH = 600

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

    def note(self, at_: float | None = None) -> None:
        """Note a kill."""
        self.kills.append(Kill(point=self.phase.name, at=at_ or _now()))

    def _producer(self, slot: str) -> dict[str, Any]:
        keys = [f"{slot}-{number}" for number in range(_KEYS // 2)]
        return {
            "postgres": self.lab.postgres_address(self.database),
            "topic": self.topic,
            "keys": keys,
            "pause": _PAUSE_S,
        }

    def _relay(self, _: str) -> dict[str, Any]:
        return {
            "postgres": self.lab.postgres_address(self.database),
            "kafka": self.lab.kafka_address,
            "batch_size": BATCH,
            "sabotage": self.phase.sabotage if self.phase.sabotaged == "relay" else "",
        }

    def _consumer(self, _: str) -> dict[str, Any]:
        return {
            "postgres": self.lab.postgres_address(self.database),
            "kafka": self.lab.kafka_address,
            "redis": self.lab.redis.url,
            "topic": self.topic,
            "sabotage": self.phase.sabotage if self.phase.sabotaged == "consumer" else "",
        }


async def run(lab: Lab, phase: Phase) -> Result:
    """Carry a phase out."""
    database = await asyncio.to_thread(lab.stack.postgres.create_database)
    world = World(lab=lab, phase=phase, database=database, topic=f"orders-{uuid4().hex[:8]}")
    await create_tables(database)
    await create_topic(lab.stack.kafka.address, world.topic, min(3, lab.stack.kafka.node_count))
    try:
        await _start(world)
        await _torment(world)
        for proxy in lab.proxies:
            proxy.heal()
        await _end(world, "producer")
        drained = await _drained(world)
        await _end(world, "relay")
        await _end(world, "consumer")
        verdict = await _judged(world)
    finally:
        for child in world.slots.values():
            child.kill()
        await asyncio.to_thread(lab.stack.postgres.drop_database, database)
        await asyncio.to_thread(lab.stack.kafka.delete_topic, world.topic)
    return Result(phase=phase, kills=world.kills, missed=world.missed, drained=drained, verdict=verdict)


async def _start(world: World) -> None:
    roles = ("consumer", "relay", "producer") if world.phase.effects else ("relay", "producer")
    slots = [f"{role}-{number}" for role in roles for number in (1, 2)]
    victims = _victims(world.phase)
    for slot in slots:
        await world.fill(slot, _plan(world.phase) if slot in victims else None)
    for slot in set(slots) - set(victims):
        await world.slots[slot].wait_ready(_READY_LIMIT_S)


def _victims(phase: Phase) -> list[str]:
    """Whose places are hunted: both of a role, unless one kill is enough; of consumers one.

    A group whose members all die within its session time-out stands still, and the time to recover were the
    time of the killing.
    """
    if phase.role is None:
        return []
    both = phase.strokes > 1 and phase.role != "consumer"
    return [f"{phase.role}-{number}" for number in ((1, 2) if both else (1,))]


async def _torment(world: World) -> None:
    phase = world.phase
    await asyncio.gather(*(_hunt(world, slot) for slot in _victims(phase)))
    await _clock.sleep(_WARM_S if phase.role is None else 0.0)
    for _ in range(phase.strokes if phase.stroke else 0):
        assert phase.stroke is not None  # noqa: S101  # see the range
        await phase.stroke(world)
        await _clock.sleep(_WARM_S)


async def _hunt(world: World, slot: str) -> None:
    """Kill the process of a place at the phase's point and fill the place again, until there were kills enough."""
    most_missed = _MISSES + world.phase.strokes // 10
    deadline = _clock.monotonic() + world.phase.seconds
    while True:
        child = world.slots[slot]
        try:
            await _strike(world, child)
        except ChildError as error:
            print(f"  {world.phase.name}: {error}"[:_ERROR_LENGTH])
            world.missed += 1
        child.kill()
        await child.wait_end()
        enough = len(world.kills) >= world.phase.strokes or world.missed > most_missed
        if enough or _clock.monotonic() >= deadline:
            break
        await world.fill(slot, _plan(world.phase))
    child = await world.fill(slot)
    await child.wait_ready(_READY_LIMIT_S)


def _plan(phase: Phase) -> CrashPlan:
    point = phase.point or phase.name
    if point in at.FROZEN:
        where = random.choice(at.FROZEN[point])  # noqa: S311  # no secret
        return CrashPlan(point=where, hit=random.randint(*at.hits_of(where)), action=Action.STOP)  # noqa: S311
    return CrashPlan(point=point, hit=random.randint(*at.hits_of(point)))  # noqa: S311


async def _strike(world: World, child: Child) -> None:
    """Have the process reach its point; what the point needs from outside is done here."""
    point = world.phase.point or world.phase.name
    if point in at.FROZEN:
        await _lose_session(world, child)
        return
    if point in at.AT_SIGTERM:
        await child.wait_ready(_READY_LIMIT_S)
        await _clock.sleep(random.uniform(0.5, 1.5))  # noqa: S311  # a relay owns lanes within a second
        child.terminate()
    if point == at.REBALANCE:
        await _have_somebody_join(world, child)
    await child.wait_struck(_PATIENCE_S)
    await child.wait_end()
    world.note(child.ended_at)


async def _have_somebody_join(world: World, child: Child) -> None:
    with suppress(ChildError):  # struck before it was ready, by the rebalance of another one's death
        await child.wait_ready(_READY_LIMIT_S)
    other = await world.fill(f"consumer-{child.pid}")
    with suppress(ChildError):
        await child.wait_end(_PATIENCE_S)
    other.terminate()
    await other.wait_end()


async def _lose_session(world: World, child: Child) -> None:
    """A host freezes with a batch in hand, the server ends its session, others take over, and it wakes."""
    await child.wait_stopped(_PATIENCE_S)
    world.note()
    connection = await asyncpg.connect(world.database)
    ended = await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1",
        f"{world.phase.role}-{child.pid}",
    )
    await connection.close()
    if not ended:
        raise ChildError(child.name, "had no session to lose", child.log)
    await _clock.sleep(random.uniform(0.1, 1.6))  # noqa: S311
    child.send(signal.SIGCONT)
    await _clock.sleep(random.uniform(0.1, 0.5))  # noqa: S311  # time to do damage


async def _end(world: World, role: str) -> None:
    """End the processes of a role in order."""
    children = [child for slot, child in world.slots.items() if slot.startswith(role)]
    for child in children:
        child.terminate()
    for child in children:
        await child.wait_end()


async def _drained(world: World) -> bool:
    deadline = _clock.monotonic() + _DRAIN_LIMIT_S
    while _clock.monotonic() < deadline:
        if not await waiting(world.database, effects=world.phase.effects):
            return True
        await _clock.sleep(0.1)
    return False


async def _judged(world: World) -> Verdict:
    return judge(
        await read_written(world.database, ORDERS),
        await read_arrivals(world.lab.stack.kafka.address, world.topic),
        await read_effects(world.database, EFFECTS) if world.phase.effects else None,
        world.kills,
    )


def _now() -> float:
    return _clock.utc_now().timestamp()
