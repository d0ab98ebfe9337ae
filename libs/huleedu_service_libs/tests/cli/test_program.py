"""The program itself: its groups, exit codes, and how it prints."""

import json
import subprocess
import sys
from types import ModuleType
from typing import Any

import pytest
import typer

from huleedu_service_libs._extras import MissingExtraError
from huleedu_service_libs.cli import groups
from huleedu_service_libs.cli.errors import CliError, ExitCode
from huleedu_service_libs.cli.main import main
from huleedu_service_libs.cli.output import Output

_WITHOUT_TYPER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "typer":
            raise ModuleNotFoundError(name, name="typer")

sys.meta_path.insert(0, Absent())
from importlib.metadata import entry_points
(command,) = [each for each in entry_points(group="console_scripts") if each.name == "huleedu"]
sys.exit(command.load()())
"""


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    """A group ``probe`` whose commands the test adds."""
    app = typer.Typer()
    module = ModuleType("probe_group")
    module.app = app  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "probe_group", module)
    monkeypatch.setattr(groups, "GROUPS", {"probe": groups.Group("probe_group", "A probe.")})
    return app


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (CliError("no breaker 'x'", ExitCode.NOT_FOUND), 4, "no breaker 'x'"),
        (CliError("it failed"), 1, "it failed"),
        (MissingExtraError("needs 'aiokafka': pip install 'huleedu-service-libs[kafka]'"), 7, "[kafka]"),
        (ConnectionRefusedError(111, "Connection refused"), 3, "Connection refused"),
        (TimeoutError(), 3, "TimeoutError"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(
    group: typer.Typer, capsys: pytest.CaptureFixture[str], error: Exception, code: int, text: str
) -> None:
    """What a command raises becomes one line on standard error, nothing on standard output, and its code."""

    @group.command("fail")
    def fail() -> None:
        raise error

    assert main(["probe", "fail"]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("huleedu: ")
    assert text in captured.err
    assert captured.err.count("\n") == 1


def test_without_its_extra_the_program_names_it() -> None:
    """Where only the package is installed, `huleedu` says which extra it needs: one line and code 7, no traceback."""
    done = subprocess.run(  # noqa: S603  # our own program
        [sys.executable, "-c", _WITHOUT_TYPER], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr.startswith("huleedu: ")
    assert "[cli]" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_error_cannot_steer_the_terminal(group: typer.Typer, capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences in a text from elsewhere are shown, not obeyed."""

    @group.command("fail")
    def fail() -> None:
        raise CliError("\x1b[2Jgone\nsecond line")

    main(["probe", "fail"])
    assert capsys.readouterr().err == "huleedu: \\x1b[2Jgone\\nsecond line\n"


def test_a_group_whose_driver_is_missing_leaves_the_others_alone(
    group: typer.Typer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The help shows every group; only calling the one that lacks its driver fails, with the extra to install."""

    @group.command("go")
    def go() -> None: ...

    def missing(name: str) -> Any:
        if name == "broken_group":
            raise MissingExtraError("broken_group needs 'redis': pip install 'huleedu-service-libs[redis]'")
        return sys.modules[name]

    monkeypatch.setattr(groups, "import_module", missing)
    monkeypatch.setattr(groups, "GROUPS", {**groups.GROUPS, "broken": groups.Group("broken_group", "Lacks a driver.")})
    assert main(["--help"]) == 0
    assert "Lacks a driver." in capsys.readouterr().out
    assert main(["probe", "go"]) == 0
    assert main(["broken", "go"]) == ExitCode.MISSING_EXTRA
    assert "huleedu-service-libs[redis]" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["nonsense"], ["breakers", "nonsense"], ["breakers", "list", "--nonsense"]])
def test_a_wrong_command_line_is_exit_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown groups, commands and options are the user's error."""
    assert main(arguments) == ExitCode.USAGE
    assert "nonsense" in capsys.readouterr().err


def test_help_loads_no_driver() -> None:
    """The root's help imports none of the groups, so none of their drivers."""
    code = (
        "import sys; from huleedu_service_libs.cli.main import main; main(['--help']);"
        "sys.exit(','.join(name for name in ('aiokafka', 'redis', 'sqlalchemy', 'aiohttp') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)  # noqa: S603  # our own code
    assert done.stderr.strip() == ""
    assert "breakers" in done.stdout


def test_values_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    """Markup in a value is no markup, control characters are shown, and a missing value has a place."""
    rows: list[dict[str, Any]] = [{"name": "[red]a[/red]", "why": "\x1b]0;title\x07"}, {"name": "b\u202e", "why": None}]
    Output(as_json=False).rows(rows, {"name": "NAME", "why": "WHY"}, empty="none")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["NAME", "WHY"], ["[red]a[/red]", "\\x1b]0;title\\x07"], ["b\\u202e", "-"]]


def test_json_holds_every_value(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON gets what the table leaves out, and can be read back."""
    rows: list[dict[str, Any]] = [{"name": "a", "hidden": 1.5}]
    Output(as_json=True).rows(rows, {"name": "NAME"}, empty="none")
    assert json.loads(capsys.readouterr().out) == rows


def test_an_empty_list_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to show is a sentence for people and an empty list for programs."""
    Output(as_json=False).rows([], {}, empty="No breakers are registered.")
    Output(as_json=True).rows([], {}, empty="No breakers are registered.")
    assert capsys.readouterr().out == "No breakers are registered.\n[]\n"
