"""The one exception type of the services: an `ErrorDetail` that can be raised."""

from typing import Any, Self

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode

from common_core.models.error_models import ErrorDetail

__all__ = ["HuleEduError"]


class HuleEduError(Exception):
    """An error with code, context and correlation id.

    Raised inside a recording span it records itself there once.

    Args:
        error_detail: Everything that is known of the error.
    """

    def __init__(self, error_detail: ErrorDetail) -> None:
        super().__init__(error_detail)  # as the sole argument, so that pickle and copy can rebuild it
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
        """Text and detail; ids stay objects. For logs and tests, not for clients: it holds the stack."""
        return {"error": str(self), "error_detail": self.error_detail.model_dump()}

    def add_detail(self, key: str, value: Any) -> Self:
        """A new error with one more detail; this one stays as it is."""
        details = {**self.error_detail.details, key: value}
        return type(self)(self.error_detail.model_copy(update={"details": details}))

    def _record_on(self, span: Span) -> None:
        detail = self.error_detail
        span.record_exception(self)
        span.set_status(Status(StatusCode.ERROR, detail.message))
        attributes: dict[str, str | bool | int | float] = {
            "error": True,
            "error.code": detail.error_code.value,
            "error.message": detail.message,
            "error.service": detail.service,
            "error.operation": detail.operation,
            "correlation_id": str(detail.correlation_id),
        }
        for key, value in detail.details.items():
            attributes[f"error.details.{key}"] = value if isinstance(value, str | int | float) else str(value)
        span.set_attributes(attributes)

    def __str__(self) -> str:
        return f"[{self.error_detail.error_code.value}] {self.error_detail.message}"

    def __repr__(self) -> str:
        detail = self.error_detail
        return (
            f"HuleEduError(code={detail.error_code.value}, message={detail.message}, service={detail.service}, "
            f"operation={detail.operation}, correlation_id={detail.correlation_id})"
        )
