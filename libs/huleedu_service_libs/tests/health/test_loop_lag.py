"""A loop that stands still is told in the log, once a minute."""

import asyncio

import pytest

from huleedu_service_libs.health.loop_lag import LoopLag


class Ticking:
    """A clock that each sleep moves on, by what was asked for and what the loop was late."""

    def __init__(self, *late: float) -> None:
        self.now = 100.0
        self.late = list(late)

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if not self.late:
            await asyncio.Event().wait()
        self.now += seconds + self.late.pop(0)


async def test_a_block_is_one_line_and_its_repetitions_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """Half a second is told with its length; what follows within a minute is counted on the next line; less is nothing."""
    ticking = Ticking(0.4, 3.0, 0.6, 0.7, 0.1, 61.0)
    lag = LoopLag("svc", clock=ticking.clock, sleep=ticking.sleep)
    await lag.start()
    while ticking.late:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    first, second = [line for line in capsys.readouterr().out.splitlines() if "event_loop_blocked" in line]
    assert "seconds=3.0 untold=0" in first
    assert "seconds=61.0 untold=2" in second
    assert (await lag.look()).details == {"lag_seconds": 61.0}
    await lag.stop()
