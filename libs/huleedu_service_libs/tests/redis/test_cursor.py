"""What a reader of a history has missed, judged without a server."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs._redis_pubsub.cursor import (
    FROM_START,
    Cursor,
    Entry,
    HistoryGone,
    InvalidCursorError,
    Loss,
    Page,
    account,
)

EPOCH, OTHER = "0" * 16, "f" * 16


def _at(offset: int, epoch: str = EPOCH) -> Cursor:
    return Cursor(epoch, offset, f"{offset}-0")


def _page(*offsets: int, latest: int | None = None, epoch: str = EPOCH) -> Page:
    last = latest if latest is not None else offsets[-1]
    return Page(epoch, last, [Entry(f"{offset}-0", offset, str(offset)) for offset in offsets])


def _told(place: Cursor, page: Page) -> tuple[Loss, int | None] | None:
    gone, _ = account(place, page)
    return None if gone is None else (gone.loss, gone.missed)


@pytest.mark.parametrize(
    ("place", "page", "told"),
    [
        (_at(3), _page(4, 5), None),
        (_at(3), _page(latest=3), None),
        (_at(3), _page(6, 7), (Loss.EXPIRED, 2)),
        (_at(3), _page(latest=5), (Loss.EXPIRED, 2)),
        (_at(3), _page(2, 3), (Loss.ROLLED_BACK, None)),
        (_at(3), _page(latest=2), (Loss.ROLLED_BACK, None)),
        (_at(3), _page(1, 2, epoch=OTHER), (Loss.FORGOTTEN, None)),
        (_at(3), _page(latest=3, epoch=OTHER), (Loss.FORGOTTEN, None)),
        (_at(3), Page("", 0, []), (Loss.FORGOTTEN, None)),
        (Cursor.nothing(), Page("", 0, []), None),
        (Cursor.nothing(), _page(1, 2), None),
        (Cursor.nothing(), _page(3, 4), (Loss.EXPIRED, 2)),
        (Cursor.parse(FROM_START), _page(3, 4), None),
        (Cursor.parse(FROM_START), _page(latest=4), None),
    ],
)
def test_what_is_missing(place: Cursor, page: Page, told: tuple[Loss, int | None] | None) -> None:
    """Every difference between what was seen and what is held is named; where there is none, nothing is said."""
    assert _told(place, page) == told


@pytest.mark.parametrize("page", [_page(6, 7), _page(latest=5), _page(1, epoch=OTHER), _page(latest=2, epoch=OTHER)])
def test_a_loss_is_told_once(page: Page) -> None:
    """Who goes on from where the loss left off is not told of it again."""
    gone, here = account(_at(3), page)
    assert isinstance(gone, HistoryGone)
    assert Cursor.parse(gone.id) == here
    assert account(here, page)[0] is None


@given(st.sampled_from([EPOCH, OTHER]), st.integers(0, 10**14), st.integers(0, 10**18), st.integers(0, 10**18))
def test_a_place_survives_its_text(epoch: str, offset: int, first: int, second: int) -> None:
    """What a client sends back is what it was given."""
    place = Cursor(epoch, offset, f"{first}-{second}")
    assert Cursor.parse(str(place)) == place


@pytest.mark.parametrize(
    "text", ["", "1", "x", "-1", f"{EPOCH}-1", f"{EPOCH}-1-1", f"{EPOCH}-1-1-{'9' * 20}", f"{EPOCH}-1-1-1\n", "٣" * 30]
)
def test_a_place_that_is_none_is_refused(text: str) -> None:
    """What a client made up is an error that says what to send, not a command to the server."""
    with pytest.raises(InvalidCursorError, match="is no id of a notification: send back the id of the last one"):
        Cursor.parse(text)


def test_the_error_shows_no_more_than_a_piece() -> None:
    """A megabyte of nonsense does not become a megabyte of log."""
    with pytest.raises(InvalidCursorError) as caught:
        Cursor.parse("x" * 1_000_000)
    assert len(str(caught.value)) < 200


def test_the_head_of_a_history() -> None:
    """Behind its latest entry; before all where that is gone; nothing where there is no history."""
    assert _page(5).head() == _at(5)
    assert _page(latest=5).head().offset == 5
    assert _page(latest=5).head() != _at(5)
    assert _page(latest=0, epoch="").head() == Cursor.nothing()
