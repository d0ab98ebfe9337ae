"""The comparison of signatures itself: it finds each kind of difference, and no more."""

import inspect
from typing import Any

import pytest

from tests.contract.report import REPORT
from tests.contract.signatures import Wanted, _of_form, _of_parameters, _parse, lines


async def _ours(topic: str, key: str | None = None, *, extra: int = 1) -> None:
    pass


def _handing_on(func: Any, /, *args: Any, **kwargs: Any) -> None:
    pass


@pytest.mark.parametrize(
    ("wanted", "fault"),
    [
        ("topic, key=None", None),
        ("topic, key=...", None),
        ("topic, key='x'", "key is None by default, not 'x'"),
        ("topic, key", "key must be given"),
        ("topic=None, key=None", "topic has no default"),
        ("key=None, *, topic", "has the order ['topic', 'key'], not ['key', 'topic']"),
        ("topic, *, key=None", "key is positional or keyword, not keyword-only"),
        ("topic, key=None, headers=None", "has no parameter headers"),
        ("key=None", "asks for topic, which nobody gives"),
    ],
)
def test_a_difference_is_found(wanted: str, fault: str | None) -> None:
    """Name, order, kind, default, what is missing and what is asked for in addition."""
    faults = _of_parameters(_parse(wanted), list(inspect.signature(_ours).parameters.values()))
    assert (fault in faults) if fault else faults == []


def test_handing_on_may_be_positional_only() -> None:
    """A function that hands keywords on may keep its own parameter's name to itself."""
    assert (
        _of_parameters(_parse("func, *args, **kwargs"), list(inspect.signature(_handing_on).parameters.values())) == []
    )


def test_async_and_plain_are_told_apart() -> None:
    """A coroutine function is no plain one, nor the other way round."""
    assert (_of_form("async", _ours), _of_form("def", _ours)) == ([], ["is async, not def"])
    assert _of_form("class", Wanted) == []


def test_a_signature_claims_the_row_it_stands_under() -> None:
    """Lines before the first heading claim nothing; a heading holds until the next."""
    found = lines("test", "def a:b()\n[2.1-x]\ndef a:c()\nasync a:d()")
    REPORT.discard("section test: 3 signatures")
    assert [[mark.args for mark in one.marks] for one in found] == [[], [("2.1-x",)], [("2.1-x",)]]
    assert str(found[1].values[0]) == "a:c"
