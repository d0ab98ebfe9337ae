"""One phase: a fresh database and topic, processes at work, something done to them, and a verdict."""

import asyncio
from uuid import uuid4

from chaos.consumers import CONCURRENCY
from chaos.hunt import READY_LIMIT_S, hunt, plan_of
from chaos.lab import Lab
from chaos.tables import EFFECTS, ORDERS, create_tables, create_topic, waiting, written
from chaos.world import Phase, Result, World
from huleedu_service_libs import _clock
from huleedu_service_libs.testing.chaos.oracle import Verdict, judge
from huleedu_service_libs.testing.chaos.readback import read_arrivals, read_effects, read_written

__all__ = ["run"]

_WARM_S = 1.0
_WARM_LIMIT_S = 30.0
_WARM_EVENTS = 100
_DRAIN_LIMIT_S = 90.0
_DRAIN_LOOK_S = 0.3


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
        await world.fill(slot, plan_of(world.phase) if slot in victims else None)
    for slot in set(slots) - set(victims):
        await world.slots[slot].wait_ready(READY_LIMIT_S)


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
    await asyncio.gather(*(hunt(world, slot) for slot in _victims(phase)))
    if phase.role is None:
        await _warm_up(world)
    for _ in range(phase.strokes if phase.stroke else 0):
        assert phase.stroke is not None  # noqa: S101  # see the range
        await phase.stroke(world)
        await _clock.sleep(_WARM_S)


async def _warm_up(world: World) -> None:
    """Let enough happen for something to go wrong, also on a slow machine."""
    deadline = _clock.monotonic() + _WARM_LIMIT_S
    await _clock.sleep(_WARM_S)
    while await written(world.database) < _WARM_EVENTS and _clock.monotonic() < deadline:
        await _clock.sleep(_DRAIN_LOOK_S)


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
        await _clock.sleep(_DRAIN_LOOK_S)
    return False


async def _judged(world: World) -> Verdict:
    return judge(
        await read_written(world.database, ORDERS),
        await read_arrivals(world.lab.stack.kafka.address, world.topic),
        await read_effects(world.database, EFFECTS) if world.phase.effects else None,
        world.kills,
        unconfirmed=CONCURRENCY if world.phase.memory == "redis" else 0,
    )
