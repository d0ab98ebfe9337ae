"""Values as a line shows them: their usual text, JSON whatever they are, and no secret that their representation leaves out."""

import enum
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from huleedu_service_libs.logging_utils import configure_service_logging

from .lines import LOGGER, Lines


@dataclass
class Unshown:
    """Its representation leaves the secret out; a renderer that looks at the fields would show it."""

    user: str
    password: str = field(default="hunter2", repr=False)


@dataclass
class Quiet:
    """Has a representation that tells nothing."""

    user: str
    api_key: str = "hunter2"

    def __repr__(self) -> str:
        return "<quiet>"


class Pair(NamedTuple):
    """Has names that a tuple's elements have not."""

    user: str
    password: str


class Url(enum.Enum):
    """Its representation tells the name alone."""

    DATABASE = "postgresql://u:hunter2@db/x"

    def __repr__(self) -> str:
        return self.name


@pytest.mark.parametrize("environment", ["production", "development"])
@pytest.mark.parametrize("value", [Unshown("kalle"), Quiet("kalle"), Pair("kalle", "hunter2"), Url.DATABASE])
def test_a_secret_that_the_representation_hides_stays_hidden(
    environment: str, value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data classes, named tuples and enumerations are shown by their fields, so their fields are what is looked at."""
    configure_service_logging("essays", environment)
    LOGGER.info("login", who=value)
    LOGGER.info("login", who=[{"deep": value}])
    LOGGER.info(value)
    out = capsys.readouterr().out
    assert "hunter2" not in out
    assert out.count("\n") == 3


def test_values_have_the_text_that_people_know(lines: Lines) -> None:
    """A decimal, a path, a duration are no calls of constructors, at the top or within."""
    values: dict[str, Any] = {"cost": Decimal("1.50"), "path": Path("/a/b"), "took": timedelta(seconds=90)}
    LOGGER.info("x", **values, within=values)
    (line,) = lines()
    shown = {"cost": "1.50", "path": "/a/b", "took": "0:01:30"}
    assert line.items() >= {**shown, "within": shown}.items()


def test_a_line_with_several_odd_values_is_json(lines: Lines) -> None:
    """One that JSON does not know beside one that the fast encoder refuses; the others keep their form."""
    LOGGER.info("x", share=float("nan"), text="\ud800", number=2**70, essay_id=UUID(int=1), on=date(2026, 5, 4))
    (line,) = lines()
    assert line["share"] is None
    assert (
        line.items() >= {"number": 2**70, "essay_id": str(UUID(int=1)), "on": "2026-05-04", "text": "\\ud800"}.items()
    )
