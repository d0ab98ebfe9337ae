"""The HTTP side of *intake*."""

from http import HTTPStatus
from typing import Any, NoReturn
from uuid import UUID

from pydantic import ValidationError
from quart import Blueprint, Response, current_app, jsonify, request

from essay_pipeline.clock import utc_now
from essay_pipeline.contracts import moment_text
from essay_pipeline.errors import ConflictError
from essay_pipeline.intake.models import EssayRequest
from essay_pipeline.intake.service import EssayIntake, Submission, TransactionRolledBackError
from essay_pipeline.intake.settings import IntakeSettings
from essay_pipeline.tokens import InvalidTokenError, verify_token
from huleedu_service_libs.error_handling import ErrorContext, raise_authentication_error, raise_validation_error
from huleedu_service_libs.middleware.exposition import render_metrics
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
        user_id=_user_id(settings),
        essay=_essay(await request.get_data()),
        correlation_id=correlation_id,
        received_at=utc_now(),
    )
    intake: EssayIntake = current_app.extensions["intake"]
    roll_back = settings.DEMO_ROLLBACK_ENABLED and request.headers.get("X-Demo-Rollback") == "1"
    try:
        receipt = await intake.accept(submission, roll_back=roll_back)
    except TransactionRolledBackError as error:
        raise ConflictError.here(
            "The transaction was rolled back; nothing was stored", essay_id=error.essay_id
        ) from error
    body = {
        "essay_id": str(receipt.essay_id),
        "event_id": str(receipt.event_id),
        "correlation_id": str(correlation_id),
        "received_at": moment_text(submission.received_at),
        "stored_at": moment_text(receipt.stored_at),
    }
    return jsonify(body), HTTPStatus.ACCEPTED


@routes.get("/metrics")
async def metrics() -> Response:
    """The collectors, for Prometheus."""
    body, content_type = render_metrics(request.headers.get("Accept"))
    return Response(body, content_type=content_type)


def _correlation_id() -> UUID:
    """The request's id, which events carry.

    Raises:
        HuleEduError: The caller sent one that is no UUID.
    """
    try:
        return UUID(str(request.scope.get(SCOPE_KEY)))
    except ValueError:
        _refuse(CORRELATION_HEADER, f"{CORRELATION_HEADER} must be a UUID")


def _user_id(settings: IntakeSettings) -> str:
    """Who calls.

    Raises:
        HuleEduError: The token is missing or wrong.
    """
    try:
        return verify_token(request.headers.get("X-User-Token", ""), settings.get_internal_api_key())
    except InvalidTokenError as error:
        raise_authentication_error(message=f"X-User-Token: {error}", **_context().arguments())


def _essay(body: str | bytes) -> EssayRequest:
    """The validated request.

    Raises:
        HuleEduError: The body is not JSON, or not an essay; ``details.errors`` says what is wrong where.
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
        _refuse(first["field"], message, errors=faults)


def _refuse(field: str, message: str, **details: Any) -> NoReturn:
    raise_validation_error(field=field, message=message, **details, **_context().arguments())


def _context() -> ErrorContext:
    return ErrorContext.current(service=current_app.config["SERVICE_NAME"], operation=_OPERATION)
