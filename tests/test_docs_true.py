"""What the pages name exists: imports, links and their anchors, files, make targets, commands and options, identifiers.

Each page's python is run by the test of that page; here it is held that there is such a test, and that nothing else on
any page has been renamed or removed behind its back.
"""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from huleedu_service_libs.cli.groups import GROUPS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "docs/*/*.md", "libs/*/README.md", "examples/*/README.md")
    for page in ROOT.glob(pattern)
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
HISTORY = ("docs/adr/", "CHANGELOG.md")  # tell of what was decided and changed, names that are gone included

LANGUAGES = {"python", "bash", "toml", "yaml", "json", "sql", "text", "console", "mermaid", ""}

# Written in the code in parts (a label's value, the prefix of a service and a metric), or the reader's own.
PUT_TOGETHER = {"redis_delete", "intake_database_connections_active", "my_service", "personal_number"}


def _text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _blocks(name: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"^```(\w*)\n(.*?)^```", _text(name), flags=re.DOTALL | re.MULTILINE)


def _prose(name: str) -> str:
    return re.sub(r"^```.*?^```", "", _text(name), flags=re.DOTALL | re.MULTILINE)


def _python(name: str) -> list[str]:
    return [block for language, block in _blocks(name) if language == "python"]


@pytest.mark.parametrize("name", [name for name in NAMES if _python(name)])
def test_python_compiles_and_finds_what_it_imports(name: str) -> None:
    """Each block is Python, and every name that it imports from us is there."""
    for block in _python(name):
        code = compile(block, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST)
        imports = [node for node in ast.walk(code) if isinstance(node, ast.ImportFrom)]
        for node in imports:
            if (node.module or "").split(".")[0] in {"huleedu_service_libs", "common_core"}:
                module = importlib.import_module(str(node.module))
                missing = [each.name for each in node.names if not hasattr(module, each.name)]
                assert missing == [], f"{node.module} has no {missing}"


def test_a_test_runs_the_python_of_each_page() -> None:
    """A page with Python is named by a test of pages, which runs it."""
    tests = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py") if path != Path(__file__)
    )
    assert [name for name in NAMES if _python(name) and Path(name).name not in tests] == []


def test_blocks_say_what_they_are() -> None:
    """A block's language is one that is checked or plainly not code."""
    assert [(name, language) for name in NAMES for language, _ in _blocks(name) if language not in LANGUAGES] == []


def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)).lower().replace(" ", "-")
        for heading in found
    }


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_a_page_and_a_heading(name: str) -> None:
    """Each link within the repository names a file, and its anchor a heading of that file."""
    page = ROOT / name
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(name)):
        path, _, anchor = target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in _anchors(file)):
            broken.append(target)
    assert broken == []


def _commands(name: str) -> Iterator[list[str]]:
    """The words of each command of a shell block, and of what the prose quotes that begins with one of our programs."""
    lines = [
        line for language, block in _blocks(name) if language in {"bash", "console", ""} for line in block.splitlines()
    ]
    lines += re.findall(r"`((?:make [a-z]|huleedu )[^`\n]+)`", _prose(name))
    for line in lines:
        for command in re.split(r" && |; | \| ", line.removeprefix("$ ")):
            try:
                words = shlex.split(command, comments=True)
            except ValueError:
                continue
            while words and re.fullmatch(r"[A-Z_]+=.*|time|flock|export", words[0]):
                words = words[1:]
            if words:
                yield words


@cache
def _targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", _text("Makefile"), flags=re.MULTILINE))


def _fault_of_huleedu(words: list[str]) -> str | None:
    """What of a command line the program does not know."""
    if not words or words[0].startswith("-"):
        return None
    group, *words = words
    if group not in GROUPS:
        return f"no group {group!r}"
    command: Any = typer.main.get_command(importlib.import_module(GROUPS[group].module).app)
    if words and not words[0].startswith("-"):
        name, *words = words
        command = command.commands.get(name)
        if command is None:
            return f"no command {name!r}"
    options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    unknown = [word for word in words if word.startswith("--") and word.split("=")[0] not in options | {"--help"}]
    return f"no option {unknown}" if unknown else None


@pytest.mark.parametrize("name", NAMES)
def test_commands_exist(name: str) -> None:
    """Each target of make, each command and option of `huleedu`, each module and test file that a page runs is there."""
    faults = []
    for words in _commands(name):
        program, *rest = words
        if program == "make":
            target = next((word for word in rest if "=" not in word), None)
            faults += [] if target is None or target in _targets() else [f"make {target}"]
        elif program == "huleedu":
            fault = _fault_of_huleedu(rest)
            faults += [f"{' '.join(words)}: {fault}"] if fault else []
        else:
            faults += [
                word
                for word in rest
                if re.fullmatch(r"(?:libs|tests|examples|scripts|docs)/[\w./-]+", word) and not (ROOT / word).exists()
            ]
    assert faults == []


@cache
def _written() -> str:
    """All code, settings and templates, in which whatever a page names must stand."""
    roots = [ROOT / each for each in ("libs", "examples", "scripts", "benchmarks", "deploy", "tests", ".ci")]
    kinds = {".py", ".toml", ".yml", ".yaml", ".json", ".js", ".html", ".template", ".sql", ""}
    files = [
        path
        for root in roots
        for path in root.rglob("*")
        if path.suffix in kinds and path.is_file() and path != Path(__file__)
    ]
    return "\n".join(
        path.read_text(encoding="utf-8", errors="ignore")
        for path in [*files, ROOT / "Makefile", ROOT / "pyproject.toml"]
    )


@cache
def _words() -> set[str]:
    return set(re.findall(r"\w+", _written()))


def _is_known(word: str) -> bool:
    # Prometheus adds the endings.
    stem = re.sub(r"_(total|created|bucket|count|sum|info)$", "", word)
    setting = (
        word.removeprefix("REDIS_").removeprefix("SENTINEL_").lower()
    )  # `from_environment` has a variable for each
    return bool({word, stem, setting} & _words())


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(HISTORY)])
def test_identifiers_exist(name: str) -> None:
    """Whatever a page quotes that looks like a name of code stands in the code: functions, settings, metrics, log lines, columns."""
    quoted = " ".join(re.findall(r"`([^`\n]+)`", _prose(name)))
    shown = set(re.findall(r"\w+", " ".join(block for _, block in _blocks(name))))
    looks_like_code = set(
        re.findall(r"(?<![\w./:{…-])(?:[a-z]+_[a-z_0-9]+|[A-Z][a-z]+[A-Z]\w+|[A-Z]+_[A-Z_]+)(?![\w/-])", quoted)
    )
    assert sorted(word for word in looks_like_code - shown - PUT_TOGETHER if not _is_known(word)) == []


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(HISTORY)])
def test_files_that_are_named_exist(name: str) -> None:
    """A path in backquotes is a file of the repository, of a package, or of a package's tests; a test in it is one."""
    roots = [
        ROOT,
        *(
            each
            for part in ("libs", "examples")
            for deep in ("*", "*/tests", "*/src", "*/src/*")
            for each in ROOT.glob(f"{part}/{deep}")
        ),
    ]
    roots += [ROOT / "deploy/prometheus", ROOT / "deploy"]
    missing = []
    for path, test in re.findall(
        r"`([\w./-]+/[\w.-]+\.(?:py|md|toml|template|json|yml))(?![\w.])(?:::(\w+))?`", _prose(name)
    ):
        if "SUBJECT" in path or "_NN" in path:  # stand for many
            continue
        found = [root / path for root in roots if (root / path).is_file()]
        if not found or (test and f"def {test}(" not in found[0].read_text(encoding="utf-8")):
            missing.append(f"{path}::{test}" if test else path)
    assert missing == []
