"""The FastAPI application of *spellcheck*: it serves health and metrics; the work comes from Kafka."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dishka import AsyncContainer
from fastapi import FastAPI, Request, Response
from sqlalchemy.ext.asyncio import AsyncEngine

from essay_pipeline.database import create_tables
from essay_pipeline.health import make_health, shared_probes
from essay_pipeline.spellcheck.di import make_container
from essay_pipeline.spellcheck.models import Base
from essay_pipeline.spellcheck.settings import SpellcheckSettings
from essay_pipeline.traces import start_tracing
from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.error_handling.fastapi import register_error_handlers
from huleedu_service_libs.health import (
    ServiceHealth,
    breakers_probe,
    consumer_probe,
    database_probe,
    outbox_probe,
    relay_probe,
)
from huleedu_service_libs.kafka.consumer import EventConsumer
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.exposition import render_metrics
from huleedu_service_libs.middleware.frameworks.fastapi_health import setup_health
from huleedu_service_libs.middleware.frameworks.fastapi_metrics_middleware import (
    setup_standard_service_metrics_middleware,
)
from huleedu_service_libs.middleware.frameworks.fastapi_middleware import setup_tracing_middleware
from huleedu_service_libs.outbox import EventOutbox, EventRelayWorker
from huleedu_service_libs.resilience import CircuitBreakerRegistry

__all__ = ["create_app"]

_logger = create_service_logger("spellcheck.app")


def create_app(settings: SpellcheckSettings) -> FastAPI:
    """The application; nothing connects before it is served."""
    health = make_health(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        container = make_container(settings)
        try:
            async with _running(container):
                app.state.health_checker = await container.get(DatabaseHealthChecker)
                await _watch(container, settings, health)
                await health.start()
                _logger.info("service_started", host=settings.HOST, port=settings.PORT)
                yield
        finally:
            await health.stop()
            await container.close()

    app = FastAPI(title=settings.SERVICE_NAME, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    setup_health(app, health)
    register_error_handlers(app, http_exceptions=True)
    setup_standard_service_metrics_middleware(app, settings.SERVICE_NAME)
    setup_tracing_middleware(app, start_tracing(settings.SERVICE_NAME))

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


async def _watch(container: AsyncContainer, settings: SpellcheckSettings, health: ServiceHealth) -> None:
    """What health looks at; and the consumer finishes when the service is told to stop, before the server does."""
    consumer = await container.get(EventConsumer)
    checker = await container.get(DatabaseHealthChecker)
    health.database = checker
    health.watch(
        *shared_probes(settings),
        database_probe(checker),
        consumer_probe(consumer),
        relay_probe(await container.get(EventRelayWorker)),
        outbox_probe(await container.get(AsyncEngine), settings.SERVICE_NAME),
        breakers_probe(await container.get(CircuitBreakerRegistry)),
    )
    health.drain.finish_with("consumer", consumer.stop)
