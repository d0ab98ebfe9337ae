"""A message on its way, and which later ones must wait when one fails.

The parts that send (``batching``, ``delivery``, ``coalescing``) share it. Knows no driver.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from huleedu_service_libs._redaction import error_text
from huleedu_service_libs.kafka.driver_errors import is_transient
from huleedu_service_libs.kafka.errors import MessageHeldBackError
from huleedu_service_libs.protocols import DeliveryOutcome, OutgoingMessage

__all__ = ["ACKNOWLEDGED", "Blocked", "Item"]

ACKNOWLEDGED = DeliveryOutcome()


@dataclass(slots=True, eq=False)
class Item:
    """One message on its way; ``outcome`` is filled in as it becomes known."""

    message: OutgoingMessage
    outcome: DeliveryOutcome | None = None

    @property
    def order(self) -> tuple[str, bytes] | None:
        """Messages with the same one must keep their order; ``None`` stands alone."""
        return None if self.message.key is None else (self.message.topic, self.message.key)

    def fail(self, error: Exception) -> None:
        """It was tried, or can never be sent."""
        self.outcome = DeliveryOutcome(error=error, transient=is_transient(error))

    def hold_back(self, cause: Exception) -> None:
        """It was not tried, because of ``cause``."""
        error = MessageHeldBackError(self.message.topic, error_text(cause))
        self.outcome = DeliveryOutcome(error=error, transient=True, attempted=False)


class Blocked:
    """Keys that must wait because an earlier message of theirs failed for good."""

    def __init__(self) -> None:
        self._causes: dict[tuple[str, bytes], Exception] = {}

    def add(self, item: Item, cause: Exception) -> None:
        """Let what comes after ``item`` wait."""
        if item.order is not None:
            self._causes.setdefault(item.order, cause)

    def let_through(self, items: Sequence[Item]) -> list[Item]:
        """The items that need not wait; the others are marked as held back."""
        if not self._causes:
            return list(items)
        free = []
        for item in items:
            cause = None if item.order is None else self._causes.get(item.order)
            if cause is None:
                free.append(item)
            else:
                item.hold_back(cause)
        return free
