"""An application for ``uvicorn served:app``."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from huleedu_service_libs import _clock
from huleedu_service_libs.health import DrainConfig, HealthConfig, ServiceHealth, drain_before_stop
from huleedu_service_libs.middleware.frameworks.fastapi_health import setup_health

health = ServiceHealth("served", config=HealthConfig(drain=DrainConfig(notice_s=0.5, limit_s=10)))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """As a service has it."""
    async with health:
        drain_before_stop(health)
        yield


app = FastAPI(lifespan=lifespan)
setup_health(app, health)


_begun = 0


@app.get("/begun")
async def begun() -> int:
    """How many have begun."""
    return _begun


@app.get("/lasting/{seconds}")
async def work(seconds: float) -> dict[str, float]:
    """Take so long."""
    global _begun  # noqa: PLW0603  # the state of this process
    _begun += 1
    await _clock.sleep(seconds)
    return {"worked": seconds}
