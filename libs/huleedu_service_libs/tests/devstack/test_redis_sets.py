"""Redis as several nodes, and behind TLS: what a driver sees of the servers that are handed out."""

import asyncio
import ssl
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError

from huleedu_service_libs.testing.devstack import DevStack, RedisNodesServer, RedisTlsServer
from huleedu_service_libs.testing.devstack.answers import redis_replies
from huleedu_service_libs.testing.devstack.redis_sets import SENTINEL_SERVICE

pytestmark = pytest.mark.integration


def _hosts(server: RedisNodesServer) -> list[tuple[str, int]]:
    pairs = server.address.partition("://")[2].partition("/")[0].split(",")
    return [(host, int(port)) for host, _, port in (pair.partition(":") for pair in pairs)]


async def test_a_cluster_serves_every_slot_and_nodes_come_back(redis_cluster: RedisNodesServer) -> None:
    """Keys land on all three nodes; those that were killed or stopped start again in their places, without their data."""
    (host, port), *_ = _hosts(redis_cluster)
    cluster = RedisCluster(host, port)
    try:
        for number in range(50):
            assert await cluster.set(f"devstack:{number}", "x", ex=60)
        assert len(cluster.get_primaries()) == 3
        await asyncio.to_thread(redis_cluster.kill_node, 0)
        await asyncio.to_thread(redis_cluster.stop_node, 1)
        await asyncio.to_thread(redis_cluster.start_node, 0)
        await asyncio.to_thread(redis_cluster.start_node, 1)
        async with asyncio.timeout(30):
            while not await asyncio.to_thread(_all_serve, redis_cluster):
                await asyncio.sleep(0.1)
    finally:
        await cluster.aclose()


def _all_serve(server: RedisNodesServer) -> bool:
    told = [redis_replies(host, port, "CLUSTER INFO") for host, port in _hosts(server)]
    return all("cluster_state:ok" in each for each in told)


async def test_sentinels_promote_the_replica() -> None:
    """After the primary was killed, the Sentinels name the replica as the primary."""
    with DevStack(["redis_sentinel"], environ={}) as stack:
        server = stack.servers["redis_sentinel"]
        assert isinstance(server, RedisNodesServer)
        sentinel = Sentinel(_hosts(server))  # type: ignore[no-untyped-call]  # the driver has no hint there
        before = await sentinel.discover_master(SENTINEL_SERVICE)
        await asyncio.to_thread(server.kill_node, 0)
        async with asyncio.timeout(60):
            while await _primary(sentinel) in {None, before}:
                await asyncio.sleep(0.1)
        await sentinel.aclose()


async def _primary(sentinel: Sentinel) -> object:
    try:
        return await sentinel.discover_master(SENTINEL_SERVICE)
    except RedisConnectionError:
        return None


async def test_tls_wants_a_certificate_of_the_client(redis_tls: RedisTlsServer) -> None:
    """With the client's certificate the server answers; without one it does not; its own is checked."""
    files = redis_tls.certificates
    own: dict[str, Any] = {"ssl_certfile": str(files.client), "ssl_keyfile": str(files.client_key)}
    authority: dict[str, Any] = {"ssl_ca_certs": str(files.authority)}
    async with Redis.from_url(redis_tls.address, **authority, **own) as client:
        assert await client.ping()
    for settings in (authority, own):
        stranger = Redis.from_url(redis_tls.address, **settings)
        with pytest.raises((RedisConnectionError, ssl.SSLError)):
            await stranger.ping()
        await stranger.aclose()
