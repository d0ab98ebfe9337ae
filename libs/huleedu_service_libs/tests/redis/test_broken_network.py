"""A network that breaks under writers and claims: nothing doubled, nothing lost, a won claim stays won."""

import asyncio
from contextlib import suppress

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.redis_client import (
    RedisClient,
    ReplyLostError,
)
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

pytestmark = pytest.mark.integration


class Writer:
    """One task that pushes, claims and reads, and remembers what was acknowledged."""

    def __init__(self, client: RedisClient, prefix: str, task: int) -> None:
        self.list = f"{prefix}{task}"
        self.pushed: set[str] = set()
        self.claims: list[tuple[str, str, bool]] = []
        self.reads: set[str | None] = set()
        self._client = client
        self._prefix = prefix
        self._task = task

    async def work(self, over: asyncio.Event) -> None:
        number = 0
        while not over.is_set():
            number += 1
            key, value = f"{self._prefix}claim:{number}", f"{self._task}:{number}"
            with suppress(RedisConnectionError):
                await self._client.rpush(self.list, str(number))
                self.pushed.add(str(number))
            with suppress(RedisConnectionError):
                self.claims.append((key, value, await self._client.set_if_not_exists(key, value, 600)))
            with suppress(RedisConnectionError):
                self.reads.add(await self._client.get(f"{self._prefix}known"))
            await asyncio.sleep(0.001)


async def test_a_network_that_breaks_all_the_time_doubles_and_loses_nothing(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """What was acknowledged is there once, in order; claims are won by who wrote the value; every read is right."""
    await raw.set(f"{redis_prefix}known", "v", ex=600)
    writers = [Writer(far, redis_prefix, task) for task in range(30)]
    over = asyncio.Event()
    tasks = [asyncio.create_task(writer.work(over)) for writer in writers]
    for round_ in range(25):
        await asyncio.sleep(0.03)
        async with asyncio.timeout(30):  # on a slow machine less gets through in a while
            while sum(len(writer.pushed) for writer in writers) <= 5 * round_:
                await asyncio.sleep(0.01)
        proxy.cut()
    over.set()
    await asyncio.gather(*tasks)
    assert sum(len(writer.pushed) for writer in writers) > 100
    for writer in writers:
        stored = [int(number) for number in await raw.lrange(writer.list, 0, -1)]
        assert stored == sorted(set(stored))
        assert {int(number) for number in writer.pushed} <= set(stored)
        assert writer.reads <= {"v"}
        for key, value, won in writer.claims:
            assert (await raw.get(key) == value) is won


# --- whose value


async def test_a_won_claim_whose_reply_got_lost_is_won(far: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """Its own value stands there, and is young enough to be of this call."""
    for number, ttl in enumerate((60, None)):
        proxy.lose_replies(to=b"\r\nNX\r\n")
        assert await far.set_if_not_exists(f"{redis_prefix}{number}", "mine", ttl) is True
    assert proxy.lost_replies == 2


async def test_a_lost_claim_whose_reply_got_lost_is_lost(
    far: RedisClient, proxy: FaultProxy, raw: Redis, redis_prefix: str
) -> None:
    """Another's value, one that is no text, and the same text that stood there before: none is taken for ours."""
    await raw.set(f"{redis_prefix}theirs", "theirs", ex=60)
    await raw.sadd(f"{redis_prefix}set", "x")
    await raw.set(f"{redis_prefix}older", "mine", px=50_000)
    await raw.set(f"{redis_prefix}endless", "mine")
    for name in ("theirs", "set", "older", "endless"):
        proxy.lose_replies(to=b"\r\nNX\r\n")
        assert await far.set_if_not_exists(f"{redis_prefix}{name}", "mine", 60) is False
    assert proxy.lost_replies == 4


async def test_a_claim_that_never_happened_is_made(far: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """The connection breaks before Redis sees the command: it is sent again, and wins."""
    proxy.silence()
    claiming = asyncio.create_task(far.set_if_not_exists(f"{redis_prefix}k", "mine", 60))
    await asyncio.sleep(0.1)
    proxy.cut()
    proxy.heal()
    assert await claiming is True


async def test_a_claim_that_cannot_be_looked_up_raises(far: RedisClient, proxy: FaultProxy, redis_prefix: str) -> None:
    """When Redis is gone after the lost reply, nobody says won or lost."""
    proxy.lose_replies(to=b"\r\nNX\r\n", hang=True)
    claiming = asyncio.create_task(far.set_if_not_exists(f"{redis_prefix}k", "mine", 60))
    await asyncio.sleep(0.1)
    proxy.refuse()
    with pytest.raises(ReplyLostError):
        await claiming
    proxy.heal()
