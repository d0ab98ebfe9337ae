"""The hunt: the process of a place dies at the phase's point, again and again, and the place is filled again."""

import random
import signal
from contextlib import suppress

import asyncpg

from chaos import points as at
from chaos.tables import waiting
from chaos.world import Phase, World
from huleedu_service_libs import _clock
from huleedu_service_libs.testing.chaos.nursery import Child, ChildError
from huleedu_service_libs.testing.chaos.points import Action, CrashPlan

__all__ = ["READY_LIMIT_S", "calm", "hunt", "plan_of"]

READY_LIMIT_S = 60.0
_STARTS = 3  # of the last process of a place, on a machine on which one may take too long
_PATIENCE_S = 40.0  # from the start to the crash point
_CALM_LIMIT_S = 60.0
_CALM_BETWEEN_S = 10.0
_CALM_LOOK_S = 0.3
_MISSES = 2  # crash points that may not be reached in time before a phase is given up
_ERROR_LENGTH = 600
_IN_A_ROW = 0.25  # share of deaths that come while the one before is not got over


async def hunt(world: World, slot: str) -> None:
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
        await world.fill(slot, plan_of(world.phase))
    await _fill_for_good(world, slot)


async def _fill_for_good(world: World, slot: str) -> None:
    for left in range(_STARTS - 1, -1, -1):
        child = await world.fill(slot)
        try:
            await child.wait_ready(READY_LIMIT_S)
        except ChildError as error:
            if not left:
                raise
            print(f"  {world.phase.name}: {error}"[:_ERROR_LENGTH])
            world.missed += 1
            child.kill()
            await child.wait_end()
        else:
            return


def plan_of(phase: Phase) -> CrashPlan:
    """Where and when the next process of the phase's role dies."""
    point, action = phase.point or phase.name, Action.KILL
    if point in at.FROZEN:
        point, action = random.choice(at.FROZEN[point]), Action.STOP  # noqa: S311  # no secret
    rest_s = 0.0 if random.random() < _IN_A_ROW else at.rest_of(point, phase.role, static=phase.static)  # noqa: S311
    if phase.strokes == 1:  # one death in all: nothing to recover from before
        rest_s = 0.0
    return CrashPlan(point=point, hit=random.randint(*at.hits_of(point)), action=action, rest_s=rest_s)  # noqa: S311


async def _strike(world: World, child: Child) -> None:
    """Have the process reach its point; what the point needs from outside is done here."""
    point = world.phase.point or world.phase.name
    if point in at.FROZEN:
        await _lose_session(world, child)
        return
    if point in at.AT_SIGTERM:
        await child.wait_ready(READY_LIMIT_S)
        await _clock.sleep(random.uniform(0.5, 1.5))  # noqa: S311  # a relay owns lanes within a second
        await _recover(world)
        child.terminate()
    if point == at.REBALANCE:
        await _recover(world)
        await _have_somebody_join(world, child)
    await child.wait_struck(_PATIENCE_S)
    await child.wait_end()
    world.note(child)


async def _have_somebody_join(world: World, child: Child) -> None:
    with suppress(ChildError):  # struck before it was ready, by the rebalance of another one's death
        await child.wait_ready(READY_LIMIT_S)
    other = await world.fill(f"consumer-{child.pid}")
    with suppress(ChildError):
        await child.wait_end(_PATIENCE_S)
    other.terminate()
    await other.wait_end()


async def _lose_session(world: World, child: Child) -> None:
    """A host freezes with a batch in hand, the server ends its session, others take over, and it wakes."""
    await child.wait_stopped(_PATIENCE_S)
    world.note(child)
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


async def _recover(world: World) -> None:
    """Let the death before be got over, most times."""
    if random.random() >= _IN_A_ROW and world.kills:  # noqa: S311  # no secret
        await calm(world, limit_s=_CALM_BETWEEN_S)


async def calm(world: World, limit_s: float = _CALM_LIMIT_S) -> None:
    """Wait until the backlog is worked off, so that the next stroke meets running processes."""
    deadline = _clock.monotonic() + limit_s
    while _clock.monotonic() < deadline:
        with suppress(OSError):  # the server is on its way
            if await waiting(world.database, effects=world.phase.effects) < 100:  # noqa: PLR2004  # writers go on
                return
        await _clock.sleep(_CALM_LOOK_S)
