"""Error handlers of a Quart application. Services import them from ``error_handling.quart``."""

from dataclasses import replace
from functools import partial
from typing import Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("quart", module=__name__):
    from quart import Quart, Response, current_app, has_request_context, has_websocket_context, websocket
    from quart import request as current_request
    from werkzeug.exceptions import HTTPException

from common_core.models.error_models import ErrorDetail
from huleedu_service_libs._ids import correlation_uuid
from huleedu_service_libs.error_handling.context import CORRELATION_HEADER
from huleedu_service_libs.error_handling.http_mapping import Answer
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError
from huleedu_service_libs.middleware.error_answers import (
    RequestView,
    answer_http,
    answer_known,
    answer_unexpected,
    correlation_id_of,
    to_answer,
)
from huleedu_service_libs.middleware.exchange import SCOPE_KEY
from huleedu_service_libs.middleware.frameworks.quart_edge import edge_of, mark_failed

__all__ = ["create_error_response", "extract_correlation_id", "register_error_handlers"]


def register_error_handlers(app: Quart, *, http_exceptions: bool = True) -> None:
    """Answer every error of ``app`` in the services' one form, with the ids of its request.

    `HuleEduError` gets the status of its code, anything unexpected 500. What Quart itself refuses keeps
    its status. What fails while an answer is being streamed is logged, and the server closes the
    connection; a WebSocket is closed with 1011. The application is wrapped in `RequestContextMiddleware`.

    Args:
        app: Its ``config["SERVICE_NAME"]`` stands in the answers.
        http_exceptions: Give 404, 405 and other answers of Quart's own the same form; without it they
            stay as Quart makes them.
    """
    app.register_error_handler(HuleEduError, _on_known)
    app.register_error_handler(Exception, _on_unexpected)
    if http_exceptions:
        app.register_error_handler(HTTPException, _on_http)
    edge_of(app).on_error = partial(_late_error, app)


def create_error_response(error_detail: ErrorDetail, status_code: int | None = None) -> tuple[Response, int]:
    """The answer for an error, to return from a view or a handler.

    Args:
        error_detail: What is known of it.
        status_code: Wins over that of the code.
    """
    view = _view()
    if not has_request_context() or SCOPE_KEY not in _scope(current_request):
        # Nobody has bound an id to the request, so the error's own stands in the header too.
        own = error_detail.correlation_id
        view = view if correlation_uuid(view.correlation_id) == own else replace(view, correlation_id=str(own))
    sent = to_answer(error_detail, view, status_code)
    return _response(sent), sent.status


def extract_correlation_id(request: Any) -> str:
    """The request's correlation id: what the middleware gave it, then header, then query, then a new one."""
    return correlation_id_of(
        _scope(request).get(SCOPE_KEY), request.headers.get(CORRELATION_HEADER), request.args.get("correlation_id")
    )


def _late_error(app: Quart, scope: Any, error: Exception) -> None:
    """Log what Quart's handlers do not see: errors of a generator whose first bytes are out."""
    view = RequestView(
        method=str(scope.get("method", "WEBSOCKET")),
        path=str(scope.get("path", "")),
        accept=None,
        correlation_id=correlation_id_of(scope.get(SCOPE_KEY)),
        service=_service_of(app),
    )
    answer_unexpected(error, view)


def _on_known(error: HuleEduError) -> Response:
    _fail_websocket()
    return _response(answer_known(error, _view()))


def _on_http(error: HTTPException) -> Response | HTTPException:
    original = getattr(error, "original_exception", None)
    if isinstance(original, Exception):
        return _response(answer_unexpected(original, _view()))
    status = error.code
    if error.response is not None or status is None or status < 400:  # noqa: PLR2004  # a redirection, or abort(response)
        return error
    said = None if error.description == type(error).description else error.description
    return _response(answer_http(error, status, said, error.get_headers(), _view()))


def _on_unexpected(error: Exception) -> Response | HTTPException:
    if isinstance(error, HTTPException):  # Quart looks for handlers by base class: without this, 404 becomes 500
        return error
    _fail_websocket()
    return _response(answer_unexpected(error, _view()))


def _fail_websocket() -> None:
    if has_websocket_context():
        mark_failed(websocket)


def _response(sent: Answer) -> Response:
    response = Response(sent.body, status=sent.status, headers=sent.headers, content_type=sent.content_type)
    for name, value in sent.repeated_headers:
        response.headers.add(name, value)
    return response


def _view() -> RequestView:
    make = partial(RequestView, service=_service_of(current_app))
    if has_websocket_context():
        return make(
            method="WEBSOCKET",
            path=websocket.path,
            accept=None,
            correlation_id=extract_correlation_id(websocket),
        )
    if not has_request_context():  # a job that builds an answer
        return make(method="", path="", accept=None, correlation_id=correlation_id_of())
    return make(
        method=current_request.method,
        path=current_request.path,
        accept=current_request.headers.get("Accept"),
        correlation_id=extract_correlation_id(current_request),
    )


def _service_of(app: Any) -> str:
    return str(app.config.get("SERVICE_NAME") or "unknown")


def _scope(request: Any) -> dict[str, Any]:
    scope = getattr(request, "scope", None)
    return scope if isinstance(scope, dict) else {}
