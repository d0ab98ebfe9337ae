"""A started client on the session's Redis, and one whose network can be broken."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from huleedu_service_libs.redis_client import PipeliningConfig, RedisClient, RedisClientConfig
from huleedu_service_libs.testing.chaos.proxy import FaultProxy


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="test", redis_url=redis_url) as client:
        yield client


@pytest.fixture(name="raw")
async def _raw(redis_url: str) -> AsyncIterator[Redis]:
    """Another program on the server, which also sees to it that no test leaves a connection behind."""
    async with Redis.from_url(redis_url, decode_responses=True) as other:
        before = len(await other.client_list())
        yield other
        async with asyncio.timeout(10):
            while len(await other.client_list()) > before:
                await asyncio.sleep(0.01)


@pytest.fixture(name="proxy")
async def _proxy(redis_url: str, raw: Redis) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(redis_url) as proxy:
        yield proxy


@pytest.fixture(name="far")
async def _far(proxy: FaultProxy) -> AsyncIterator[RedisClient]:
    """A client whose network can be broken."""
    config = RedisClientConfig(socket_timeout_s=1.0, pipelining=PipeliningConfig(first_delay_s=0.01))
    async with RedisClient(client_id="far", redis_url=proxy.url, config=config) as client:
        yield client
