"""What tests of several folders stand on."""

from collections.abc import AsyncIterator

import pytest

from huleedu_service_libs.testing.chaos.proxy import FaultProxy


@pytest.fixture(name="proxy")
async def _proxy(redis_url: str) -> AsyncIterator[FaultProxy]:
    """The way to the session's Redis, which can be cut, held up and refused."""
    async with FaultProxy(redis_url) as proxy:
        yield proxy
