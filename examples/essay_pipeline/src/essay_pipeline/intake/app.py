"""The Quart application of *intake*: start and stop, errors, CORS."""

from functools import partial

from quart import Response, request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from werkzeug.exceptions import RequestEntityTooLarge

from common_core.error_enums import ErrorCode
from essay_pipeline.database import create_tables
from essay_pipeline.health import make_health, shared_probes
from essay_pipeline.intake.di import make_container
from essay_pipeline.intake.models import Base
from essay_pipeline.intake.routes import routes
from essay_pipeline.intake.service import EssayIntake
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.traces import start_tracing
from huleedu_service_libs.database import DatabaseHealthChecker
from huleedu_service_libs.error_handling import ErrorContext
from huleedu_service_libs.error_handling.quart import create_error_response, register_error_handlers
from huleedu_service_libs.health import ServiceHealth, breakers_probe, database_probe, outbox_probe, relay_probe
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.metrics_middleware import setup_standard_service_metrics_middleware
from huleedu_service_libs.middleware.frameworks.quart_health import setup_health
from huleedu_service_libs.middleware.frameworks.quart_middleware import setup_tracing_middleware
from huleedu_service_libs.outbox import EventOutbox, EventRelayWorker
from huleedu_service_libs.quart_app import HuleEduApp
from huleedu_service_libs.resilience import CircuitBreakerRegistry

__all__ = ["create_app"]

_logger = create_service_logger("intake.app")

# What SQLAlchemy and asyncpg raise when they cannot connect, or lose the connection.
_DATABASE_IS_AWAY = (OperationalError, InterfaceError, OSError, TimeoutError)

_CORS_HEADERS = "Content-Type, X-User-Token, X-Correlation-ID, traceparent, tracestate"
_CORS_EXPOSED = "X-Correlation-ID, X-Trace-ID, traceparent"


def create_app(settings: IntakeSettings) -> HuleEduApp:
    """The application; nothing connects before it is served."""
    app = HuleEduApp("essay_pipeline.intake")
    app.config["SETTINGS"] = settings
    app.config["SERVICE_NAME"] = settings.SERVICE_NAME
    app.config["MAX_CONTENT_LENGTH"] = settings.MAX_BODY_BYTES
    app.register_blueprint(routes)
    health = make_health(settings)
    setup_health(app, health)
    app.before_serving(partial(_start, app, settings, health))
    app.after_serving(partial(_stop, app, health))
    app.after_request(partial(_add_headers, settings))
    register_error_handlers(app)
    setup_standard_service_metrics_middleware(app, settings.SERVICE_NAME)
    setup_tracing_middleware(app, start_tracing(settings.SERVICE_NAME))
    for kind in _DATABASE_IS_AWAY:
        app.register_error_handler(kind, _answer_database_is_away)
    app.register_error_handler(RequestEntityTooLarge, partial(_answer_too_large, settings))
    return app


async def _start(app: HuleEduApp, settings: IntakeSettings, health: ServiceHealth) -> None:
    app.container = make_container(settings)
    try:
        engine = await app.container.get(AsyncEngine)
        await create_tables(engine, [Base.metadata, EventOutbox.metadata])
        app.database_engine = engine
        app.extensions["intake"] = await app.container.get(EssayIntake)
        relay = await app.container.get(EventRelayWorker)
        await relay.start()
        app.relay_worker = relay
        checker = await app.container.get(DatabaseHealthChecker)
        health.database = app.extensions["health_checker"] = checker
        health.watch(
            *shared_probes(settings),
            database_probe(checker),
            relay_probe(relay),
            outbox_probe(engine, settings.SERVICE_NAME),
            breakers_probe(await app.container.get(CircuitBreakerRegistry)),
        )
        await health.start()
    except BaseException:
        await _stop(app, health)
        raise
    _logger.info("service_started", host=settings.HOST, port=settings.PORT)


async def _stop(app: HuleEduApp, health: ServiceHealth) -> None:
    relay: EventRelayWorker | None = app.relay_worker
    try:
        await health.stop()
        if relay is not None:
            await relay.stop()
    finally:
        await app.container.close()


async def _add_headers(settings: IntakeSettings, response: Response) -> Response:
    if settings.ALLOWED_ORIGIN:
        response.headers.add("Vary", "Origin")
        if request.headers.get("Origin") == settings.ALLOWED_ORIGIN:
            response.headers["Access-Control-Allow-Origin"] = settings.ALLOWED_ORIGIN
            response.headers["Access-Control-Allow-Methods"] = "POST, OPTIONS"
            response.headers["Access-Control-Allow-Headers"] = _CORS_HEADERS
            response.headers["Access-Control-Expose-Headers"] = _CORS_EXPOSED
            response.headers["Access-Control-Max-Age"] = "600"
    return response


async def _answer_database_is_away(error: Exception) -> tuple[Response, int]:
    _logger.error("database_is_away", error=repr(error))
    message = "The essay cannot be stored at the moment; try again later"
    return create_error_response(ErrorContext.current().detail(ErrorCode.SERVICE_UNAVAILABLE, message))


async def _answer_too_large(settings: IntakeSettings, error: RequestEntityTooLarge) -> tuple[Response, int]:
    message = f"The body is larger than {settings.MAX_BODY_BYTES} bytes"
    return create_error_response(ErrorContext.current().detail(ErrorCode.VALIDATION_ERROR, message), error.code)
