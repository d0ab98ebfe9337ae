"""The port through which parts of a service show themselves on the console, and the values they hand over.

A section is any object with ``name``, ``title`` and ``read``; one whose class also has ``act`` offers
actions. Values are plain text: the console escapes all of it. Knows neither HTML nor HTTP.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

__all__ = [
    "Action",
    "ActionRefusedError",
    "Cell",
    "Reading",
    "Row",
    "Section",
    "Table",
    "Tone",
    "UnknownTargetError",
    "check_section",
]


class Tone(Enum):
    """How something is doing; shown by a word, a mark and a colour."""

    PLAIN = "plain"
    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One value of a table.

    Attributes:
        text: What is read.
        tone: How it is doing.
        hint: More, for who asks; the exact time of "3 min ago".
    """

    text: str
    tone: Tone = Tone.PLAIN
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """A button.

    Attributes:
        name: What `act` is asked for.
        label: On the button.
        meaning: What it does, in a sentence.
    """

    name: str
    label: str
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing.

    Attributes:
        target: Its name, which `act` is given.
        cells: Values, one for each column; plain text is a cell, too.
        actions: What can be done with it.
    """

    target: str
    cells: Sequence[Cell | str]
    actions: Sequence[Action] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Things of one kind.

    Attributes:
        caption: What they are.
        columns: Headings.
        rows: The things.
        empty: What is read when there are none.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Row] = ()
    empty: str = "Nothing here."


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a section has to show at the moment.

    Attributes:
        data: For programs: anything that has a JSON form.
        summary: One sentence.
        tone: How the whole is doing.
        tables: For people.
    """

    data: Any
    summary: str
    tone: Tone = Tone.PLAIN
    tables: Sequence[Table] = ()


class Section(Protocol):
    """A part of a service that shows itself.

    A class may also have ``async act(action: str, target: str) -> str``: do it, and say in a sentence
    what was done. It raises `UnknownTargetError` or `ActionRefusedError`.

    Attributes:
        name: In addresses; lower-case letters, digits and hyphens.
        title: Its heading.
    """

    name: str
    title: str

    async def read(self) -> Reading:
        """What there is to show. The console waits for a few seconds only."""
        ...


class UnknownTargetError(LookupError):
    """There is no thing of that name."""


class ActionRefusedError(Exception):
    """The action is unknown, or makes no sense now; the text says why."""


def check_section(section: Section) -> Section:
    """Refuse a section that no address could reach.

    Raises:
        ValueError: Its name does not fit into an address.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", section.name):
        raise ValueError(f"section name {section.name!r} must consist of a-z, 0-9 and hyphens")
    return section
