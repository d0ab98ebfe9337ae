"""Options of ``huleedu outbox``: where the database is, and which parked events are meant."""

import re
from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Annotated, TypeVar
from uuid import UUID

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.cli.errors import CliError, ExitCode

with requires_extra("cli", module=__name__):
    import typer

with requires_extra("outbox", module=__name__):
    from huleedu_service_libs.outbox.parked import Selection

__all__ = [
    "AddressOption",
    "IdOption",
    "KeyOption",
    "ModeOption",
    "RetriesOption",
    "SinceOption",
    "TopicOption",
    "TypeOption",
    "UntilOption",
    "checked",
    "seconds_of",
    "selection_of",
]

T = TypeVar("T")

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

AddressOption = Annotated[
    str,
    typer.Option(
        "--database-url",
        envvar="HULEEDU_DATABASE_URL",
        show_envvar=True,
        help="postgresql://user:password@host:port/database; the environment keeps it out of the process list.",
    ),
]
RetriesOption = Annotated[
    int, typer.Option("--max-retries", min=1, help="As in the relay's settings: so many attempts, then parked.")
]
IdOption = Annotated[list[str] | None, typer.Option("--id", help="Rows; may be repeated, as the next three.")]
KeyOption = Annotated[list[str] | None, typer.Option("--key", help="Partition keys, or ids of aggregates.")]
TypeOption = Annotated[list[str] | None, typer.Option("--type", help="Event types.")]
TopicOption = Annotated[list[str] | None, typer.Option("--topic", help="Topics.")]
SinceOption = Annotated[str | None, typer.Option("--since", help="Added at or after, as 2026-01-31T08:00:00+00:00.")]
UntilOption = Annotated[str | None, typer.Option("--until", help="Added before.")]


class ModeOption(Enum):
    """Where a redriven event goes."""

    IN_PLACE = "in-place"
    APPENDED = "appended"


def selection_of(
    ids: list[str] | None,
    keys: list[str] | None,
    types: list[str] | None,
    topics: list[str] | None,
    since: str | None,
    until: str | None,
    *,
    everything: bool,
) -> Selection:
    """The parked events that the options name.

    Raises:
        CliError: They make no sense.
    """
    return checked(
        lambda: Selection(
            ids=tuple(_uuid(one) for one in ids or ()),
            keys=tuple(keys or ()),
            event_types=tuple(types or ()),
            topics=tuple(topics or ()),
            since=None if since is None else datetime.fromisoformat(since),
            until=None if until is None else datetime.fromisoformat(until),
            everything=everything,
        )
    )


def checked(make: Callable[[], T]) -> T:
    """What ``make`` makes; a value that makes no sense ends the command with code 2."""
    try:
        return make()
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error


def seconds_of(text: str) -> float:
    """``7d``, ``12h``, ``30m`` or ``45s`` in seconds.

    Raises:
        ValueError: It is none of these.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise ValueError(f"--older-than {text!r} is no time: a number with s, m, h or d is needed, as 7d")
    return float(found[1]) * _UNITS[found[2]]


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError as error:
        raise ValueError(f"--id {text!r} is no UUID; `huleedu outbox parked` shows them") from error
