"""The Quart application of *intake*: start and stop, errors, CORS."""

from functools import partial
from http import HTTPStatus
from uuid import UUID, uuid4

from quart import Response, jsonify, request
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine
from werkzeug.exceptions import HTTPException

from common_core.error_enums import ErrorCode
from essay_pipeline.database import check_database, create_tables
from essay_pipeline.errors import ApiError, api_error, error_body, status_of
from essay_pipeline.health import check_kafka, check_redis, check_running
from essay_pipeline.intake.di import make_container
from essay_pipeline.intake.models import Base
from essay_pipeline.intake.routes import routes
from essay_pipeline.intake.service import EssayIntake
from essay_pipeline.intake.settings import IntakeSettings
from huleedu_service_libs.error_handling import HuleEduError
from huleedu_service_libs.kafka_client import KafkaBus
from huleedu_service_libs.logging_utils import create_service_logger
from huleedu_service_libs.middleware.request_context import SCOPE_KEY, RequestContextMiddleware
from huleedu_service_libs.outbox import EventOutbox, EventRelayWorker
from huleedu_service_libs.protocols import AtomicRedisClientProtocol
from huleedu_service_libs.quart_app import HuleEduApp
from huleedu_service_libs.resilience import CircuitBreakerRegistry

__all__ = ["create_app"]

_logger = create_service_logger("intake.app")

# What SQLAlchemy and asyncpg raise when they cannot connect, or lose the connection.
_DATABASE_IS_AWAY = (OperationalError, InterfaceError, OSError, TimeoutError)

_CODE_OF_STATUS = {
    404: ErrorCode.RESOURCE_NOT_FOUND,
    413: ErrorCode.VALIDATION_ERROR,
}
_CORS_HEADERS = "Content-Type, X-User-Token, X-Correlation-ID, traceparent, tracestate"
_CORS_EXPOSED = "X-Correlation-ID, X-Trace-ID, traceparent"


def create_app(settings: IntakeSettings) -> HuleEduApp:
    """The application; nothing connects before it is served."""
    app = HuleEduApp("essay_pipeline.intake")
    app.config["SETTINGS"] = settings
    app.config["MAX_CONTENT_LENGTH"] = settings.MAX_BODY_BYTES
    app.register_blueprint(routes)
    app.before_serving(partial(_start, app, settings))
    app.after_serving(partial(_stop, app))
    app.after_request(partial(_add_headers, settings))
    app.register_error_handler(HuleEduError, _answer_known_error)
    for kind in _DATABASE_IS_AWAY:
        app.register_error_handler(kind, partial(_answer_database_is_away, settings))
    app.register_error_handler(HTTPException, partial(_answer_http_error, settings))
    app.register_error_handler(Exception, partial(_answer_unexpected_error, settings))
    app.asgi_app = RequestContextMiddleware(app.asgi_app)  # type: ignore[method-assign,assignment,arg-type]  # Quart's own way, but typed closely
    return app


async def _start(app: HuleEduApp, settings: IntakeSettings) -> None:
    app.container = make_container(settings)
    try:
        engine = await app.container.get(AsyncEngine)
        await create_tables(engine, [Base.metadata, EventOutbox.metadata])
        app.database_engine = engine
        app.extensions["intake"] = await app.container.get(EssayIntake)
        relay = await app.container.get(EventRelayWorker)
        await relay.start()
        app.relay_worker = relay
        app.extensions["circuit_breakers"] = await app.container.get(CircuitBreakerRegistry)
        app.extensions["health_checks"] = {
            "database": partial(check_database, engine),
            "redis": partial(check_redis, await app.container.get(AtomicRedisClientProtocol)),
            "kafka": partial(check_kafka, await app.container.get(KafkaBus)),
            "relay": partial(check_running, relay),
        }
    except BaseException:
        await _stop(app)
        raise
    _logger.info("service_started", host=settings.HOST, port=settings.PORT)


async def _stop(app: HuleEduApp) -> None:
    relay: EventRelayWorker | None = app.relay_worker
    try:
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


async def _answer_known_error(error: HuleEduError) -> tuple[Response, int]:
    status = status_of(error)
    log = _logger.info if status < HTTPStatus.INTERNAL_SERVER_ERROR else _logger.error
    log("request_refused", code=error.error_code, status=status, message=error.error_detail.message)
    return jsonify(error_body(error.error_detail)), status


async def _answer_database_is_away(settings: IntakeSettings, error: Exception) -> tuple[Response, int]:
    _logger.error("database_is_away", error=repr(error))
    message = "The essay cannot be stored at the moment; try again later"
    return await _answer_known_error(_error_here(settings, ErrorCode.SERVICE_UNAVAILABLE, message))


async def _answer_http_error(settings: IntakeSettings, error: HTTPException) -> tuple[Response, int]:
    """Answer what Quart itself refuses: unknown paths, wrong methods, bodies that are too large."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    message = str(error.description)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        message = f"The body is larger than {settings.MAX_BODY_BYTES} bytes"
    code = _CODE_OF_STATUS.get(status, ErrorCode.INVALID_REQUEST)
    return await _answer_known_error(_error_here(settings, code, message, status))


async def _answer_unexpected_error(settings: IntakeSettings, error: Exception) -> tuple[Response, int]:
    _logger.error("request_failed", path=request.path, exc_info=error)
    unexpected = _error_here(settings, ErrorCode.UNKNOWN_ERROR, "An unexpected error occurred")
    return jsonify(error_body(unexpected.add_detail("error_type", type(error).__name__).error_detail)), 500


def _error_here(settings: IntakeSettings, code: ErrorCode, message: str, status: int | None = None) -> ApiError:
    return api_error(
        code,
        message,
        service=settings.SERVICE_NAME,
        operation=f"{request.method} {request.path}",
        correlation_id=_known_correlation_id(),
        status_code=status,
    )


def _known_correlation_id() -> UUID:
    try:
        return UUID(str(request.scope.get(SCOPE_KEY)))
    except ValueError:
        return uuid4()
