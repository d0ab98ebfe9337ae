"""Subscriptions across restarts, cuts and silences of a real server; many channels over one connection."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from prometheus_client import REGISTRY
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoPermissionError, RedisError
from structlog.testing import capture_logs

from huleedu_service_libs.redis_client import RedisClient
from huleedu_service_libs.redis_pubsub import Gap, GapReason, PubSubConfig, RedisPubSub, SubscriptionClosedError
from huleedu_service_libs.testing.chaos.proxy import FaultProxy
from huleedu_service_libs.testing.devstack.errors import NotOursError
from huleedu_service_libs.testing.devstack.servers import RedisServer

pytestmark = pytest.mark.integration

OUTAGE_S = float(os.environ.get("HULEEDU_TEST_REDIS_OUTAGE_S", "6"))
"""Longer than redis-py's own loop lives; 20 shows it for as long as the longest promise."""


@pytest.fixture(name="far")
async def _far(proxy: FaultProxy, unique_name: str) -> AsyncIterator[RedisClient]:
    """A client behind the proxy that notices a silence quickly."""
    config = PubSubConfig(health_interval_s=0.3, answer_timeout_s=0.3)
    async with RedisClient(client_id=unique_name, redis_url=proxy.url, pubsub_config=config) as client:
        yield client


def _count(name: str, client_id: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"huleedu_redis_pubsub_{name}", {"client_id": client_id, **labels}) or 0.0


async def _until(condition: Callable[[], Awaitable[bool]], limit_s: float = 20.0) -> None:
    async with asyncio.timeout(limit_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def _subscribing(client: RedisClient) -> int:
    """Connections of the server that subscribe, by its own list."""
    return len([each for each in await client.client.client_list() if int(each["sub"]) > 0])


async def _data(pubsub: Any, limit_s: float = 10.0) -> Any:
    async with asyncio.timeout(limit_s):
        while True:
            message = await pubsub.get_message(timeout=1.0)
            if message is not None:
                return message["data"]


async def test_an_outage_of_any_length_ends_with_a_gap_and_goes_on(
    far: RedisClient, proxy: FaultProxy, client: RedisClient, redis_prefix: str
) -> None:
    """Longer away than redis-py's loop would live, the same subscription brings a gap and then the next message."""
    channel = f"{redis_prefix}c"
    async with far.subscribe(channel) as pubsub:
        await client.publish(channel, "before")
        assert await _data(pubsub) == "before"
        with capture_logs() as logs:
            proxy.refuse()
            began = time.monotonic()
            while time.monotonic() - began < OUTAGE_S:
                assert await pubsub.get_message(ignore_subscribe_messages=True, timeout=0.5) is None
            proxy.heal()
            gap = await _data(pubsub)
        assert isinstance(gap, Gap)
        assert gap.reason is GapReason.RECONNECTED
        assert gap.channel == channel
        assert OUTAGE_S - 0.5 <= gap.seconds_away < OUTAGE_S + 15
        assert await client.publish(channel, "after") == 1
        assert await _data(pubsub) == "after"
    events = [entry["event"] for entry in logs]
    assert (events[0], events[-1]) == ("redis_pubsub_lost", "redis_pubsub_restored")
    assert len(events) < 10, "an outage is no log full of lines"
    assert _count("gaps_total", far.client_id, reason="reconnected") == 1
    assert _count("reconnects_total", far.client_id) == 1
    assert _count("connections_lost_total", far.client_id) == 1
    assert _count("connect_failures_total", far.client_id) >= 2


async def test_a_silent_connection_is_noticed(
    far: RedisClient, proxy: FaultProxy, client: RedisClient, redis_prefix: str
) -> None:
    """A network that swallows everything without an error is asked for a word, and given up."""
    channel = f"{redis_prefix}c"
    async with far.subscribe(channel) as pubsub:
        proxy.silence()

        async def lost() -> bool:
            return _count("connections_lost_total", far.client_id) == 1

        await _until(lost)
        proxy.heal()
        gap = await _data(pubsub, 20)
        assert isinstance(gap, Gap)
        await client.publish(channel, "after")
        assert await _data(pubsub) == "after"


async def test_a_quiet_channel_is_no_silence(far: RedisClient, redis_prefix: str) -> None:
    """A server that answers when asked keeps its connection, however long nobody publishes."""
    async with far.subscribe(f"{redis_prefix}c") as pubsub:
        assert await pubsub.get_message(timeout=1.5) is None
        assert pubsub.gaps == 0
    assert _count("connections_lost_total", far.client_id) == 0


async def test_a_restart_is_told_to_every_channel_and_none_is_forgotten(
    client: RedisClient, redis_server: RedisServer, redis_prefix: str
) -> None:
    """After a restart all channels come back over one new connection, each with its gap."""
    channels = [f"{redis_prefix}{number}" for number in range(50)]
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        pubsubs = [await stack.enter_async_context(client.subscribe(channel)) for channel in channels]
        try:
            await asyncio.to_thread(redis_server.restart)
        except NotOursError as error:
            pytest.skip(str(error))
        assert {type(await _data(pubsub, 20)) for pubsub in pubsubs} == {Gap}
        assert await client.ping() or await client.ping(), "the first command after a restart meets a dead connection"
        for channel in channels:
            await client.publish(channel, channel)
        assert [await _data(pubsub) for pubsub in pubsubs] == channels
        assert await _subscribing(client) == 1


async def test_many_channels_share_one_connection(client: RedisClient, redis_prefix: str) -> None:
    """A thousand subscribers cost one connection; each gets its own channel's messages; at the end there is none."""
    quiet = await _subscribing(client)
    channels = [f"{redis_prefix}{number}" for number in range(1000)]
    async with asyncio.timeout(60), AsyncExitStack() as stack:
        pubsubs = await asyncio.gather(*(stack.enter_async_context(client.subscribe(channel)) for channel in channels))
        assert await _subscribing(client) == quiet + 1
        assert _count("subscribers", client.client_id) >= 1000
        await asyncio.gather(*(client.publish(channel, channel) for channel in channels))
        assert [await _data(pubsub) for pubsub in pubsubs] == channels

    async def none_left() -> bool:
        return await _subscribing(client) == quiet

    await _until(none_left)


async def test_subscribers_of_one_channel_do_not_disturb_each_other(client: RedisClient, redis_prefix: str) -> None:
    """Each gets every message; who leaves takes nobody's subscription along."""
    channel = f"{redis_prefix}c"
    async with client.subscribe(channel) as stays:
        async with client.subscribe(channel) as leaves:
            assert await client.publish(channel, "both") == 1
            assert (await _data(stays), await _data(leaves)) == ("both", "both")
        assert await client.publish(channel, "one") == 1
        assert await _data(stays) == "one"
    assert await client.publish(channel, "none") == 0


async def test_joining_and_leaving_in_a_hurry_leaves_nothing_behind(client: RedisClient, redis_prefix: str) -> None:
    """Readers that come, go and are cancelled at any moment leave no subscription, no task and no connection."""
    channels = [f"{redis_prefix}{number}" for number in range(5)]

    async def visit(number: int) -> None:
        async with client.subscribe(channels[number % len(channels)]) as pubsub:
            await pubsub.get_message(timeout=0.001 * (number % 7))

    async with client.subscribe(f"{redis_prefix}constant") as constant:
        visits = [asyncio.create_task(visit(number)) for number in range(200)]
        for number, task in enumerate(visits):
            if number % 3 == 0:
                await asyncio.sleep(0)
                task.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        assert [await client.publish(channel, "x") for channel in channels] == [0] * len(channels)
        await client.publish(f"{redis_prefix}constant", "still there")
        assert await _data(constant) == "still there"
        assert constant.gaps == 0, "a cancelled visitor must not cost the others their connection"
    assert client._pubsub is not None
    assert client._pubsub._hub._channels == {}
    assert client._pubsub._hub._runner is None
    assert not client._connections.subscriptions.connection_pool._in_use_connections


async def test_stopping_the_client_ends_its_subscriptions(redis_url: str, redis_prefix: str) -> None:
    """A reader learns that nothing comes any more, by an error that is a lost connection."""
    client = RedisClient(client_id="stops", redis_url=redis_url)
    await client.start()
    async with client.subscribe(f"{redis_prefix}c") as pubsub:
        waiting = asyncio.create_task(pubsub.get_message(timeout=None))
        await asyncio.sleep(0)
        await client.stop()
        with pytest.raises(SubscriptionClosedError, match="the client was stopped"):
            await asyncio.wait_for(waiting, 5)
        assert issubclass(SubscriptionClosedError, RedisConnectionError)


async def test_who_subscribes_during_an_outage_is_told_at_once(
    far: RedisClient, proxy: FaultProxy, client: RedisClient, redis_prefix: str
) -> None:
    """A new subscription needs a server: it fails, while the standing one waits on and comes back."""
    async with far.subscribe(f"{redis_prefix}standing") as standing:
        proxy.refuse()
        with pytest.raises(RedisError):
            async with far.subscribe(f"{redis_prefix}new"):
                raise AssertionError("not reached")
        proxy.heal()
        assert isinstance(await _data(standing, 20), Gap)
        async with far.subscribe(f"{redis_prefix}new") as new:
            await client.publish(f"{redis_prefix}new", "x")
            assert await _data(new) == "x"


async def test_a_message_that_is_no_text_is_passed_over(client: RedisClient, redis_prefix: str) -> None:
    """Bytes that are no UTF-8 end no connection: they are counted, and the next message arrives."""
    channel = f"{redis_prefix}c"
    before = _count("dropped_total", client.client_id, reason="undecodable")
    async with client.subscribe(channel) as pubsub:
        await client.client.publish(channel, b"\xff\xfe")
        await client.publish(channel, "text")
        assert await _data(pubsub) == "text"
        assert pubsub.gaps == 0
    assert _count("dropped_total", client.client_id, reason="undecodable") == before + 1


async def test_a_burst_from_one_packet_overflows_no_reader_that_keeps_up(
    client: RedisClient, redis_prefix: str
) -> None:
    """Messages that arrive in one piece are handed out in portions: a small queue is enough for a quick reader."""
    channel = f"{redis_prefix}c"
    assert client.pubsub is not None
    async with client.pubsub.subscribe(channel, queue_size=150) as pubsub:
        pipe = client.client.pipeline(transaction=False)
        for number in range(2000):
            _ = pipe.publish(channel, str(number))
        publishing = asyncio.create_task(pipe.execute())
        assert [await _data(pubsub) for _ in range(2000)] == [str(number) for number in range(2000)]
        await publishing
        assert pubsub.gaps == 0


async def test_a_channel_that_the_server_refuses_ends_alone(redis_url: str, redis_prefix: str) -> None:
    """An ACL that forbids a channel fails who asks for it; others over the same connection go on."""
    async with Redis.from_url(redis_url) as admin:
        await admin.acl_setuser(
            "narrow",
            enabled=True,
            passwords=["+pw"],
            categories=["+@all"],
            channels=["ok*"],
            reset=True,
            reset_channels=True,
        )
        try:
            async with Redis.from_url(redis_url, username="narrow", password="pw", decode_responses=True) as narrow:
                pubsub = RedisPubSub(narrow, "narrow")
                async with pubsub.subscribe(f"ok{redis_prefix}") as allowed:
                    with pytest.raises(NoPermissionError):
                        async with pubsub.subscribe(f"{redis_prefix}forbidden"):
                            raise AssertionError("not reached")
                    await pubsub.publish(f"ok{redis_prefix}", "x")
                    assert await _data(allowed) == "x"
        finally:
            await admin.acl_deluser("narrow")


async def test_a_client_that_does_not_decode_gets_bytes(redis_url: str, redis_prefix: str) -> None:
    """Data comes as the driver's client would give it; RESP2 and RESP3 both work."""
    for protocol in (2, 3):
        async with Redis.from_url(redis_url, protocol=protocol) as raw:
            pubsub = RedisPubSub(raw, "raw", config=PubSubConfig(health_interval_s=0.05))
            async with pubsub.subscribe(f"{redis_prefix}c") as subscription:
                await asyncio.sleep(0.2)  # a PING or two
                await pubsub.publish(f"{redis_prefix}c", "x")
                assert await _data(subscription) == b"x"
                assert subscription.gaps == 0


async def test_two_event_loops_do_not_share_a_subscription(client: RedisClient, redis_prefix: str) -> None:
    """While one loop subscribes, another is refused with a word about it."""
    assert client.pubsub is not None
    pubsub = client.pubsub

    async def elsewhere() -> None:
        async with pubsub.subscribe(f"{redis_prefix}d"):
            raise AssertionError("not reached")

    async with client.subscribe(f"{redis_prefix}c"):
        with pytest.raises(RuntimeError, match="use one client a loop"):
            await asyncio.to_thread(lambda: asyncio.run(elsewhere()))


async def test_a_bound_of_a_subscription_must_be_positive(client: RedisClient) -> None:
    """A queue for nothing is refused before anything is subscribed."""
    assert client.pubsub is not None
    with pytest.raises(ValueError, match="queue_size must be positive, got 0"):
        async with client.pubsub.subscribe("c", queue_size=0):
            raise AssertionError("not reached")
