"""The correlation id of what is running, for spans. The layer around an application and consumers set it."""

from contextvars import ContextVar

__all__ = ["CORRELATION_ID"]

CORRELATION_ID: ContextVar[str | None] = ContextVar("huleedu_correlation_id", default=None)
