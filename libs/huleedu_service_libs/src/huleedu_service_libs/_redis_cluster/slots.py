"""Which node has which slot, as the cluster told last. Pure: asking is ``nodes``' business."""

import bisect
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Place", "SlotMap", "read_slots"]

Place = tuple[str, int]
"""Host and port of a node."""


@dataclass(slots=True)
class SlotMap:
    """The primaries of the cluster.

    Attributes:
        begins: First slot of each range, ascending.
        ends: Its last slot.
        places: Who has it.
        moved: Slots that have moved since.
    """

    begins: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)
    moved: dict[int, Place] = field(default_factory=dict)

    def owner(self, slot: int) -> Place | None:
        """Who has the slot; ``None`` when nobody has, or nothing is known yet."""
        if slot in self.moved:
            return self.moved[slot]
        index = bisect.bisect_right(self.begins, slot) - 1
        return self.places[index] if index >= 0 and slot <= self.ends[index] else None

    @property
    def primaries(self) -> list[Place]:
        """Each once, in a fixed order."""
        return sorted({*self.places, *self.moved.values()})


def read_slots(answer: Sequence[Any], asked: str) -> SlotMap:
    """Read the answer to ``CLUSTER SLOTS``.

    Args:
        answer: First and last slot, then the primary's host and port, then its replicas.
        asked: The host that was asked; it may leave out its own name.
    """
    ranges = sorted((int(begin), int(end), (str(node[0] or asked), int(node[1]))) for begin, end, node, *_ in answer)
    return SlotMap(
        begins=[begin for begin, _, _ in ranges],
        ends=[end for _, end, _ in ranges],
        places=[place for _, _, place in ranges],
    )
