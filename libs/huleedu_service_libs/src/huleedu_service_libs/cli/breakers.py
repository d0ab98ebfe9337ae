"""``huleedu breakers``: the circuit breakers of a running service, through its console's JSON side."""

from typing import Annotated, Any

from huleedu_service_libs._extras import requires_extra
from huleedu_service_libs.cli.admin import AdminClient, TimeoutOption, TokenFileOption, UrlOption
from huleedu_service_libs.cli.errors import CliError
from huleedu_service_libs.cli.output import JsonOption, Output

with requires_extra("cli", module=__name__):
    import typer

__all__ = ["app"]

app = typer.Typer(help="Circuit breakers of a running service.", no_args_is_help=True)

SECTION = "breakers"

COLUMNS = {
    "name": "NAME",
    "state": "STATE",
    "reason": "WHY",
    "since": "SINCE",
    "failure_count": "FAILURES",
    "retry_after_seconds": "NEXT TRIAL IN",
}

NameArgument = Annotated[str, typer.Argument(help="The breaker's name in the registry; see `list`.")]


@app.command("list")
def list_(
    url: UrlOption, token_file: TokenFileOption = None, timeout: TimeoutOption = 5.0, json: JsonOption = False
) -> None:  # how typer reads options
    """Every breaker: its state, why, and since when."""
    rows = AdminClient(url, token_file, timeout).read(SECTION)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CliError(f"{url} did not answer with a list of breakers: is it a console of this version?")
    Output(as_json=json).rows(
        rows if json else [_readable(row) for row in rows], COLUMNS, empty="No breakers are registered."
    )


@app.command()
def reset(
    name: NameArgument,
    url: UrlOption,
    token_file: TokenFileOption = None,
    timeout: TimeoutOption = 5.0,
    json: JsonOption = False,
) -> None:  # as above
    """Close it, forget its failures, and end a hold."""
    _act("reset", name, AdminClient(url, token_file, timeout), Output(as_json=json))


@app.command()
def isolate(
    name: NameArgument,
    url: UrlOption,
    token_file: TokenFileOption = None,
    timeout: TimeoutOption = 5.0,
    json: JsonOption = False,
) -> None:  # as above
    """Refuse every call until it is reset."""
    _act("isolate", name, AdminClient(url, token_file, timeout), Output(as_json=json))


@app.command()
def close(
    name: NameArgument,
    url: UrlOption,
    token_file: TokenFileOption = None,
    timeout: TimeoutOption = 5.0,
    json: JsonOption = False,
) -> None:  # as above
    """Let every call through until it is reset, whatever fails."""
    _act("close", name, AdminClient(url, token_file, timeout), Output(as_json=json))


def _act(action: str, name: str, service: AdminClient, output: Output) -> None:
    answer = service.act(SECTION, action, name)
    said = answer if isinstance(answer, dict) else {"message": str(answer)}
    output.done(str(said.get("message", "done")), said)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    left, since = row.get("retry_after_seconds"), row.get("since")
    return {
        **row,
        "reason": row.get("hold") or row.get("reason"),
        "since": since.partition(".")[0] + "Z" if isinstance(since, str) else None,  # to the second, in UTC
        "retry_after_seconds": f"{left:.0f} s" if isinstance(left, int | float) and left > 0 else None,
    }
