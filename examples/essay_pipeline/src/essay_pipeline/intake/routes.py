"""The HTTP side of *intake*."""

from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from pydantic import ValidationError
from quart import Blueprint, Response, current_app, jsonify, request

from common_core.error_enums import ErrorCode
from essay_pipeline.clock import utc_now
from essay_pipeline.contracts import moment_text
from essay_pipeline.errors import ApiError, api_error
from essay_pipeline.health import METRICS_CONTENT_TYPE, Check, health_report, metrics_text
from essay_pipeline.intake.models import EssayRequest
from essay_pipeline.intake.service import EssayIntake, Submission, TransactionRolledBackError
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.tokens import InvalidTokenError, verify_token
from huleedu_service_libs.middleware.request_context import CORRELATION_HEADER, SCOPE_KEY

__all__ = ["routes"]

routes = Blueprint("intake", __name__)

_OPERATION = "submit_essay"


@routes.post("/v1/essays")
async def submit_essay() -> tuple[Response, int]:
    """Take one essay; 202 once it and its event are stored."""
    settings: IntakeSettings = current_app.config["SETTINGS"]
    correlation_id = _correlation_id()
    submission = Submission(
        user_id=_user_id(settings, correlation_id),
        essay=_essay(await request.get_data(), settings.SERVICE_NAME, correlation_id),
        correlation_id=correlation_id,
        received_at=utc_now(),
    )
    intake: EssayIntake = current_app.extensions["intake"]
    roll_back = settings.DEMO_ROLLBACK_ENABLED and request.headers.get("X-Demo-Rollback") == "1"
    try:
        receipt = await intake.accept(submission, roll_back=roll_back)
    except TransactionRolledBackError as error:
        raise api_error(
            ErrorCode.PROCESSING_ERROR,
            "The transaction was rolled back; nothing was stored",
            service=settings.SERVICE_NAME,
            operation=_OPERATION,
            correlation_id=correlation_id,
            status_code=HTTPStatus.CONFLICT,
            details={"essay_id": str(error.essay_id)},
        ) from error
    body = {
        "essay_id": str(receipt.essay_id),
        "event_id": str(receipt.event_id),
        "correlation_id": str(correlation_id),
        "received_at": moment_text(submission.received_at),
        "stored_at": moment_text(receipt.stored_at),
    }
    return jsonify(body), HTTPStatus.ACCEPTED


@routes.get("/healthz")
async def healthz() -> tuple[Response, int]:
    """200 when database, Redis and Kafka answer and the relay runs; else 503 with the reasons."""
    settings: IntakeSettings = current_app.config["SETTINGS"]
    checks: dict[str, Check] = current_app.extensions["health_checks"]
    status, body = await health_report(
        settings.SERVICE_NAME, checks, breakers=current_app.extensions.get("circuit_breakers")
    )
    return jsonify(body), status


@routes.get("/metrics")
async def metrics() -> Response:
    """The collectors, for Prometheus."""
    return Response(metrics_text(), content_type=METRICS_CONTENT_TYPE)


def _correlation_id() -> UUID:
    """The request's id, which events carry.

    Raises:
        ApiError: The caller sent one that is no UUID.
    """
    try:
        return UUID(str(request.scope.get(SCOPE_KEY)))
    except ValueError as error:
        raise _refused(f"{CORRELATION_HEADER} must be a UUID", uuid4()) from error


def _user_id(settings: IntakeSettings, correlation_id: UUID) -> str:
    """Who calls.

    Raises:
        ApiError: The token is missing or wrong.
    """
    try:
        return verify_token(request.headers.get("X-User-Token", ""), settings.get_internal_api_key())
    except InvalidTokenError as error:
        raise api_error(
            ErrorCode.AUTHENTICATION_ERROR,
            f"X-User-Token: {error}",
            service=settings.SERVICE_NAME,
            operation=_OPERATION,
            correlation_id=correlation_id,
        ) from error


def _essay(body: str | bytes, service: str, correlation_id: UUID) -> EssayRequest:
    """The validated request.

    Raises:
        ApiError: The body is not JSON, or not an essay; ``details.errors`` says what is wrong where.
    """
    try:
        return EssayRequest.model_validate_json(body)
    except ValidationError as error:
        faults: list[dict[str, Any]] = [
            {"field": ".".join(map(str, fault["loc"])), "problem": fault["msg"], "type": fault["type"]}
            for fault in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        first = faults[0]
        message = f"{first['field']}: {first['problem']}" if first["field"] else first["problem"]
        raise _refused(message, correlation_id, service=service, details={"errors": faults}) from error


def _refused(
    message: str, correlation_id: UUID, *, service: str | None = None, details: dict[str, Any] | None = None
) -> ApiError:
    return api_error(
        ErrorCode.VALIDATION_ERROR,
        message,
        service=service or current_app.config["SETTINGS"].SERVICE_NAME,
        operation=_OPERATION,
        correlation_id=correlation_id,
        details=details,
    )
