"""Finds every log line that the library writes: its event, its level, the module, by reading the code.

Used by the generator of docs/reference/log-events.md. Sees a literal, one of two literals, a literal beginning of an
f-string, what is handed to a function of the same module that logs its parameter ``event``, and a logger's method that
was given another name.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Found", "find"]

_LEVELS = frozenset({"debug", "info", "warning", "error", "critical", "exception"})


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Found:
    """One place that logs.

    Attributes:
        event: The line's event.
        level: Of the line.
        module: Where, without the package's name.
    """

    event: str
    level: str
    module: str


def find(package: Path) -> list[Found]:
    """Every line of the package, sorted, each once."""
    found = {each for path in package.rglob("*.py") for each in _of_module(path, package)}
    return sorted(found)


def _of_module(path: Path, package: Path) -> Iterator[Found]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    module = ".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__")
    relays = _relays(tree)
    aliases = _aliases(tree)
    for call in (each for each in ast.walk(tree) if isinstance(each, ast.Call)):
        level = _level_of(call)
        if level is None:
            name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", None)
            level = relays.get(str(name))
        levels = {level} if level else aliases.get(getattr(call.func, "id", ""), set())
        for each in sorted(levels) if call.args else ():
            for event in _literals(call.args[0]):
                yield Found(event=event, level=each.replace("exception", "error"), module=module)


def _level_of(call: ast.Call) -> str | None:
    method = call.func
    if not isinstance(method, ast.Attribute) or method.attr not in _LEVELS:
        return None
    owner = method.value
    name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
    return method.attr if "logger" in name or name == "log" else None


def _aliases(tree: ast.AST) -> dict[str, set[str]]:
    """Names that stand for a logger's methods, as in ``log = logger.error if bad else logger.info``, with their levels."""
    aliases: dict[str, set[str]] = {}
    for assigned in (each for each in ast.walk(tree) if isinstance(each, ast.Assign)):
        values = (
            [assigned.value.body, assigned.value.orelse] if isinstance(assigned.value, ast.IfExp) else [assigned.value]
        )
        levels = [_level_of(ast.Call(func=value, args=[], keywords=[])) for value in values]
        for target in assigned.targets:
            if isinstance(target, ast.Name) and all(levels):
                aliases.setdefault(target.id, set()).update(filter(None, levels))
    return aliases


def _relays(tree: ast.AST) -> dict[str, str]:
    """Functions that log a parameter of theirs, with the level."""
    relays = {}
    for function in (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)):
        parameters = {each.arg for each in function.args.args}
        for call in (each for each in ast.walk(function) if isinstance(each, ast.Call)):
            level = _level_of(call)
            if level and call.args and isinstance(call.args[0], ast.Name) and call.args[0].id in parameters:
                relays[function.name] = level
    return relays


def _literals(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from _literals(node.body)
        yield from _literals(node.orelse)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(str(each.value) if isinstance(each, ast.Constant) else "…" for each in node.values)
