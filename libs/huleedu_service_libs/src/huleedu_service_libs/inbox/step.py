"""The inbox as a step in front of the handlers of a consumer (``kafka.consumer``).

Knows no Kafka client and not the consumer: what a step is given has a ``record``, and what it calls
takes keywords.
"""

from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from huleedu_service_libs._checks import at_least_one
from huleedu_service_libs.inbox.grouping import Group
from huleedu_service_libs.inbox.processing import Inbox

__all__ = ["InboxStep"]

_Proceed = Callable[..., Awaitable[None]]


class _HasRecord(Protocol):
    @property
    def record(self) -> Any:
        """The message."""
        ...


class InboxStep:
    """Runs handlers in the transaction that records the event; they get it as the parameter ``session``.

    With ``together`` deliveries of different keys share a transaction and its commit. Their handlers then
    run one after the other, so it is for handlers that only write; and when one fails, the others of its
    transaction are rolled back and run again, so their effects must all be in ``session``.

    Args:
        inbox: Decides.
        together: Deliveries in one transaction at most.
        parallel: With ``together``, transactions at the same time.

    Raises:
        ValueError: A number is below 1.
    """

    offers: ClassVar = frozenset({"session"})
    """Parameters of handlers that it fills; the consumer refuses a handler with one that nothing fills."""

    def __init__(self, inbox: Inbox, *, together: int = 1, parallel: int = 2) -> None:
        at_least_one(together=together, parallel=parallel)
        self._inbox = inbox
        self._group = Group(inbox, size=together, parallel=parallel) if together > 1 else None

    async def process(self, delivery: _HasRecord, proceed: _Proceed) -> None:
        """Let the event through unless it was processed before.

        Raises:
            InboxBusyError: Another worker has it.
            StoreDownError: PostgreSQL does not answer, and the configuration says to wait or to set the event aside.
            PayloadMismatchError: Its id was processed with other data.
            Exception: What the handler or the commit raises.
        """
        if self._group is not None:
            await self._group.process(delivery.record, proceed)
            return

        async def run(session: AsyncSession) -> None:
            await proceed(session=session)

        await self._inbox.process(delivery.record, run)
