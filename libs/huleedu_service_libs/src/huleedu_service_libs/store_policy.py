"""What a handler wants done with its events while the store that remembers them is down.

Handlers declare it (``IdempotencyConfig``, ``InboxConfig``); the consumer runner
reads it off the `StoreDownError` that they then raise. Knows no store and no runner.
"""

from typing import Any, Literal, get_args

__all__ = ["STORE_DOWN_POLICIES", "DeferredError", "StoreDownError", "StoreDownPolicy", "check_store_down_policy"]

StoreDownPolicy = Literal["process", "pause", "dead-letter"]
"""``process`` runs the handler unprotected, and a duplicate has a second effect. ``pause`` lets the
event wait, and those behind it, until the store is back. ``dead-letter`` sets it aside."""

STORE_DOWN_POLICIES: tuple[str, ...] = get_args(StoreDownPolicy)


class DeferredError(Exception):
    """The handler did not run, for a reason outside of the event: deliver it again later, and count no attempt."""


class StoreDownError(DeferredError):
    """The store could not say whether the event was processed before, and the handler did not run.

    Whoever consumes does not count it as an attempt of the handler: the event is not to blame.

    Attributes:
        store: Which store, ``redis`` or ``postgresql``.
        operation: What it was asked.
        policy: What the handler declared: ``pause`` or ``dead-letter``.
        reason: What the driver said, without credentials.
    """

    def __init__(self, *, store: str, operation: str, policy: StoreDownPolicy, reason: str) -> None:
        super().__init__(store, operation, policy, reason)
        self.store = store
        self.operation = operation
        self.policy: StoreDownPolicy = policy
        self.reason = reason

    def __str__(self) -> str:
        then = {
            "pause": "leave the offset uncommitted and pause the partition until it answers",
            "dead-letter": "set the event aside in the dead-letter topic",
            "process": "process it unprotected",
        }[self.policy]
        return (
            f"The store of processed events ({self.store}) does not answer ({self.operation}: {self.reason}), "
            f"so the handler did not run; its policy is {self.policy!r}: {then}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_error, (self.store, self.operation, self.policy, self.reason)


def _rebuild_error(store: str, operation: str, policy: StoreDownPolicy, reason: str) -> StoreDownError:
    return StoreDownError(store=store, operation=operation, policy=policy, reason=reason)


def check_store_down_policy(value: str) -> None:
    """Refuse what is no policy.

    Raises:
        ValueError: It is none of ``process``, ``pause`` and ``dead-letter``.
    """
    if value not in STORE_DOWN_POLICIES:
        raise ValueError(f"store_down must be one of {', '.join(STORE_DOWN_POLICIES)}, got {value!r}")
