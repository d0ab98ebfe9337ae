"""How commands print: a table for people, JSON for programs. Knows nothing of what is printed.

Values come from services, brokers and databases. Characters that could steer a terminal are shown
as escapes, and nothing in a value is taken for markup.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from huleedu_service_libs._extras import requires_extra

with requires_extra("cli", module=__name__):
    import typer
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

__all__ = ["JsonOption", "Output", "harmless"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
"""The option of every command that prints values."""

_WIDTH_OF_A_FILE = 240  # where there is no terminal, lines are for grep

_STEERING = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # control characters, C1, and text direction


class Output:
    """Prints to standard output; ``as_json`` decides the form.

    Args:
        as_json: JSON instead of a table.
    """

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        terminal = sys.stdout.isatty()
        self._console = Console(highlight=False, soft_wrap=not terminal, width=None if terminal else _WIDTH_OF_A_FILE)

    def rows(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], *, empty: str) -> None:
        """A list of things.

        Args:
            rows: What is known of each; JSON gets all of it.
            columns: Which keys the table shows, in which order, under which headings.
            empty: What a person reads when there are none.
        """
        if self._as_json:
            self._print_json(list(rows))
        elif not rows:
            self._say(empty)
        else:
            table = Table(*columns.values(), box=None, pad_edge=False, header_style="bold")
            for row in rows:
                table.add_row(*(_shown(row.get(key)) for key in columns))
            self._console.print(table)

    def record(self, values: Mapping[str, Any]) -> None:
        """One thing: a line for each of its values."""
        if self._as_json:
            self._print_json(dict(values))
            return
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(style="bold", no_wrap=True)
        for key, value in values.items():
            table.add_row(Text(key.replace("_", " ")), _shown(value))
        self._console.print(table)

    def done(self, text: str, values: Mapping[str, Any]) -> None:
        """Something was done: a sentence, or its values as JSON."""
        if self._as_json:
            self._print_json(dict(values))
        else:
            self._say(text)

    def _say(self, text: str) -> None:
        self._console.print(_shown(text))

    def _print_json(self, value: Any) -> None:
        sys.stdout.write(json.dumps(value, indent=2, default=str, ensure_ascii=True) + "\n")


def _shown(value: Any) -> Text:
    text = "-" if value is None or value == "" else str(value)
    return Text(harmless(text))


def harmless(text: str) -> str:
    """``text`` with everything that could steer a terminal shown as an escape."""
    return _STEERING.sub(lambda match: match.group().encode("unicode_escape").decode("ascii"), text)
