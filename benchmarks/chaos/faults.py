"""What is done to servers and the network: each function is one stroke of a phase."""

import asyncio
import random

from aiokafka.admin import AIOKafkaAdminClient
from redis.asyncio import Redis

from chaos.hunt import calm
from chaos.world import World
from huleedu_service_libs import _clock

__all__ = [
    "broker_killed",
    "everything",
    "leader_killed",
    "network_cut",
    "network_silent",
    "network_slow",
    "postgres_killed",
    "postgres_restarted",
    "rebalance_storm",
    "redis_flushed",
    "redis_killed",
    "replies_lost",
]


async def broker_killed(world: World) -> None:
    """The only node of the cluster dies, and comes back on the same port with its data."""
    kafka = world.lab.stack.kafka
    world.note()
    await asyncio.to_thread(kafka.kill)
    await _clock.sleep(1.0)
    await asyncio.to_thread(kafka.start)
    await calm(world)


async def leader_killed(world: World) -> None:
    """The node of three that leads the topic's first partition dies; another takes over; it comes back."""
    kafka = world.lab.stack.kafka
    leader = await _leader_of(kafka.address, world.topic)
    world.note()
    await asyncio.to_thread(kafka.kill_node, leader)
    await _clock.sleep(2.0)
    await calm(world)  # with two nodes
    await asyncio.to_thread(kafka.start_node, leader)
    await calm(world)


async def _leader_of(bootstrap_servers: str, topic: str) -> int:
    """Index of the node that leads partition 0; node ids count from 1."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    return next(int(one["leader"]) - 1 for one in described["partitions"] if one["partition"] == 0)


async def everything(world: World) -> None:
    """All that can happen to one node of each server and to the network, one after the other."""
    for stroke in (
        broker_killed,
        redis_killed,
        redis_flushed,
        postgres_restarted,
        postgres_killed,
        network_cut,
        network_slow,
        network_silent,
        replies_lost,
        rebalance_storm,
    ):
        await stroke(world)


async def redis_killed(world: World) -> None:
    """Redis dies and comes back empty, as one does that keeps nothing on disk."""
    world.note()
    await asyncio.to_thread(world.lab.stack.redis.kill)
    await _clock.sleep(1.0)
    await asyncio.to_thread(world.lab.stack.redis.start)
    await calm(world)


async def redis_flushed(world: World) -> None:
    """Redis forgets everything, again and again, while it is needed."""
    world.note()
    async with Redis.from_url(world.lab.stack.redis.address) as redis:
        for _ in range(5):
            await redis.flushall()
            await _clock.sleep(0.2)
    await calm(world)


async def rebalance_storm(world: World) -> None:
    """Members come and go in the group, some by SIGTERM and some by SIGKILL, faster than it can settle."""
    world.note()
    for number in range(6):
        child = await world.fill("consumer-3")
        await _clock.sleep(random.uniform(0.2, 1.2))  # noqa: S311  # no secret
        (child.terminate if number % 2 else child.kill)()
        await child.wait_end()
    await calm(world)


async def postgres_restarted(world: World) -> None:
    """An orderly restart: sessions are ended, nothing is lost."""
    world.note()
    await asyncio.to_thread(world.lab.stack.postgres.restart)
    await calm(world)


async def postgres_killed(world: World) -> None:
    """PostgreSQL dies and recovers from its log."""
    world.note()
    await asyncio.to_thread(world.lab.stack.postgres.kill)
    await asyncio.to_thread(world.lab.stack.postgres.start)
    await calm(world)


async def network_cut(world: World) -> None:
    """Every connection to every server is reset, five times in a second, then all is well."""
    world.note()
    for _ in range(5):
        for proxy in world.lab.proxies:
            proxy.cut()
        await _clock.sleep(0.2)
    await calm(world)


async def network_slow(world: World) -> None:
    """Each piece of data takes 20 ms more each way, and 200 kB/s pass, for two seconds."""
    world.note()
    for proxy in world.lab.proxies:
        proxy.delay(0.02)
        proxy.throttle(200_000.0)
    await _clock.sleep(2.0)
    await _heal(world)


async def network_silent(world: World) -> None:
    """No byte passes for two seconds, and nobody is told."""
    world.note()
    for proxy in world.lab.proxies:
        proxy.silence()
    await _clock.sleep(2.0)
    await _heal(world)


async def replies_lost(world: World) -> None:
    """Servers do what they were asked, but their answers are lost and the connections with them."""
    world.note()
    for _ in range(5):
        random.choice(world.lab.proxies).lose_replies(  # noqa: S311  # no secret
            skip=random.randint(0, 5),  # noqa: S311
            after_bytes=random.choice([0, 3]),  # noqa: S311
        )
        await _clock.sleep(0.15)
    await _heal(world)


async def _heal(world: World) -> None:
    for proxy in world.lab.proxies:
        proxy.heal()
    await calm(world)
