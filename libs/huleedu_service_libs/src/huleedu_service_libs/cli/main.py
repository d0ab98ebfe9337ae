"""The program ``huleedu``. Turns errors into one line on standard error and an exit code."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated

from huleedu_service_libs._extras import MissingExtraError, requires_extra

with requires_extra("cli", module=__name__):
    import typer

from huleedu_service_libs.cli.errors import CliError, ExitCode
from huleedu_service_libs.cli.groups import LazyGroups
from huleedu_service_libs.cli.output import harmless

__all__ = ["app", "main"]

app = typer.Typer(
    name="huleedu",
    cls=LazyGroups,
    help="Look at running services, and mend what is stuck.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # they print local variables, and those hold secrets
)


def _print_version(asked: bool) -> None:  # how typer calls it
    if asked:
        sys.stdout.write(f"huleedu-service-libs {version('huleedu-service-libs')}\n")
        raise typer.Exit


@app.callback()
def _root(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,  # how typer reads options
) -> None:
    """Options of all commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Without the program's name; those of the process by default.

    Returns:
        The exit code; see `ExitCode`.
    """
    try:
        app(args=None if arguments is None else list(arguments), prog_name="huleedu")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except CliError as error:
        return _end(error, error.code)
    except MissingExtraError as error:
        return _end(error, ExitCode.MISSING_EXTRA)
    except (TimeoutError, OSError) as error:
        return _end(error, ExitCode.UNREACHABLE)
    return ExitCode.OK


def _end(error: Exception, code: ExitCode) -> int:
    text = str(error) or type(error).__name__
    sys.stderr.write(f"huleedu: {harmless(text)}\n")
    return code
