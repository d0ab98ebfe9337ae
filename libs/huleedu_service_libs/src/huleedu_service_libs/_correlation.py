"""The correlation id of what is running, and events that are made while it runs.

The layer around an application and consumers put the id on log lines; errors, outbox and publishers take it from
there. Knows neither.
"""

from typing import Any, TypeVar
from uuid import UUID

from pydantic import BaseModel

from huleedu_service_libs._ids import acceptable_correlation_id, correlation_uuid
from huleedu_service_libs.logging_utils import log_variable

__all__ = ["correlated", "running_correlation_id"]

_LOGGED = log_variable("correlation_id")
_Envelope = TypeVar("_Envelope")


def running_correlation_id() -> UUID | None:
    """That of the request, or of the event, that is being handled; ``None`` outside of both."""
    running = acceptable_correlation_id(_LOGGED.get(None))
    return correlation_uuid(running) if running else None


def correlated(envelope: _Envelope) -> _Envelope:
    """The envelope; with the running correlation id, as a copy, where whoever made it gave none.

    An envelope that is given none makes itself a new one, which would end the chain from the request to whoever
    handles its events.
    """
    if not isinstance(envelope, BaseModel) or "correlation_id" in envelope.model_fields_set:
        return envelope
    running = running_correlation_id()
    if running is None or "correlation_id" not in type(envelope).model_fields:
        return envelope
    update: dict[str, Any] = {"correlation_id": running}
    return envelope.model_copy(update=update)
