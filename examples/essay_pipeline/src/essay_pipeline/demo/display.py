"""What a person sees meanwhile: a live table on a terminal, plain lines elsewhere."""

import sys
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

__all__ = ["Counts", "Display", "LiveDisplay", "PlainDisplay", "make_display"]


@dataclass(slots=True, kw_only=True)
class Counts:
    """How far the run is.

    Attributes:
        essays: To be sent.
        stored: Accepted by *intake*.
        announced: "accepted" received by the user's WebSocket.
        checked: "checked" received by the user's WebSocket.
        rollbacks: To be rolled back.
        rolled_back: Were.
        replayed: Delivered messages that were sent again.
    """

    essays: int
    stored: int = 0
    announced: int = 0
    checked: int = 0
    rollbacks: int = 0
    rolled_back: int = 0
    replayed: int = 0

    def rows(self) -> list[tuple[str, int, int | None]]:
        """Name, count and, where there is one, the goal."""
        return [
            ("stored by intake", self.stored, self.essays),
            ("accepted, in the browser", self.announced, self.essays),
            ("checked, in the browser", self.checked, self.essays),
            ("rolled back", self.rolled_back, self.rollbacks),
            ("delivered again on purpose", self.replayed, None),
        ]


class Display(Protocol):
    """Shows lines at once and counts while they grow; used as a context."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last state standing."""
        ...

    def line(self, text: str) -> None:
        """Print one line."""
        ...

    def show(self, counts: Counts) -> None:
        """Show the counts; they are looked at again without another call."""
        ...

    def changed(self) -> None:
        """The counts have grown."""
        ...


class PlainDisplay:
    """Lines on standard output: every one given, and the counts at each fifth of the way."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._counts: Counts | None = None
        self._shown = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is left open."""

    def line(self, text: str) -> None:
        """Print one line with the seconds since the start."""
        print(f"[{time.monotonic() - self._began:5.1f} s] {text}", flush=True)

    def show(self, counts: Counts) -> None:
        """Report on these from now on."""
        self._counts, self._shown = counts, 0

    def changed(self) -> None:
        """Print the counts when another fifth is checked."""
        counts = self._counts
        if counts is None:
            return
        fifth = counts.checked * 5 // counts.essays
        if fifth > self._shown:
            self._shown = fifth
            self.line(f"essays: {counts.stored} stored, {counts.checked} of {counts.essays} checked")


class LiveDisplay:
    """A table that grows in place, with lines above it."""

    def __init__(self, console: Console) -> None:
        self._began = time.monotonic()
        self._counts: Counts | None = None
        self._live = Live(console=console, get_renderable=self._table, refresh_per_second=10)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        """Print one line above the table."""
        self._live.console.print(Text.assemble((f"{time.monotonic() - self._began:5.1f} s  ", "dim"), text))

    def show(self, counts: Counts) -> None:
        """Draw these from now on."""
        self._counts = counts

    def changed(self) -> None:
        """Nothing: the table is drawn ten times a second."""

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name, count, goal in self._counts.rows() if self._counts else ():
            bar = ProgressBar(total=goal, completed=count, width=40) if goal else ""
            table.add_row(name, f"{count}", f"of {goal}" if goal else "", bar)
        return table


def make_display() -> Display:
    """The one that suits standard output; a terminal that cannot move its cursor gets plain lines."""
    console = Console()
    can_redraw = console.is_terminal and not console.is_dumb_terminal and sys.stdout.isatty()
    return LiveDisplay(console) if can_redraw else PlainDisplay()
