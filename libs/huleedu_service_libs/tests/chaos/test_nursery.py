"""Children start quickly, die where they are told, and never outlive the test."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic

import pytest

from huleedu_service_libs.testing.chaos.nursery import ChildError, Nursery
from huleedu_service_libs.testing.chaos.points import Action, CrashPlan

VICTIMS = f"{Path(__file__).with_name('victims.py')}"


@pytest.fixture(name="nursery")
async def _nursery(tmp_path: Path) -> AsyncIterator[Nursery]:
    async with Nursery(folder=tmp_path / "logs") as nursery:
        yield nursery


def _saved(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize(("point", "saved"), [("before save", [0, 1]), ("after save", [0, 1, 2]), ("between", [0, 1])])
async def test_a_child_dies_at_the_nth_hit_of_its_point(
    nursery: Nursery, tmp_path: Path, point: str, saved: list[int]
) -> None:
    """SIGKILL strikes exactly there: what came before has happened, nothing after it has."""
    path = tmp_path / "numbers"
    child = await nursery.spawn(f"{VICTIMS}:count", path=str(path), upto=5, plan=CrashPlan(point=point, hit=3))
    assert await child.wait_end() == -signal.SIGKILL
    assert child.struck == point
    assert _saved(path) == saved


async def test_a_point_during_a_call_strikes_once_it_has_begun(nursery: Nursery, tmp_path: Path) -> None:
    """The calls before it are whole, none comes after it."""
    path = tmp_path / "numbers"
    child = await nursery.spawn(f"{VICTIMS}:count", path=str(path), upto=5, plan=CrashPlan(point="mid-save", hit=2))
    assert await child.wait_end() == -signal.SIGKILL
    assert _saved(path) in ([0], [0, 1])


async def test_a_stopped_child_goes_on_when_it_is_woken(nursery: Nursery, tmp_path: Path) -> None:
    """SIGSTOP freezes it in the middle, as a host does that hangs; SIGCONT lets it finish."""
    path = tmp_path / "numbers"
    plan = CrashPlan(point="after save", hit=2, action=Action.STOP)
    child = await nursery.spawn(f"{VICTIMS}:count", path=str(path), upto=4, plan=plan)
    await child.wait_stopped()
    assert child.running
    assert _saved(path) == [0, 1]
    child.send(signal.SIGCONT)
    assert await child.wait_end() == 0
    assert _saved(path) == [0, 1, 2, 3]


async def test_a_child_is_killed_and_restarted_in_no_time(nursery: Nursery, tmp_path: Path) -> None:
    """Twenty lives of one child take less than ten seconds, start to ready; each has its own plan."""
    before = monotonic()
    child = await nursery.spawn(f"{VICTIMS}:wait_for_sigterm", path=str(tmp_path / "never"))
    for _ in range(20):
        await child.wait_ready()
        child = await child.restart()
    assert monotonic() - before < 10.0
    assert not (tmp_path / "never").exists()


async def test_sigterm_lets_a_child_drain(nursery: Nursery, tmp_path: Path) -> None:
    """It ends by itself, with the code of an orderly end."""
    child = await nursery.spawn(f"{VICTIMS}:wait_for_sigterm", path=str(tmp_path / "said"))
    await child.wait_ready()
    child.terminate()
    assert await child.wait_end() == 0
    assert (tmp_path / "said").read_text() == "drained"
    child.kill()  # too late, and harmless


async def test_a_child_that_fails_says_why(nursery: Nursery) -> None:
    """The error of a wait carries the exit code and the end of the output."""
    child = await nursery.spawn(f"{VICTIMS}:fail", name="unlucky")
    with pytest.raises(ChildError, match="unlucky was not ready and ended with 1") as caught:
        await child.wait_ready()
    assert "no luck today" in caught.value.log_tail


async def test_a_wait_has_a_limit(nursery: Nursery, tmp_path: Path) -> None:
    """A child that does not end in time is named."""
    child = await nursery.spawn(f"{VICTIMS}:wait_for_sigterm", path=str(tmp_path / "never"))
    with pytest.raises(ChildError, match=r"wait_for_sigterm did not end within 0\.2 s"):
        await child.wait_end(0.2)


async def test_variables_reach_the_child(nursery: Nursery, tmp_path: Path) -> None:
    """What ``env`` names is in the child's environment, and survives a restart."""
    path = tmp_path / "variable"
    child = await nursery.spawn(f"{VICTIMS}:show_variable", path=str(path), variable="X_TEST", env={"X_TEST": "yes"})
    assert await child.wait_end() == 0
    assert path.read_text() == "yes"
    path.unlink()
    assert await (await child.restart()).wait_end() == 0
    assert path.read_text() == "yes"


async def test_nothing_survives_the_nursery(tmp_path: Path) -> None:
    """Stopping it kills every child, frozen ones included; stopping it twice is fine, and spawning then an error."""
    nursery = Nursery(folder=tmp_path)
    await nursery.start()
    await nursery.start()
    plan = CrashPlan(point="between", action=Action.STOP)
    frozen = await nursery.spawn(f"{VICTIMS}:count", path=str(tmp_path / "numbers"), upto=2, plan=plan)
    await frozen.wait_stopped()
    busy = await nursery.spawn(f"{VICTIMS}:wait_for_sigterm", path=str(tmp_path / "never"))
    await busy.wait_ready()
    await nursery.stop()
    await nursery.stop()
    assert not any(map(_is_running, (frozen.pid, busy.pid)))
    assert not frozen.running
    with pytest.raises(ChildError, match="await start"):
        await nursery.spawn(f"{VICTIMS}:fail")


_OWNER = """
import asyncio, sys
from huleedu_service_libs.testing.chaos.nursery import Nursery

async def main():
    nursery = Nursery()
    await nursery.start()
    child = await nursery.spawn(sys.argv[1] + ":wait_for_sigterm", path="/nowhere")
    await child.wait_ready()
    print(nursery._process.pid, child.pid, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@pytest.mark.parametrize("victim", ["owner", "nursery"])
async def test_nothing_survives_a_killed_owner(victim: str) -> None:
    """When the owner or the nursery gets SIGKILL, the children are gone within seconds."""
    owner = subprocess.Popen(  # noqa: ASYNC220, S603  # our own text
        [sys.executable, "-c", _OWNER, VICTIMS], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    nursery, child = map(int, (await asyncio.to_thread(owner.stdout.readline)).split())
    os.kill(owner.pid if victim == "owner" else nursery, signal.SIGKILL)
    async with asyncio.timeout(15.0):
        while _is_running(child):
            await asyncio.sleep(0.05)
    owner.kill()
    owner.wait()
    owner.stdout.close()


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z")
