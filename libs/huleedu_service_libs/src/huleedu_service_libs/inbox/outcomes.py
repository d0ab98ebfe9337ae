"""What became of each message of a batch. Plain data."""

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["InboxOutcome", "InboxStatus"]

InboxStatus = Literal["processed", "duplicate", "failed", "held-back"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InboxOutcome:
    """What became of one message.

    Attributes:
        status: ``processed`` and ``duplicate`` are done; ``failed`` has an error; ``held-back`` did not run,
            because an earlier message of its key failed.
        result: What the handler returned.
        error: What it raised, or what the inbox did.
    """

    status: InboxStatus
    result: Any = None
    error: Exception | None = None

    @property
    def done(self) -> bool:
        """Whether the message need not come again."""
        return self.status in {"processed", "duplicate"}
