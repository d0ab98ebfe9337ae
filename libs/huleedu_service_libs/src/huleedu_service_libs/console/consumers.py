"""The section of the console that shows a service's consumers: status, lag, and which record holds up which partition.

Dead letters are the command line's: ``huleedu dead-letters``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Protocol

from huleedu_service_libs.console.sections import Cell, Reading, Row, Table, Tone
from huleedu_service_libs.kafka.consumer.status import ConsumerStatus

__all__ = ["ConsumersSection"]


class HasStatus(Protocol):
    """What the section needs of a consumer."""

    def status(self) -> ConsumerStatus:
        """How it is doing."""
        ...


class ConsumersSection:
    """Shows the consumers of one service.

    Args:
        consumers: By name, such as the group's.

    Attributes:
        name: See `Section`.
        title: See `Section`.
    """

    name = "consumers"
    title = "Consumers"

    def __init__(self, consumers: Mapping[str, HasStatus]) -> None:
        self._consumers = dict(consumers)

    async def read(self) -> Reading:
        """See `Section`."""
        found = {name: consumer.status() for name, consumer in self._consumers.items()}
        problems = [told for name, status in found.items() for told in _problems(name, status)]
        dead = any(not status.alive() for status in found.values())
        return Reading(
            data={name: {**asdict(status), "alive": status.alive()} for name, status in found.items()},
            summary=" ".join(f"{told}." for told in problems) or f"Healthy; records behind: {_behind(found.values())}.",
            tone=Tone.BAD if dead else Tone.WARNING if problems else Tone.GOOD,
            tables=[_overview(found), _stuck(found)],
        )


def _problems(name: str, status: ConsumerStatus) -> list[str]:
    told: list[str] = []
    if not status.running:
        told.append(f"{name} does not run")
    elif not status.alive():
        told.append(f"{name} has not polled for {status.last_poll_s or 0:.0f} s")
    if status.last_error:
        told.append(f"{name}: {status.last_error}")
    if status.stuck:
        told.append(f"{name}: {len(status.stuck)} partition(s) are held up by one record each")
    return told


def _behind(statuses: Iterable[ConsumerStatus]) -> int:
    return sum(sum(status.lag.values()) for status in statuses)


def _overview(found: Mapping[str, ConsumerStatus]) -> Table:
    return Table(
        caption="Consumers",
        columns=(
            "Consumer",
            "State",
            "Partitions",
            "In flight",
            "Buffered",
            "Paused",
            "Lag",
            "Last poll",
            "Last commit",
        ),
        rows=[Row(target=name, cells=_cells(name, status)) for name, status in found.items()],
        empty="This service has no consumer.",
    )


def _cells(name: str, status: ConsumerStatus) -> Sequence[Cell | str]:
    alive = status.alive()
    lag = ", ".join(f"{topic}: {records}" for topic, records in status.lag.items())
    return (
        name,
        Cell(text="running" if alive else "not alive", tone=Tone.GOOD if alive else Tone.BAD),
        str(status.partitions),
        str(status.in_flight),
        str(status.buffered),
        Cell(text=", ".join(status.paused) or "-", tone=Tone.WARNING if status.paused else Tone.PLAIN),
        lag or "-",
        _ago(status.last_poll_s),
        _ago(status.last_commit_s),
    )


def _stuck(found: Mapping[str, ConsumerStatus]) -> Table:
    return Table(
        caption="Held up by one record",
        columns=("Consumer", "Partition", "Offset", "Event", "Key", "Since", "Doing", "Attempts", "Error"),
        rows=[
            Row(
                target=f"{name} {one.topic}[{one.partition}]",
                cells=(
                    name,
                    f"{one.topic}[{one.partition}]",
                    str(one.offset),
                    one.event_type or "not decoded yet",
                    one.key or "-",
                    f"{one.since_s:.0f} s",
                    one.doing,
                    str(one.attempts),
                    Cell(text=one.error or "-", tone=Tone.BAD if one.error else Tone.PLAIN),
                ),
            )
            for name, status in found.items()
            for one in status.stuck
        ],
        empty="No partition is held up.",
    )


def _ago(seconds: float | None) -> str:
    return "never" if seconds is None else f"{seconds:.1f} s ago"
