"""Where a reader of a channel's history is, and whether something is missing there. Pure.

A channel's notifications are numbered (``offset``) within an ``epoch``, which
changes when the server has lost the numbering. The idea is Centrifugo's
("History and recovery", centrifugal.dev).
"""

import re
from dataclasses import dataclass, replace
from enum import StrEnum

__all__ = ["FROM_START", "Cursor", "Entry", "HistoryGone", "InvalidCursorError", "Loss", "Page", "account"]

FROM_START = "0"
"""As ``after``: everything that the history still holds."""

_BEFORE_ALL = "0-0"
_WHATEVER = -1
_FORM = re.compile(r"([0-9a-f]{16})-(\d{1,15})-(\d{1,19}-\d{1,19})", re.ASCII)


class InvalidCursorError(ValueError):
    """What a client sent as the last id it saw is none.

    Attributes:
        text: What it sent, shortened.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text[:80])
        self.text = text[:80]

    def __str__(self) -> str:
        return f"{self.text!r} is no id of a notification: send back the id of the last one, or none"


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place behind a notification.

    Attributes:
        epoch: Which numbering; empty when there was none yet.
        offset: Number of the last notification that was seen.
        entry: Its id in the stream.
    """

    epoch: str
    offset: int
    entry: str

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}-{self.entry}" if self.epoch else FROM_START

    @classmethod
    def parse(cls, text: str) -> "Cursor":
        """Read what `__str__` wrote, or `FROM_START`.

        Raises:
            InvalidCursorError: It is neither.
        """
        if text == FROM_START:
            return cls("", _WHATEVER, _BEFORE_ALL)
        match = _FORM.fullmatch(text)
        if match is None:
            raise InvalidCursorError(text)
        return cls(match[1], int(match[2]), match[3])

    @classmethod
    def nothing(cls) -> "Cursor":
        """Before the first notification of a channel that has none yet."""
        return cls("", 0, _BEFORE_ALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """One notification as it is stored.

    Attributes:
        entry: Its id in the stream.
        offset: Its number.
        text: Its JSON.
    """

    entry: str
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """What the server says of a channel.

    Attributes:
        epoch: Its numbering; empty when it knows none.
        offset: Number of the latest notification.
        entries: Those after the reader's place, in order; from the start in another epoch.
    """

    epoch: str
    offset: int
    entries: list[Entry]

    def head(self) -> Cursor:
        """The place behind the only entry, which is the latest."""
        if not self.epoch:
            return Cursor.nothing()
        return Cursor(self.epoch, self.offset, self.entries[0].entry if self.entries else _BEFORE_ALL)


class Loss(StrEnum):
    """Why a part of the history is not there."""

    EXPIRED = "expired"
    """The reader was away for longer, or more was sent, than the history is kept."""

    FORGOTTEN = "forgotten"
    """The server has lost the channel: a restart without persistence, an eviction, a flush."""

    ROLLED_BACK = "rolled_back"
    """The server has lost the latest part: a fail-over, or a restart from an older snapshot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryGone:
    """A place where notifications are missing that cannot be had any more; the reader should load its state anew.

    Attributes:
        loss: Why.
        missed: How many; ``None`` when nobody knows.
        id: Where reading goes on.
    """

    loss: Loss
    missed: int | None
    id: str


def account(place: Cursor, page: Page) -> tuple[HistoryGone | None, Cursor]:
    """Compare what a reader has seen with what the server holds.

    Returns:
        What is missing between them, and the place right before the page's first entry.
    """
    before = page.entries[0].offset - 1 if page.entries else page.offset
    if not page.epoch:
        here = Cursor.nothing()
        return (_gone(Loss.FORGOTTEN, None, here), here) if place.epoch else (None, place)
    if place.epoch and page.epoch != place.epoch:
        here = Cursor(page.epoch, before, _BEFORE_ALL if page.entries else place.entry)
        return _gone(Loss.FORGOTTEN, None, here), here
    here = replace(place, epoch=page.epoch, offset=before)
    if place.offset in {_WHATEVER, before}:
        return None, here
    if before > place.offset:
        return _gone(Loss.EXPIRED, before - place.offset, here), here
    return _gone(Loss.ROLLED_BACK, None, here), here


def _gone(loss: Loss, missed: int | None, here: Cursor) -> HistoryGone:
    return HistoryGone(loss=loss, missed=missed, id=str(here))
