"""An HTTP upstream that fails, comes back and flaps, under the same load with and without a breaker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from uuid import uuid4

from aiohttp import web
from aiohttp.test_utils import TestServer

from drills.series import Series
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.http_client import BaseHttpClient, HttpClientConfig, counts_as_outage, make_session
from huleedu_service_libs.resilience import (
    BreakerPolicy,
    CircuitBreaker,
    CircuitBreakerError,
    CircuitBreakerHttpClient,
    Ramp,
    TimeWindow,
)

__all__ = ["DOWN", "FLAPPING", "SECONDS", "run"]

SECONDS = 24.0
DOWN = (4.0, 10.0)
FLAPPING = (14.0, 18.0)
RATE = 150
FAILURE_SECONDS = 0.3  # an overloaded server is slow to say no


def is_down(now: float) -> bool:
    """Whether the upstream fails at this moment: in the outage, and every other half second of the flapping."""
    return DOWN[0] <= now < DOWN[1] or (FLAPPING[0] <= now < FLAPPING[1] and int(now * 2) % 2 == 0)


async def run() -> tuple[Series, Series]:
    """Both courses at the same time: without a breaker, and with one."""
    bare, guarded = Series(), Series()
    await asyncio.gather(_course(bare, with_breaker=False), _course(guarded, with_breaker=True))
    return bare, guarded


async def _course(series: Series, *, with_breaker: bool) -> None:
    async with _server(series) as url, make_session(HttpClientConfig(connection_pool_size=100)) as session:
        config = HttpClientConfig(max_retries=0, connection_pool_size=100)
        client: BaseHttpClient | CircuitBreakerHttpClient = BaseHttpClient(session, "drill", config)
        if with_breaker:
            client = CircuitBreakerHttpClient(client, _breaker(series))
        async with asyncio.TaskGroup() as tasks:
            for number in range(int(SECONDS * RATE)):
                delay = number / RATE - series.now
                if delay > 0:
                    await asyncio.sleep(delay)  # noqa: TID251  # the load of a drill goes by the real clock
                tasks.create_task(_request(client, url, series))


def _breaker(series: Series) -> CircuitBreaker:
    return CircuitBreaker(
        recovery_timeout=timedelta(seconds=0.5),
        success_threshold=3,
        expected_exception=HuleEduError,
        name="upstream",
        listeners=[lambda change: series.state(change.new.value)],
        policy=BreakerPolicy(
            window=TimeWindow(seconds=1, failure_rate=0.5, minimum_calls=20),
            is_failure=counts_as_outage,
            half_open_permits=3,
            ramp=Ramp(seconds=0.5, initial=0.2),
            open_growth=1.2,
            longest_open_s=1,
        ),
    )


async def _request(client: BaseHttpClient | CircuitBreakerHttpClient, url: str, series: Series) -> None:
    began = series.now
    try:
        await client.get(url, uuid4(), 5)
    except CircuitBreakerError:
        series.count("refused")
    except HuleEduError:
        series.count("failed")
    else:
        series.count("answered")
    series.count("milliseconds waited", int((series.now - began) * 1000))


@asynccontextmanager
async def _server(series: Series) -> AsyncIterator[str]:
    async def handle(_: web.Request) -> web.Response:
        series.count("reached the upstream")
        if is_down(series.now):
            await asyncio.sleep(FAILURE_SECONDS)  # noqa: TID251  # as above
            return web.Response(status=503)
        await asyncio.sleep(0.005)  # noqa: TID251  # as above
        return web.Response(text="fine")

    app = web.Application()
    app.router.add_get("/", handle)
    async with TestServer(app) as server:
        yield str(server.make_url("/"))
