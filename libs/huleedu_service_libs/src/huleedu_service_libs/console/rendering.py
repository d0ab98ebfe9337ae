"""Makes the page from what the sections have read. The template escapes everything."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.console.sections import Cell, Reading, Row, Table

with requires_extra("console", module=__name__):
    from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["STYLE", "Page", "SectionShown", "render"]

STYLE: bytes = files("huleedu_service_libs.console").joinpath("style.css").read_bytes()

_TEMPLATE = Environment(
    loader=PackageLoader("huleedu_service_libs.console", "."),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("page.html")


@dataclass(frozen=True, slots=True, kw_only=True)
class SectionShown:
    """One section: what it read, or why it could not."""

    name: str
    title: str
    reading: Reading | None
    error: str = ""
    acts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The page."""

    title: str
    at: datetime
    sections: Sequence[SectionShown]
    form_token: str


def render(page: Page) -> bytes:
    """The page as HTML."""
    return _TEMPLATE.render(page=page, cells=_cells, has_actions=_has_actions).encode("utf-8", "replace")


def _cells(row: Row) -> list[Cell]:
    return [cell if isinstance(cell, Cell) else Cell(text=cell) for cell in row.cells]


def _has_actions(table: Table) -> bool:
    return any(row.actions for row in table.rows)
