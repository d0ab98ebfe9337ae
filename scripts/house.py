"""The house in figures: how long its modules and functions are, what nobody asks for, and what is written once and used never.

``make house`` prints them, ``tests/test_house.py`` holds the norms. How it counts:

- a *line* of a module is a line of its file; *code* is a line with anything on it but comment and docstring;
- a function's length is the code from its ``def`` to its end, that of functions inside it included;
- an exported name is *needed* where another file says it (code, test, example, page or the interface's list), or
  where an exported function or class of its own module has it in its signature: callers may want to name the type;
- a definition is *unused* where its name stands nowhere in the repository but there, and no decorator hands it to somebody.
"""

import ast
import io
import re
import statistics
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

__all__ = ["House", "Module", "longer_than", "read"]

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES, SHARE_OF_MODULES, LONGEST_MODULE = 250, 0.9, 350
MEDIAN_FUNCTION = 10
LONGEST_TEST_FILE = 400
"""The norms, from what libraries of this field show that are easy to read."""

TESTS = ("libs/*/tests/**/*.py", "tests/**/*.py", "examples/*/tests/**/*.py")
SOURCES = ("libs/*/src/**/*.py",)
READERS = (
    *SOURCES,
    "libs/*/tests/**/*.py",
    "tests/**/*.py",
    "tests/contract/names.json",
    "examples/**/*.py",
    "benchmarks/**/*.py",
    "scripts/**/*.py",
    "deploy/**/*.*",
    "*.md",
    "docs/**/*.md",
    "libs/*/*.md",
    "examples/**/*.md",
    "pyproject.toml",
    "libs/*/pyproject.toml",
)
CALLED_BY_OTHERS = {
    "TracingMiddleware": "services, by their interface",
    "create_infrastructure_enhancer": "services, by their interface",
    "on_partitions_assigned": "aiokafka's listener",
    "pause_writing": "asyncio's protocol",
    "redirect_request": "urllib's handler",
    "resume_writing": "asyncio's protocol",
    "track_query": "services, by their interface",
}
"""What is called by its name from outside of the repository, and by whom."""

_STILL_CALLED_BY_NAME = {
    "property",
    "cached_property",
    "classmethod",
    "staticmethod",
    "contextmanager",
    "asynccontextmanager",
}
"""Decorators that leave a function to be called by its name; any other one registers it somewhere."""

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """A file of the packages.

    Attributes:
        path: From the root.
        text: What is in it.
    """

    path: Path
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Its syntax."""
        return ast.parse(self.text)

    @cached_property
    def lines(self) -> int:
        """Of the file."""
        return self.text.count("\n")

    @property
    def is_generated(self) -> bool:
        """Whether a script wrote it: it may be as long as what it lists."""
        return "Made by ``make generate``" in self.text[:400]

    @cached_property
    def code(self) -> frozenset[int]:
        """The numbers of its lines of code."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        lines = {n for one in tokens if one.type not in _NOT_CODE for n in range(one.start[0], one.end[0] + 1)}
        return frozenset(lines - set(_docstring_lines(self.tree)))

    def functions(self) -> Iterator[tuple[str, int]]:
        """Each function's name and length; bodies of ``...`` (overloads, ports) are none."""
        for node in ast.walk(self.tree):
            if isinstance(node, _Function) and not _is_stub(node):
                yield node.name, len(self.code & set(range(node.lineno, (node.end_lineno or 0) + 1)))

    def exported(self) -> list[str]:
        """The names of ``__all__``; a package's ``__init__`` only hands on and has none of its own."""
        if self.path.name == "__init__.py":
            return []
        lists = (n.value for n in self.tree.body if isinstance(n, ast.Assign) and _names(n) == ["__all__"])
        return [str(name) for one in lists for name in ast.literal_eval(one)]

    def in_signatures(self) -> set[str]:
        """Every name in what its exported functions and classes take, give, hold and raise."""
        exported = set(self.exported())
        nodes = [n for n in self.tree.body if getattr(n, "name", None) in exported]
        return {word for node in nodes for part in _surface(node) for word in _WORD.findall(part)}

    def defined(self) -> Iterator[str]:
        """Functions, methods, classes and constants that it defines."""
        for node in ast.walk(self.tree):
            if isinstance(node, _Function | ast.ClassDef) and not _is_registered(node):
                yield node.name
        for node in self.tree.body:
            yield from _names(node)


@dataclass(frozen=True)
class House:
    """Every module, and every word of whoever may use it.

    Attributes:
        modules: Of the packages.
        tests: Files of tests, and of what they share.
        words: For each file that may use them, how often each word is in it.
    """

    modules: list[Module]
    tests: list[Module]
    words: dict[Path, Counter[str]] = field(repr=False)

    def function_lengths(self) -> list[int]:
        """Of all functions, shortest first."""
        return sorted(length for module in self.modules for _, length in module.functions())

    def share_of_modules(self) -> float:
        """How many of them keep to the norm, generated ones apart."""
        lines = [module.lines for module in self.modules if not module.is_generated]
        return sum(number <= MODULE_LINES for number in lines) / len(lines)

    def needless(self) -> Iterator[str]:
        """Exported names that nobody needs, each behind its file."""
        for module in self.modules:
            own = module.in_signatures()
            for name in module.exported():
                if (
                    name not in own
                    and name not in CALLED_BY_OTHERS
                    and not any(name in words for path, words in self.words.items() if path != module.path)
                ):
                    yield f"{module.path}: {name}"

    def unused(self) -> Iterator[str]:
        """What is defined and named nowhere, each behind its file."""
        total: Counter[str] = sum(self.words.values(), Counter())
        for module in self.modules:
            for name in module.defined():
                if total[name] == 1 and not name.startswith("__") and name not in CALLED_BY_OTHERS:
                    yield f"{module.path}: {name}"


def read(root: Path = ROOT) -> House:
    """All of the repository that counts."""
    words = {
        path.relative_to(root): Counter(_WORD.findall(path.read_text(encoding="utf-8")))
        for path in _files(root, READERS)
    }
    return House(_modules(root, SOURCES), _modules(root, TESTS), words)


def longer_than(limit: int, modules: list[Module]) -> list[Module]:
    """Those of more lines that people wrote, longest first."""
    return sorted((one for one in modules if one.lines > limit and not one.is_generated), key=lambda one: -one.lines)


def _modules(root: Path, patterns: Iterable[str]) -> list[Module]:
    return [Module(path.relative_to(root), path.read_text(encoding="utf-8")) for path in _files(root, patterns)]


def _files(root: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in root.glob(pattern) if path.is_file()})


def _names(node: ast.AST) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _docstring_lines(tree: ast.Module) -> Iterator[int]:
    """Strings that stand alone: docstrings, of attributes too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from range(node.lineno, (node.end_lineno or 0) + 1)


def _is_registered(node: _Function | ast.ClassDef) -> bool:
    """Whether a decorator hands it to somebody: providers, commands, fixtures, listeners."""
    used = {
        _WORD.findall(ast.unparse(each.func if isinstance(each, ast.Call) else each))[-1]
        for each in node.decorator_list
    }
    return isinstance(node, _Function) and not used <= _STILL_CALLED_BY_NAME


def _is_stub(node: _Function) -> bool:
    last = node.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant)


def _surface(node: ast.AST) -> Iterator[str]:
    """What a caller sees of a function or class, as text: signatures, attributes, bases and docstrings."""
    if isinstance(node, _Function):
        yield f"{ast.unparse(node.args)} -> {ast.unparse(node.returns) if node.returns else ''}"
        yield ast.get_docstring(node) or ""
    elif isinstance(node, ast.ClassDef):
        yield from (ast.unparse(base) for base in node.bases)
        yield ast.get_docstring(node) or ""
        for each in node.body:
            yield from _surface(each)
    elif isinstance(node, ast.AnnAssign):
        yield ast.unparse(node.annotation)


def _show(title: str, *rows: str) -> None:
    print(f"{title:10} " + "\n           ".join(rows))


def _print(house: House) -> None:
    modules, lengths = house.modules, house.function_lengths()
    lines = [module.lines for module in modules]
    longest = sorted(((n, name, m.path) for m in modules for name, n in m.functions()), reverse=True)[:5]
    _show(
        "modules",
        f"{len(lines)}, {sum(lines)} lines, {sum(len(module.code) for module in modules)} of code; median {statistics.median(lines):.0f} lines",
        f"{100 * house.share_of_modules():.1f} % have at most {MODULE_LINES} lines; longer are",
        *(f"{module.lines} {module.path}" for module in longer_than(MODULE_LINES, modules)),
    )
    _show(
        "functions",
        f"{len(lengths)}, median {statistics.median(lengths):.0f} lines of code, 90 % have at most {lengths[len(lengths) * 9 // 10]}; the longest are",
        *(f"{length} {name} in {path}" for length, name, path in longest),
    )
    long_tests = [f"{module.lines} {module.path}" for module in longer_than(LONGEST_TEST_FILE, house.tests)]
    _show("tests", f"{len(house.tests)} files; of more than {LONGEST_TEST_FILE} lines {len(long_tests)}", *long_tests)
    for title, found in (("needless", list(house.needless())), ("unused", list(house.unused()))):
        _show(title, str(len(found)), *found)


if __name__ == "__main__":
    _print(read())
