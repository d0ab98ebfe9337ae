"""A started client on the session's Redis."""

from collections.abc import AsyncIterator

import pytest

from huleedu_service_libs.redis_client import RedisClient


@pytest.fixture(name="client")
async def _client(redis_url: str) -> AsyncIterator[RedisClient]:
    async with RedisClient(client_id="test", redis_url=redis_url) as client:
        yield client
