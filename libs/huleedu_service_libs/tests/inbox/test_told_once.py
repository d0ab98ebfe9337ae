"""What an inbox tells of a purge and a fast path that fail: a line at the beginning, one when it is over."""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Any
from unittest.mock import AsyncMock
from uuid import UUID

from structlog.testing import capture_logs

from huleedu_service_libs.inbox import InboxConfig, InboxPurger
from huleedu_service_libs.inbox.events import InboxEvent
from huleedu_service_libs.inbox.fast_path import FastPath
from huleedu_service_libs.protocols import RedisClientProtocol

from ..waiting import until


def _told(logs: Sequence[MutableMapping[str, Any]]) -> list[tuple[str, int]]:
    return [(line["event"], line["failures"]) for line in logs if "failures" in line]


class _Purger(InboxPurger):
    """One whose database is away at first."""

    outage = 3

    async def purge(self) -> int:
        """Fails, and then finds nothing."""
        self.outage -= 1
        if self.outage >= 0:
            raise OSError("no database")
        return 0


async def test_purges_that_fail_are_one_trouble() -> None:
    """Three purges that fail are one line, and the first that works is another."""

    async def sleep(_seconds: float) -> None:
        await asyncio.sleep(0.001)

    engine: Any = None
    with capture_logs() as logs:
        async with _Purger(engine, sleep=sleep):
            await until(lambda: any(line["event"] == "inbox_purge_trouble_over" for line in logs))
    assert _told(logs) == [("inbox_purge_failed", 1), ("inbox_purge_trouble_over", 3)]


async def test_a_fast_path_that_is_away_is_one_trouble() -> None:
    """Asked again after each rest, it has one line until Redis answers; meanwhile nothing counts as known."""
    now = 0.0
    redis = AsyncMock(spec=RedisClientProtocol)
    redis.get.side_effect = [*[ConnectionError("away")] * 3, "processed"]
    path = FastPath(redis, InboxConfig(consumer="told", fast_path_rest_s=5.0), clock=lambda: now)
    events: list[Any] = [InboxEvent(id=UUID(int=1), payload_hash=None, identity=AsyncMock())]
    with capture_logs() as logs:
        answers = []
        for _ in range(4):
            answers.append(await path.known(events))
            assert redis.get.await_count == len(answers)
            now += 6.0
    assert answers == [[False]] * 3 + [[True]]
    assert _told(logs) == [("inbox_fast_path_away", 1), ("inbox_fast_path_trouble_over", 3)]
