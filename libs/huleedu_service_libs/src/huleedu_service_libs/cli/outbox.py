"""``huleedu outbox``: look at a service's outbox, and mend what is stuck, on its database.

Thin: every command is one call of the outbox package, and prints what comes back.
"""

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from typing import Annotated, Any, Literal, TypeVar

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.cli.errors import CliError, ExitCode
from huleedu_service_libs.cli.outbox_options import (
    AddressOption,
    IdOption,
    KeyOption,
    ModeOption,
    RetriesOption,
    SinceOption,
    TopicOption,
    TypeOption,
    UntilOption,
    checked,
    seconds_of,
    selection_of,
)
from huleedu_service_libs.cli.output import JsonOption, Output
from huleedu_service_libs.outbox.settings import MAX_RETRIES

with requires_extra("cli", module=__name__):
    import typer

with requires_extra("outbox", module=__name__):
    from huleedu_service_libs.outbox.bloat import check_bloat
    from huleedu_service_libs.outbox.operator import OutboxRefusedError, operator_engine
    from huleedu_service_libs.outbox.parked import list_parked
    from huleedu_service_libs.outbox.purge import OutboxPurgeError, PurgeLimits, purge
    from huleedu_service_libs.outbox.redrive import RedriveLimits, RedrivePlan, plan_redrive, redrive
    from huleedu_service_libs.outbox.schema import check_schema
    from huleedu_service_libs.outbox.status import StatusLimits, read_status

__all__ = ["app"]

app = typer.Typer(help="A service's outbox, on its database.", no_args_is_help=True)

T = TypeVar("T")


@app.command()
def status(
    url: AddressOption,
    service: Annotated[str, typer.Option("--service", help="A name for the answer.")] = "outbox",
    max_retries: RetriesOption = MAX_RETRIES,
    oldest: Annotated[float, typer.Option("--oldest", help="Age of a waiting event that is a problem, s.")] = 60.0,
    strict: Annotated[bool, typer.Option("--strict", help="The relay runs with strict_order.")] = False,
    json: JsonOption = False,
) -> None:
    """What waits, what is parked, who works on it. Exit code 6 when there is a problem."""
    limits = StatusLimits(oldest_age_s=oldest, strict_order=strict)
    found = _on(url, lambda engine: read_status(engine, service_name=service, max_retries=max_retries, limits=limits))
    shown = found.as_json()
    if not json:
        shown["problems"] = "; ".join(found.problems)
        shown["oldest_writer"] = None if found.oldest_writer is None else str(found.oldest_writer)
        shown["oldest_age_s"] = round(found.oldest_age_s, 1)
    Output(as_json=json).record(shown)
    _end_with_findings(bool(found.problems))


@app.command()
def parked(
    url: AddressOption,
    ids: IdOption = None,
    keys: KeyOption = None,
    types: TypeOption = None,
    topics: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many.")] = 100,
    max_retries: RetriesOption = MAX_RETRIES,
    json: JsonOption = False,
) -> None:
    """Events that were given up, with the cause, the oldest first."""
    selection = selection_of(ids, keys, types, topics, since, until, everything=True)
    found = _on(url, lambda engine: list_parked(engine, selection, max_retries=max_retries, limit=limit))
    columns = {
        "id": "ID",
        "key": "KEY",
        "event_type": "TYPE",
        "created_at": "ADDED",
        "retry_count": "ATTEMPTS",
        "cause": "CAUSE",
    }
    Output(as_json=json).rows([one.as_json() for one in found], columns, empty="Nothing is parked.")


@app.command("redrive")
def redrive_(
    url: AddressOption,
    mode: Annotated[
        ModeOption, typer.Option("--mode", help="in-place keeps the place, appended goes to the end of the key.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; kept in the record.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="Who; by default who is logged in.")] = "",
    ids: IdOption = None,
    keys: KeyOption = None,
    types: TypeOption = None,
    topics: TopicOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All that is parked.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "--apply", help="Do it; without this, it is a dry run.")] = False,
    rate: Annotated[float, typer.Option("--rate", help="Batches a second, 50 at most.")] = 5.0,
    batch: Annotated[int, typer.Option("--batch", help="Events of a batch, 1 000 at most.")] = 100,
    most: Annotated[int, typer.Option("--most", help="Events of this run, 10 000 at most.")] = 10_000,
    max_retries: RetriesOption = MAX_RETRIES,
    json: JsonOption = False,
) -> None:
    """Give parked events new attempts. Without --yes only says what would move."""
    selection = selection_of(ids, keys, types, topics, since, until, everything=everything)
    limits = checked(lambda: RedriveLimits(most_events=most, batch_size=batch, batches_per_second=rate))
    how: Literal["in-place", "appended"] = mode.value
    if not yes:
        plan = _on(
            url, lambda engine: plan_redrive(engine, selection, mode=how, max_retries=max_retries, limits=limits)
        )
        _show_plan(plan, Output(as_json=json), as_json=json)
        return
    result = _on(
        url,
        lambda engine: redrive(
            engine,
            selection,
            mode=how,
            actor=actor or getpass.getuser(),
            reason=reason,
            service_name="huleedu",
            max_retries=max_retries,
            limits=limits,
        ),
    )
    Output(as_json=json).done(
        f"Redriven {how}: {len(result.moved)}. No longer parked: {result.skipped}."
        f" Run {result.run}, recorded in {result.audited_in}.",
        result.as_json(),
    )


@app.command("purge")
def purge_(
    url: AddressOption,
    older_than: Annotated[str, typer.Option("--older-than", help="Published so long ago, as 7d, 12h, 30m or 45s.")],
    rate: Annotated[float, typer.Option("--rate", help="Batches a second.")] = 20.0,
    json: JsonOption = False,
) -> None:
    """Delete published events, in small batches. Waiting and parked ones are never deleted."""
    limits = checked(lambda: PurgeLimits(batches_per_second=rate))
    result = _on(
        url,
        lambda engine: purge(engine, retention_seconds=seconds_of(older_than), service_name="huleedu", limits=limits),
    )
    rest = "" if result.complete else " Somebody else is purging; the rest is theirs."
    Output(as_json=json).done(
        f"Events deleted: {result.deleted}.{rest}", {"deleted": result.deleted, "complete": result.complete}
    )


@app.command()
def schema(url: AddressOption, json: JsonOption = False) -> None:
    """Is the table fit? Names what is missing, with its fix. Exit code 6 when there is something."""
    report = _on(url, check_schema)
    rows = [
        {"severity": one.severity, "subject": one.subject, "problem": one.problem, "fix": one.fix}
        for one in report.findings
    ]
    columns = {"severity": "SEVERITY", "subject": "WHAT", "problem": "PROBLEM", "fix": "FIX"}
    Output(as_json=json).rows(rows, columns, empty="The table is as it should be.")
    _end_with_findings(bool(rows))


@app.command()
def bloat(
    url: AddressOption,
    holder_age: Annotated[float, typer.Option("--holder-age", help="Age from which a transaction is named, s.")] = 60.0,
    json: JsonOption = False,
) -> None:
    """Does vacuum keep up, what is to be set, and who is in its way? Exit code 6 when there is something."""
    report = _on(url, lambda engine: check_bloat(engine, holder_age_s=holder_age))
    shown = report.as_json()
    if not json:
        shown["holders"] = "; ".join(f"{one.kind} {one.pid or ''} {one.name!r}: {one.fix}" for one in report.holders)
        shown["problems"] = "; ".join(report.problems)
        shown["statements"] = "; ".join(report.statements)
    Output(as_json=json).record(shown)
    _end_with_findings(bool(report.problems))


def _on(address: str, work: Callable[[Any], Awaitable[T]]) -> T:
    """Do something on the database."""

    async def run() -> T:
        async with operator_engine(address) as engine:
            return await work(engine)

    try:
        with redirect_stdout(sys.stderr):  # log lines; standard output is for what the command prints
            return asyncio.run(run())
    except (OutboxRefusedError, OutboxPurgeError) as error:
        raise CliError(str(error), ExitCode.REFUSED) from error
    except ValueError as error:
        raise CliError(str(error), ExitCode.USAGE) from error


def _show_plan(plan: RedrivePlan, output: Output, *, as_json: bool) -> None:
    shown: dict[str, Any] = plan.as_json()
    if not as_json:
        for name in ("by_key", "by_type", "overtaken"):
            shown[name] = ", ".join(f"{key}: {count}" for key, count in list(shown[name].items())[:20])
        shown["selection"] = str(shown["selection"])
        shown["warnings"] = "; ".join(plan.warnings)
        shown["dry_run"] = "nothing was moved; repeat it with --yes"
    else:
        shown["dry_run"] = True
    output.record(shown)


def _end_with_findings(found: bool) -> None:
    if found:
        raise typer.Exit(ExitCode.FINDINGS)
