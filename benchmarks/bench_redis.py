"""Commands of 1, 50 and 1 000 tasks at once, beside redis-py, coredis and valkey-glide on one server.

Run by ``make bench SUBJECT=redis``. Server and all clients share the machine; only the ratios of one run mean something.
Every client is used as its documentation has it and decodes to text, but for valkey-glide, which gives bytes; redis-py has
a blocking pool, as its default pool raises above a hundred connections. Each task issues one command after the other:
SET NX EX of keys that are new, GET of keys that are there.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import coredis
import glide
from redis.asyncio import BlockingConnectionPool, Redis

from harness import Call, Figure, in_short, measure, rates_of, versions_of, write_result
from huleedu_service_libs._redis_executor.reports import NO_LISTENER
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.redis_client import RedisClient, RedisClientConfig
from huleedu_service_libs.testing.devstack import DevStack

TASKS = {
    1: in_short(1_000, 20),
    50: in_short(5_000, 100),
    1_000: in_short(10_000, 1_000),
}  # tasks at once: commands a round
ROUNDS = 5
KEYS = 1_000
TTL_S = 600

OURS = "ours: RedisClient"
BARE = "ours, without metrics"
PEERS = ["redis", "hiredis", "coredis", "valkey-glide"]

Send = Callable[[str], Awaitable[Any]]


async def _ours(url: str, stack: AsyncExitStack) -> dict[str, Send]:
    client = await stack.enter_async_context(RedisClient(client_id="bench", redis_url=url))
    return {"SET NX EX": lambda key: client.set_if_not_exists(key, "v", TTL_S), "GET": client.get}


async def _bare(url: str, stack: AsyncExitStack) -> dict[str, Send]:
    client = await stack.enter_async_context(
        RedisClient(client_id="bare", redis_url=url, config=RedisClientConfig(spans=False))
    )
    client._executor._listener = NO_LISTENER  # noqa: SLF001  # what metrics cost; no setting of services
    return {"SET NX EX": lambda key: client.set_if_not_exists(key, "v", TTL_S), "GET": client.get}


async def _redis_py(url: str, stack: AsyncExitStack) -> dict[str, Send]:
    pool = BlockingConnectionPool.from_url(url, max_connections=64, decode_responses=True)
    client = await stack.enter_async_context(Redis.from_pool(pool))
    return {"SET NX EX": lambda key: client.set(key, "v", nx=True, ex=TTL_S), "GET": client.get}


async def _coredis(url: str, stack: AsyncExitStack) -> dict[str, Send]:
    client: Any = coredis.Redis.from_url(url, decode_responses=True)
    await stack.enter_async_context(client)
    condition = coredis.PureToken.NX
    return {"SET NX EX": lambda key: client.set(key, "v", condition=condition, ex=TTL_S), "GET": client.get}


async def _glide(url: str, stack: AsyncExitStack) -> dict[str, Send]:
    at = urlsplit(url)
    config = glide.GlideClientConfiguration([glide.NodeAddress(at.hostname or "", at.port or 6379)])
    client = await glide.GlideClient.create(config)
    stack.push_async_callback(client.close)
    expiry = glide.ExpirySet(glide.ExpiryType.SEC, TTL_S)
    absent = glide.ConditionalChange.ONLY_IF_DOES_NOT_EXIST
    return {
        "SET NX EX": lambda key: client.set(key, "v", conditional_set=absent, expiry=expiry),
        "GET": client.get,
    }


SUBJECTS = {OURS: _ours, BARE: _bare, "redis-py": _redis_py, "coredis": _coredis, "valkey-glide": _glide}


def _from_tasks(send: Send, keys: Callable[[], str], tasks: int, commands: int) -> Call:
    """Tasks at once, each sending one command after the other."""

    async def worker(times: int) -> None:
        for _ in range(times):
            await send(keys())

    async def run() -> None:
        await asyncio.gather(*(worker(commands // tasks) for _ in range(tasks)))

    return run


def _show(title: str, figures: dict[str, Figure], commands: int) -> dict[str, Any]:
    rows = rates_of(figures, dict.fromkeys(figures, commands))
    print(f"\n{title}\n  {'':<24}{'commands/s':>12}{'±':>10}{'best':>10}{'ours is':>10}")
    for name, row in rows.items():
        ratio = rows[OURS]["median"] / row["median"]
        print(f"  {name:<24}{row['median']:>12.0f}{row['spread']:>10.0f}{row['best']:>10.0f}{ratio:>9.2f}x")
    return rows


async def run(url: str) -> dict[str, Any]:
    """All measurements on a running server."""
    result: dict[str, Any] = {}
    numbers = count()
    async with AsyncExitStack() as stack:
        clients = {name: await make(url, stack) for name, make in SUBJECTS.items()}
        await asyncio.gather(*(clients[OURS]["SET NX EX"](f"there:{number}") for number in range(KEYS)))
        keys = {"SET NX EX": lambda: f"new:{next(numbers)}", "GET": lambda: f"there:{next(numbers) % KEYS}"}
        for command in ("SET NX EX", "GET"):
            for tasks, commands in TASKS.items():
                calls = {
                    name: _from_tasks(sends[command], keys[command], tasks, commands) for name, sends in clients.items()
                }
                figures = await measure(calls, rounds=ROUNDS, calls=1)
                result[f"{command}, {tasks} tasks"] = _show(f"{command}, {tasks} tasks at once", figures, commands)
    return result


def main() -> None:
    """Start a server and measure."""
    configure_service_logging("bench", log_level="ERROR")
    with DevStack(["redis"], progress=print) as servers:
        parts = asyncio.run(run(servers.redis.address))
    content = {"unit": "commands per second (median of interleaved rounds)", "parts": parts}
    print(f"\n{write_result('redis', {**content, 'versions': versions_of(PEERS)})}", file=sys.stderr)


if __name__ == "__main__":
    main()
