"""The FastAPI application of *spellcheck*: it serves health and metrics; the work comes from Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from dishka import AsyncContainer
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.ext.asyncio import AsyncEngine

from essay_pipeline.database import check_database, create_tables, database_report
from essay_pipeline.health import (
    Check,
    check_kafka,
    check_redis,
    check_running,
    health_report,
)
from essay_pipeline.spellcheck.di import make_container
from essay_pipeline.spellcheck.models import Base
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from essay_pipeline.traces import start_tracing
from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.error_handling.fastapi import register_error_handlers
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.exposition import render_metrics
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware,
)
from huleedu_service_libs.middleware.frameworks.fastapi_middleware import setup_tracing_middleware
from huleedu_service_libs.outbox import EventOutbox, EventRelayWorker
from huleedu_service_libs.protocols import AtomicRedisClientProtocol

__all__ = ["create_app"]

_logger = create_service_logger("spellcheck.app")


def create_app(settings: SpellcheckSettings) -> FastAPI:
    """The application; nothing connects before it is served."""
    checks: dict[str, Check] = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        container = make_container(settings)
        try:
            async with _running(container):
                checks.update(await _health_checks(container))
                app.state.health_checker = await container.get(DatabaseHealthChecker)
                _logger.info("service_started", host=settings.HOST, port=settings.PORT)
                yield
        finally:
            await container.close()

    app = FastAPI(title=settings.SERVICE_NAME, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    register_error_handlers(app, http_exceptions=True)
    setup_standard_service_metrics_middleware(app, settings.SERVICE_NAME)
    setup_tracing_middleware(app, start_tracing(settings.SERVICE_NAME))

    @app.get("/healthz")
    async def healthz() -> JSONResponse:
        """200 when database, Redis and Kafka answer and consumer and relay run; else 503 with the reasons."""
        status, body = await health_report(settings.SERVICE_NAME, checks)
        return JSONResponse(body, status)

    @app.get("/healthz/database")
    async def healthz_database() -> JSONResponse:
        """Connectivity, pool, answer times and sessions of the database; 503 when it does not answer."""
        status, body = await database_report(app.state.health_checker)
        return JSONResponse(body, status)

    @app.get("/metrics")
    async def metrics(request: Request) -> Response:
        """The collectors, for Prometheus."""
        body, content_type = render_metrics(request.headers.get("Accept"))
        return Response(body, headers={"Content-Type": content_type})

    return app


@asynccontextmanager
async def _running(container: AsyncContainer) -> AsyncIterator[None]:
    """Tables made; relay and consumer started, and stopped in the other order."""
    await create_tables(await container.get(AsyncEngine), [Base.metadata, EventOutbox.metadata])
    relay = await container.get(EventRelayWorker)
    consumer = await container.get(EventConsumer)
    await relay.start()
    try:
        await consumer.start()
        try:
            yield
        finally:
            await consumer.stop()
    finally:
        await relay.stop()


async def _health_checks(container: AsyncContainer) -> dict[str, Check]:
    return {
        "database": partial(check_database, await container.get(DatabaseHealthChecker)),
        "redis": partial(check_redis, await container.get(AtomicRedisClientProtocol)),
        "kafka": partial(check_kafka, await container.get(KafkaBus)),
        "consumer": (await container.get(EventConsumer)).ping,
        "relay": partial(check_running, await container.get(EventRelayWorker)),
    }
