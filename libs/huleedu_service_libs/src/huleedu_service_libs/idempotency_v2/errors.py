"""What a consumer is told instead of a result, and what the parts tell each other when Redis does not answer."""

from typing import Any

from huleedu_service_libs.store_policy import DeferredError

__all__ = ["EventInProgressError", "StoreError"]


class EventInProgressError(DeferredError):
    """Another worker is processing the event; do not commit the offset, deliver it again later.

    Attributes:
        event_id: The event, ``None`` when the producer gave it no id.
        key: Its key in Redis.
        owner: Who is processing it, as far as its record says.
    """

    def __init__(self, *, event_id: str | None, key: str, owner: str | None) -> None:
        super().__init__(event_id, key, owner)
        self.event_id = event_id
        self.key = key
        self.owner = owner

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (self.event_id, self.key, self.owner)

    def __str__(self) -> str:
        return (
            f"Event {self.event_id} is being processed by {self.owner or 'another worker'} (key {self.key}); "
            "leave the offset uncommitted and deliver it again"
        )


def _rebuild_error(event_id: str | None, key: str, owner: str | None) -> EventInProgressError:
    return EventInProgressError(event_id=event_id, key=key, owner=owner)


class StoreError(Exception):
    """Redis did not answer, or not with an answer of the expected kind.

    Attributes:
        operation: What was asked.
    """

    def __init__(self, operation: str, cause: object) -> None:
        super().__init__(f"{operation}: {cause}")
        self.operation = operation
