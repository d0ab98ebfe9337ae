"""The section of the console that shows a service's outbox: what waits, what is parked and why; and redrives single events.

Whole selections, with a dry run and a reason, are the command line's: ``huleedu outbox redrive``.
"""

from collections.abc import Sequence
from typing import Literal
from uuid import UUID

from huleedu_service_libs.console.sections import (
    Action,
    ActionRefusedError,
    Cell,
    Reading,
    Row,
    Table,
    Tone,
    UnknownTargetError,
)
from huleedu_service_libs.outbox.parked import ParkedEvent, Selection, list_parked
from huleedu_service_libs.outbox.redrive import plan_redrive, redrive
from huleedu_service_libs.outbox.repository import PostgreSQLOutboxRepository
from huleedu_service_libs.outbox.settings import MAX_RETRIES
from huleedu_service_libs.outbox.status import OutboxStatus, StatusLimits, read_status

__all__ = ["OutboxSection"]

SHOWN = 50  # parked events on the page
TIMEOUT_S = 2.0  # for a statement; a page that waits longer is no help

_MODES: dict[str, Literal["in-place", "appended"]] = {"redrive": "in-place", "append": "appended"}
_ACTIONS = (
    Action(
        name="redrive",
        label="Redrive",
        meaning="new attempts in its old place, while nothing later of its key has left",
    ),
    Action(name="append", label="Append", meaning="new attempts at the end of its key"),
)
_TONES = {"healthy": Tone.GOOD, "warning": Tone.WARNING, "unhealthy": Tone.BAD}


class OutboxSection:
    """Shows the outbox of one service.

    Args:
        repository: Where the table is; its service name labels what is done here.
        max_retries: As in the relay's settings; it says what is parked.
        limits: From when on something is worth telling.

    Attributes:
        name: See `Section`.
        title: See `Section`.
    """

    name = "outbox"
    title = "Outbox"

    def __init__(
        self,
        repository: PostgreSQLOutboxRepository,
        *,
        max_retries: int = MAX_RETRIES,
        limits: StatusLimits | None = None,
    ) -> None:
        self._engine = repository.engine
        self._service_name = repository.service_name
        self._max_retries = max_retries
        self._limits = limits

    async def read(self) -> Reading:
        """See `Section`.

        Raises:
            TimeoutError: The database took too long; the page then says so in place of the table.
        """
        status = await read_status(
            self._engine,
            service_name=self._service_name,
            max_retries=self._max_retries,
            limits=self._limits,
            timeout_s=TIMEOUT_S,
        )
        parked = await list_parked(self._engine, max_retries=self._max_retries, limit=SHOWN, timeout_s=TIMEOUT_S)
        return Reading(
            data={"status": status.as_json(), "parked": [one.as_json() for one in parked]},
            summary=" ".join(f"{one}." for one in status.problems) or f"Healthy; waiting events: {status.waiting}.",
            tone=_TONES[status.status],
            tables=[_state(status), _parked(parked, status)],
        )

    async def act(self, action: str, target: str) -> str:
        """``redrive`` a parked event in place, or ``append`` it to the end of its key.

        Raises:
            UnknownTargetError: No parked event has that id.
            ActionRefusedError: There is no such action; or in place would be out of order.
            TimeoutError: The database took too long, as for `read`.
        """
        mode = _MODES.get(action)
        if mode is None:
            raise ActionRefusedError(f"a parked event cannot {action!r}; it can: {', '.join(_MODES)}")
        selection = Selection(ids=(_id_of(target),))
        plan = await plan_redrive(self._engine, selection, mode=mode, max_retries=self._max_retries)
        if not plan.events:
            raise UnknownTargetError(f"no event {target} is parked; it may have been redriven already")
        if mode == "in-place" and plan.overtaken:
            raise ActionRefusedError(f"{plan.warnings[0]}. Append it, or use `huleedu outbox redrive --mode in-place`")
        result = await redrive(
            self._engine,
            selection,
            mode=mode,
            actor="console",
            reason=f"{action} of this event on the console",
            service_name=self._service_name,
            max_retries=self._max_retries,
        )
        if not result.moved:
            raise ActionRefusedError(f"event {target} is in somebody else's hands just now; look again")
        return f"event {target} gets new attempts, {mode}; run {result.run}"


def _state(status: OutboxStatus) -> Table:
    more = "" if status.counted_all else " at least"
    values = {
        "Waiting": f"{status.waiting}{more}",
        "Parked": f"{status.parked}{more}",
        "Oldest waiting": f"{status.oldest_age_s:.1f} s",
        "Relays": f"{status.relays}, with {status.lanes_owned} of {status.lanes} lanes",
        "Oldest running writer": str(status.oldest_writer) if status.oldest_writer else "none",
    }
    return Table(
        caption="State",
        columns=("What", "Value"),
        rows=[Row(target=what, cells=(what, value)) for what, value in values.items()],
    )


def _parked(parked: Sequence[ParkedEvent], status: OutboxStatus) -> Table:
    left = status.parked - len(parked)
    return Table(
        caption="Parked events" if left <= 0 else f"Parked events, the oldest {len(parked)} of {status.parked}",
        columns=("Event", "Key", "Topic", "Attempts", "Cause"),
        rows=[
            Row(
                target=str(one.id),
                cells=(
                    Cell(text=one.event_type, hint=f"{one.id}, added {one.created_at.isoformat()}"),
                    one.key,
                    one.topic,
                    str(one.retry_count),
                    Cell(text=one.cause, tone=Tone.BAD),
                ),
                actions=_ACTIONS,
            )
            for one in parked
        ],
        empty="Nothing is parked.",
    )


def _id_of(target: str) -> UUID:
    try:
        return UUID(target)
    except ValueError as error:
        raise UnknownTargetError(f"{target!r} is no id of an event") from error
