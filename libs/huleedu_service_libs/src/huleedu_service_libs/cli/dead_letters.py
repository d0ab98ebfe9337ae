"""``huleedu dead-letters``: look at a dead-letter topic, and send events back once their cause is mended.

Thin: every command is one call of ``kafka.consumer``, and prints what comes back.
"""

import asyncio
import json as json_
import sys
from collections.abc import Callable
from contextlib import aclosing, redirect_stdout
from dataclasses import asdict
from typing import Annotated, Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.cli.errors import CliError, ExitCode
from huleedu_service_libs.cli.output import JsonOption, Output

with requires_extra("cli", module=__name__):
    import typer

with requires_extra("kafka", module=__name__):
    from huleedu_service_libs.kafka.consumer.dead_letters import (
        DeadLetter,
        NoSuchTopicError,
        header_texts,
        read_dead_letters,
        require_topic,
    )
    from huleedu_service_libs.kafka.consumer.letters import PREFIX
    from huleedu_service_libs.kafka.consumer.redriving import RedriveReport, redrive
    from huleedu_service_libs.kafka.driver_errors import KafkaError
    from huleedu_service_libs.kafka_client import KafkaBus

__all__ = ["app"]

app = typer.Typer(help="Dead-letter topics of consumers: list, show, redrive.", no_args_is_help=True)

COLUMNS = {
    "place": "PLACE",
    "failed_at": "FAILED",
    "event_type": "TYPE",
    "key": "KEY",
    "reason": "REASON",
    "attempts": "ATTEMPTS",
    "error": "ERROR",
}

TopicArgument = Annotated[str, typer.Argument(help="The dead-letter topic, as essays.results.dead-letter.")]
ServersOption = Annotated[
    str, typer.Option("--bootstrap-servers", envvar="KAFKA_BOOTSTRAP_SERVERS", show_envvar=True, help="host:port, ...")
]
IdOption = Annotated[list[str] | None, typer.Option("--id", help="Event ids; may be repeated, as the next three.")]
KeyOption = Annotated[list[str] | None, typer.Option("--key", help="Keys.")]
TypeOption = Annotated[list[str] | None, typer.Option("--type", help="Event types.")]
ReasonOption = Annotated[
    list[str] | None, typer.Option("--reason", help="failed, undecodable, unhandled or store_down.")
]


@app.command("list")
def list_(
    topic: TopicArgument,
    servers: ServersOption,
    ids: IdOption = None,
    keys: KeyOption = None,
    types: TypeOption = None,
    reasons: ReasonOption = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many.")] = 100,
    json: JsonOption = False,
) -> None:
    """Dead letters, the oldest of each partition first."""
    choose = _choice(ids, keys, types, reasons)

    async def find() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with aclosing(read_dead_letters(topic, bootstrap_servers=servers)) as letters:
            async for each, _ in letters:
                if choose(each):
                    found.append({**asdict(each), "place": each.place})
                    if len(found) >= limit:
                        break
        return found

    Output(as_json=json).rows(_on(servers, find()), COLUMNS, empty="No dead letters.")


@app.command()
def show(
    topic: TopicArgument,
    place: Annotated[str, typer.Argument(help="Partition and offset, as 2:17; see `list`.")],
    servers: ServersOption,
    json: JsonOption = False,
) -> None:
    """One dead letter: where it came from, each failure, its headers and its value."""

    async def find() -> dict[str, Any] | None:
        async with aclosing(read_dead_letters(topic, bootstrap_servers=servers)) as letters:
            async for each, record in letters:
                if each.place == place:
                    return _in_full(each, record)
        return None

    found = _on(servers, find())
    if found is None:
        raise CliError(f"{topic} holds no record at {place}; see `huleedu dead-letters list`", ExitCode.NOT_FOUND)
    Output(as_json=json).record(found)


@app.command("redrive")
def redrive_(
    topic: TopicArgument,
    servers: ServersOption,
    ids: IdOption = None,
    keys: KeyOption = None,
    types: TypeOption = None,
    reasons: ReasonOption = None,
    everything: Annotated[bool, typer.Option("--all", help="All that were not redriven before.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", "--yes", help="Send; without it, tell only what would be sent.")
    ] = False,
    most: Annotated[int | None, typer.Option("--most", min=1, help="At most so many.")] = None,
    per_second: Annotated[float, typer.Option("--per-second", min=0.1, help="At most so many a second.")] = 200.0,
    group: Annotated[
        str | None, typer.Option("--group", help="Keeps the progress; another one for another choice.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Send dead letters back to where they came from. A dry run, unless --apply.

    What the choice leaves out is passed over for good in that group.
    """
    if not (everything or ids or keys or types or reasons):
        raise CliError("say which: --id, --key, --type, --reason, or --all", ExitCode.USAGE)

    async def run() -> RedriveReport:
        await require_topic(topic, bootstrap_servers=servers)
        async with KafkaBus(client_id="huleedu-dead-letters", bootstrap_servers=servers) as bus:
            return await redrive(
                topic,
                bootstrap_servers=servers,
                publisher=bus,
                choose=_choice(ids, keys, types, reasons),
                dry_run=not apply,
                most=most,
                per_second=per_second if apply else None,
                group_id=group,
            )

    report = _on(servers, run())
    Output(as_json=json).done(_told(report), asdict(report))
    if report.error is not None:
        raise CliError(f"it ended early: {report.error}; run it again to go on there", ExitCode.FAILED)


def _choice(
    ids: list[str] | None, keys: list[str] | None, types: list[str] | None, reasons: list[str] | None
) -> Callable[[DeadLetter], bool]:
    def choose(each: DeadLetter) -> bool:
        wanted = ((ids, each.event_id), (keys, each.key), (types, each.event_type), (reasons, each.reason))
        return all(not allowed or value in allowed for allowed, value in wanted)

    return choose


def _in_full(each: DeadLetter, record: Any) -> dict[str, Any]:
    told = header_texts(record)
    try:
        history = json_.loads(told.get(f"{PREFIX}history", "[]"))
    except ValueError:
        history = []
    origin = f"{each.origin}[{told.get(f'{PREFIX}partition', '?')}] offset {told.get(f'{PREFIX}offset', '?')}"
    failures = {
        f"failure_{n}": f"{one.get('at')} {one.get('error_type')}: {one.get('error')}"
        for n, one in enumerate(history, start=1)
        if isinstance(one, dict)
    }
    return {
        **{name: getattr(each, name) for name in ("place", "event_id", "event_type", "key")},
        "origin": origin,
        **{name: getattr(each, name) for name in ("group", "reason", "attempts", "failed_at", "error")},
        **failures,
        **{f"header {name}": text for name, text in told.items() if not name.startswith(PREFIX)},
        "value": (record.value or b"").decode("utf-8", "replace"),
    }


def _told(report: RedriveReport) -> str:
    where = ", ".join(f"{number} to {topic}" for topic, number in sorted(report.by_origin.items()))
    what = f"{report.redriven} would go back" if report.dry_run else f"{report.redriven} went back"
    rest = f"; {report.passed_over} passed over" if report.passed_over else ""
    rest += f"; {report.unusable} cannot go back, for they do not say where from" if report.unusable else ""
    more = "" if report.finished else "; there are more"
    return f"{what}{f': {where}' if where else ''}{rest}{more}{'. Send them with --apply.' if report.dry_run else '.'}"


def _on(servers: str, work: Any) -> Any:
    try:
        with redirect_stdout(sys.stderr):  # log lines are no result
            return asyncio.run(work)
    except NoSuchTopicError as error:
        raise CliError(str(error), ExitCode.NOT_FOUND) from error
    except (KafkaError, TimeoutError, OSError) as error:
        raise CliError(f"Kafka at {servers}: {type(error).__name__}: {error}", ExitCode.UNREACHABLE) from error
