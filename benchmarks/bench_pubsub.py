"""Messages that arrive, and channels that come and go, beside redis-py's own ``PubSub`` on one server.

Run by ``make bench SUBJECT=pubsub``. Server, publisher and subscribers share the machine; only the ratios of one run
mean something. Both subscribers are read with the same call, ``get_message(ignore_subscribe_messages=True, timeout=1.0)``.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

from redis.asyncio import Redis

from harness import Call, Figure, in_short, measure, rates_of, versions_of, write_result
from huleedu_service_libs.logging_utils import configure_service_logging
from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import NotificationHistory, PubSubConfig
from huleedu_service_libs.testing.devstack import DevStack

MESSAGES = in_short(5_000, 100)
CHANNELS = in_short(200, 10)
NOTIFICATIONS = in_short(500, 10)
ROUNDS = 5
TEXT = '{"event":"essay.checked","data":{"essay_id":"2f1c9a8e-7a53-4c0e-9d6f-0b6a3f1f5f11","language":"sv"}}'

OURS = "ours: subscribe"
KEPT = "ours: with a history"
PEER = "redis-py: PubSub"

Subscribe = Callable[[str], AbstractAsyncContextManager[Any]]


def _redis_py(client: Redis) -> Subscribe:
    @asynccontextmanager
    async def subscribe(channel: str) -> AsyncIterator[Any]:
        async with client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            await pubsub.get_message(timeout=5.0)  # the server's confirmation, as ours waits for it
            yield pubsub

    return subscribe


async def _receive(pubsub: Any, count: int) -> None:
    for _ in range(count):
        while await pubsub.get_message(ignore_subscribe_messages=True, timeout=1.0) is None:
            pass


def _stream(subscribe: Subscribe, publisher: Redis) -> Call:
    """One subscriber, and messages as fast as they come."""

    async def run() -> None:
        async with subscribe("bench:stream") as pubsub:
            pipe = publisher.pipeline(transaction=False)
            for _ in range(MESSAGES):
                _ = pipe.publish("bench:stream", TEXT)
            await asyncio.gather(pipe.execute(), _receive(pubsub, MESSAGES))

    return run


def _visits(subscribe: Subscribe, publisher: Redis) -> Call:
    """Subscribers of many channels: come, get one message each, go."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            names = [f"bench:{number}" for number in range(CHANNELS)]
            pubsubs = [await stack.enter_async_context(subscribe(name)) for name in names]
            pipe = publisher.pipeline(transaction=False)
            for name in names:
                _ = pipe.publish(name, TEXT)
            await asyncio.gather(pipe.execute(), *(_receive(pubsub, 1) for pubsub in pubsubs))

    return run


def _notify(client: RedisClient, user: str, calls: int) -> Call:
    """Notifications one after the other, and nobody listening."""

    async def run() -> None:
        for _ in range(calls):
            await client.publish_user_notification(user, "essay.checked", {"language": "sv"})

    return run


def _show(title: str, figures: dict[str, Figure], ours: str, count: int) -> dict[str, Any]:
    rows = rates_of(figures, dict.fromkeys(figures, count))
    print(f"\n{title}\n  {'':<28}{'per second':>12}{'±':>10}{'first is':>10}")
    for name, row in rows.items():
        ratio = rows[ours]["median"] / row["median"]
        print(f"  {name:<28}{row['median']:>12.0f}{row['spread']:>10.0f}{ratio:>9.2f}x")
    return rows


async def run(url: str) -> dict[str, Any]:
    """All measurements on a running server."""
    result: dict[str, Any] = {}
    async with (
        Redis.from_url(url, decode_responses=True, max_connections=2 * CHANNELS) as plain,
        RedisClient(client_id="b", redis_url=url, pubsub_config=PubSubConfig(queue_size=MESSAGES)) as client,
        RedisClient(client_id="k", redis_url=url, pubsub_config=PubSubConfig(history=NotificationHistory())) as keeping,
    ):
        for title, make, count in (
            (f"{MESSAGES} messages to one subscriber", _stream, MESSAGES),
            (f"{CHANNELS} subscribers come, get one message each, and go", _visits, CHANNELS),
        ):
            calls = {OURS: make(client.subscribe, plain), PEER: make(_redis_py(plain), plain)}
            result[title] = _show(title, await measure(calls, rounds=ROUNDS, calls=1), OURS, count)
        calls = {
            KEPT: _notify(keeping, "kept", NOTIFICATIONS),
            "without a history": _notify(client, "plain", NOTIFICATIONS),
        }
        title = "publish_user_notification, one after the other"
        result[title] = _show(title, await measure(calls, rounds=ROUNDS, calls=1), KEPT, NOTIFICATIONS)
    return result


def main() -> None:
    """Start a server and measure."""
    configure_service_logging("bench", log_level="ERROR")
    with DevStack(["redis"], progress=print) as servers:
        parts = asyncio.run(run(servers.redis.address))
    content = {"unit": "per second (median of interleaved rounds)", "parts": parts}
    print(f"\n{write_result('pubsub', {**content, 'versions': versions_of(['redis', 'hiredis'])})}", file=sys.stderr)


if __name__ == "__main__":
    main()
