"""The one exception type of the services: an `ErrorDetail` that can be raised."""

import pickle
from collections.abc import Callable
from typing import Any, Self, TypeVar

from opentelemetry import trace
from opentelemetry.trace import Span

from common_core.models.error_models import ErrorDetail
from huleedu_service_libs._plain import flat_entries, plain, plain_text
from huleedu_service_libs.observability.recording import record_exception_once

__all__ = ["HuleEduError"]

ErrorT = TypeVar("ErrorT", bound="HuleEduError")


class HuleEduError(Exception):
    """An error with code, context and correlation id.

    Made inside a recording span it records itself there, once: neither `add_detail` nor copies nor
    `trace_operation` further out do so again. What it records is redacted.

    Args:
        error_detail: Everything that is known of the error.
    """

    def __init__(self, error_detail: ErrorDetail) -> None:
        super().__init__(error_detail)
        self.error_detail = error_detail
        span = trace.get_current_span()
        if span.is_recording():
            self._record_on(span)

    @property
    def correlation_id(self) -> str:
        """The request that led here, as text."""
        return str(self.error_detail.correlation_id)

    @property
    def error_code(self) -> str:
        """The code's text."""
        return str(self.error_detail.error_code.value)

    @property
    def service(self) -> str:
        """Where it happened."""
        return self.error_detail.service

    @property
    def operation(self) -> str:
        """Doing what."""
        return self.error_detail.operation

    def to_dict(self) -> dict[str, Any]:
        """Text and detail, unredacted, ids as objects. For logs and tests, not for clients."""
        return {"error": str(self), "error_detail": self.error_detail.model_dump()}

    def add_detail(self, key: str, value: Any) -> Self:
        """A new error with one more detail; this one stays as it is, so raise what is returned.

        Args:
            key: The detail's name; a detail of that name is replaced.
            value: Anything; made plain and redacted when it is shown.
        """
        details = {**self.error_detail.details, key: value}
        return self._twin(self.error_detail.model_copy(update={"details": details}))

    def _twin(self, detail: ErrorDetail) -> Self:
        return _restore(type(self), detail, {**self.__dict__, "error_detail": detail})

    def __copy__(self) -> Self:
        return self._twin(self.error_detail)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # Not by calling the class: a subclass may take other arguments, and nothing may be recorded again.
        state = {name: value for name, value in self.__dict__.items() if name != "error_detail"}
        return _restore, (type(self), _portable(self.error_detail), _portable_state(state))

    def _record_on(self, span: Span) -> None:
        detail = self.error_detail
        stack = detail.stack_trace or f"{type(self).__name__}: {self}"
        record_exception_once(span, self, {"exception.stacktrace": stack})
        attributes: dict[str, str | bool | int | float] = {
            "error": True,
            "error.code": detail.error_code.value,
            "error.message": plain_text(detail.message),
            "error.service": detail.service,
            "error.operation": detail.operation,
            "correlation_id": str(detail.correlation_id),
        }
        for name, shown in flat_entries(detail.details).items():
            attributes[f"error.details.{name}"] = shown
        span.set_attributes(attributes)

    def __str__(self) -> str:
        return f"[{self.error_detail.error_code.value}] {self.error_detail.message}"

    def __repr__(self) -> str:
        detail = self.error_detail
        return (
            f"HuleEduError(code={detail.error_code.value}, message={detail.message}, service={detail.service}, "
            f"operation={detail.operation}, correlation_id={detail.correlation_id})"
        )


def _restore(kind: type[ErrorT], detail: ErrorDetail, state: dict[str, Any]) -> ErrorT:
    error = kind.__new__(kind, detail)
    error.__dict__.update(state)
    error.error_detail = detail
    return error


def _portable(detail: ErrorDetail) -> ErrorDetail:
    """The detail, its values as plain data where one of them cannot be pickled (a lock, a lambda)."""
    if _can_be_pickled(detail.details):
        return detail
    return detail.model_copy(update={"details": plain(detail.details)})


def _portable_state(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value if _can_be_pickled(value) else plain(value) for name, value in state.items()}


def _can_be_pickled(value: object) -> bool:
    try:
        pickle.dumps(value)
    except Exception:  # noqa: BLE001  # whatever the value's own code raises
        return False
    return True
