"""Finds every environment variable that the library reads, by reading the code; used by the generator of docs/reference/settings.md.

Seen are names that ``environ`` is asked for, and names with one of the prefixes below in modules that read the environment (they
go through a helper, a constant, an option of the command line or a pydantic alias). The numbers of `RedisClientConfig` are variables
by its own rule.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from settings import PACKAGE, Setting, described, module_of

__all__ = ["Variable", "asked_in", "variables"]

_READS = re.compile(r"\benviron\b|envvar=|validation_alias=|_VARIABLE\b")
_PREFIXED = re.compile(r"(?:HULEEDU|REDIS|KAFKA|OTEL|SERVICE|PROMETHEUS)_[A-Z_]*[A-Z]")
_SET_BY_US = {"HULEEDU_CRASH_POINT", "HULEEDU_CRASH_HIT", "HULEEDU_CRASH_ACTION", "HULEEDU_CRASH_REST"}
"""From a test to its own child process: nobody else sets them."""


@dataclass(frozen=True, kw_only=True)
class Variable:
    """One that is read.

    Attributes:
        name: Its own.
        default: What counts when it is missing, as the code says; empty where it says nothing.
        means: From the docstring of the setting that it fills; empty where there is none.
        readers: Modules.
    """

    name: str
    default: str
    means: str
    readers: tuple[str, ...]


def variables() -> list[Variable]:
    """All of them, by name."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if _READS.search(text):
            for name, default in asked_in(ast.parse(text)):
                readers = found.setdefault(name, {})
                readers[module_of(path)] = readers.get(module_of(path)) or default
    return [_variable(name, found.get(name, {})) for name in sorted({*found, *_filled()} - _SET_BY_US)]


def _variable(name: str, readers: dict[str, str]) -> Variable:
    fills = _filled().get(name)
    said = {default for default in readers.values() if default}
    return Variable(
        name=name,
        default=fills.default if fills else said.pop() if len(said) == 1 else "",
        means=fills.means if fills else "",
        readers=tuple(sorted(readers)) or ("redis_client",),
    )


def _filled() -> dict[str, Setting]:
    """The settings that variables fill by a rule: numbers of the Redis client, fields of services' settings."""
    of = {one.name: one.settings for one in described()}
    redis = {f"REDIS_{each.name.upper()}": each for each in of["RedisClientConfig"] if each.is_number}
    aliases = {f"HULEEDU_{name}": name for name in ("DB_PASSWORD", "INTERNAL_API_KEY")}
    services = {each.name: each for each in of["SecureServiceSettings"] if each.name.startswith("HULEEDU_")}
    services |= {
        alias: each for alias, name in aliases.items() for each in of["SecureServiceSettings"] if each.name == name
    }
    return redis | services


def asked_in(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Names of variables that a module asks for, with their defaults; the same one may come more than once."""
    exported = {id(each) for node in tree.body if _is_all(node) for each in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _PREFIXED.fullmatch(str(node.value)) and id(node) not in exported:
            yield str(node.value), ""
        elif isinstance(node, ast.BoolOp) and isinstance(node.op, ast.Or):
            asked = [name for each in node.values for name, _ in _asked(each)]
            for name in asked:
                yield name, _literal(node.values[-1])
        else:
            yield from _asked(node)


def _asked(node: ast.AST) -> Iterator[tuple[str, str]]:
    """What ``environ.get(name, default)``, ``environ[name]`` and ``environ.setdefault`` ask for."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and _is_environ(node.func.value):
        name = _literal(node.args[0]) if node.args and node.func.attr == "get" else ""
        if name:
            yield name, _literal(node.args[1]) if len(node.args) > 1 else ""
    elif isinstance(node, ast.Subscript) and _is_environ(node.value) and _literal(node.slice):
        yield _literal(node.slice), ""


def _is_environ(node: ast.expr) -> bool:
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) == "environ"


def _literal(node: ast.expr) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _is_all(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(getattr(each, "id", "") == "__all__" for each in node.targets)
