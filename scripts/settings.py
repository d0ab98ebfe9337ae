"""Finds every setting of the library, with its default, its unit and what its docstring says about it.

Used by the generator of docs/reference/settings.md. A *settings class* is a public data class that checks itself or is
called so (``…Config``, ``…Settings``, ``…Policy``, ``…Limits``), a pydantic model, or a port through which providers read a
service's settings; an *option* is a number, a switch or a choice that a constructor or function takes which is handed to services:
by a package's ``__init__``, by a module at the top, or by a page that names it. Docstrings are in Google's form.
"""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined

import huleedu_service_libs

__all__ = ["Described", "Setting", "describe", "described", "faults", "module_of", "sections"]

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "libs/huleedu_service_libs/src/huleedu_service_libs"
_PREFIX = "huleedu_service_libs."
_PAGES = ("README.md", "libs/*/README.md", "docs/how-to/*.md", "docs/concepts/*.md")
_OTHERS = ("testing", "cli", "error_handling.catalogue")  # tools, and what only the generator of factories reads

_CALLED_SO = ("Config", "Settings", "Policy", "Limits")
_SUFFIXES = {"per_second": "1/s", "_s": "s", "_seconds": "s", "_ms": "ms", "_bytes": "bytes", "_ttl": "s"}
_WORDS = {
    "s": re.compile(r"\b[Ss]econds?\b|\d s\b"),
    "ms": re.compile(r"\bMilliseconds\b"),
    "bytes": re.compile(r"\b[Bb]ytes\b"),
    "share": re.compile(r"\b[Ss]hare of\b"),
}
_NAMED = re.compile(r"\b(\w+)(?=\(|`)")  # called, or in code style
_TIMES = re.compile(r"(?:^|_)(?:timeout|interval|delay|wait|pause|ttl|age|retention|deadline)(?:$|_)")
_MISSING = object()
_MERE_NAMES = {"name", "service_name", "title", "message", "application_name"}
_BY_ENVIRONMENT = {"bootstrap_servers", "redis_url"}  # their defaults are variables, and stand under these
_NO_SETTINGS = {
    "AuditRecord",
    "Selection",
    "Row",
    "Subscription",
    "Delivery",
    "letter",
}  # values, which check themselves or name numbers all the same

_OF_SERVICES = {
    "DatabaseHealthChecker",
    "FallbackMessageHandler",
    "HttpClientConfig",
    "IdempotencyConfig",
    "IdempotentStep",
    "KafkaSettings",
    "OutboxSettings",
    "ResilientKafkaPublisher",
    "idempotent_consumer",
}
"""Whose names services knew before, or which hand on names of those: there a time keeps the form that it has."""

_SECTIONS = {
    "config": "A service's own settings",
    "di": "A service's own settings",
    "outbox": "Outbox",
    "kafka.consumer": "Consumer",
    "idempotency_v2": "Idempotency and inbox",
    "inbox": "Idempotency and inbox",
    "kafka": "Publishing to Kafka",
    "kafka_client": "Publishing to Kafka",
    "redis_client": "Redis",
    "redis_access": "Redis",
    "redis_pubsub": "Redis",
    "queue_redis_client": "Redis",
    "http_client": "HTTP clients",
    "resilience": "Breakers, retries, limits",
    "health": "Health",
    "database": "Database",
    "observability": "Traces",
    "logging_utils": "Logs and errors",
    "error_handling": "Logs and errors",
    "middleware": "The web edge",
    "metrics_middleware": "The web edge",
    "quart_app": "The web edge",
    "console": "Console",
}
"""Where a module's settings stand on the page, in the page's order; the longest name that fits counts."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One line of a table.

    Attributes:
        name: As it is written in code.
        default: As text; ``required`` where there is none.
        unit: ``s``, ``ms``, ``bytes``, ``share``, or nothing where a number counts things.
        means: From the docstring.
        is_number: Whether a unit is to be expected.
    """

    name: str
    default: str
    unit: str
    means: str
    is_number: bool


@dataclass(frozen=True, kw_only=True)
class Described:
    """A class or function with its settings.

    Attributes:
        name: Its own.
        home: The module to import it from.
        first: The first line of its docstring.
        settings: In the order of the code.
        readers: Modules that take it.
    """

    name: str
    home: str
    first: str
    settings: tuple[Setting, ...]
    readers: tuple[str, ...] = ()


@cache
def described() -> tuple[Described, ...]:
    """Everything that has settings, by section and name."""
    found = [one for thing, home in _public().values() for one in describe(thing, home)]
    order = list(_SECTIONS)
    return tuple(
        sorted(found, key=lambda one: (order.index(place_of(one.home)), bool(not one.readers), one.home, one.name))
    )


def sections() -> Iterator[tuple[str, list[Described]]]:
    """What stands under each title of the page."""
    for title in dict.fromkeys(_SECTIONS.values()):
        yield title, [one for one in described() if _SECTIONS[place_of(one.home)] == title]


def faults(found: Iterable[Described]) -> Iterator[str]:
    """What a reader of the page would miss."""
    for one in found:
        for each in one.settings:
            if not each.means:
                yield f"{one.home}.{one.name}: its docstring says nothing about {each.name!r}"
            elif each.is_number and not each.unit and _TIMES.search(each.name):
                yield f"{one.home}.{one.name}: the docstring must say the unit of {each.name!r}"
            elif each.is_number and each.unit == "s" and not _is_named_so(one.name, each.name):
                yield f"{one.home}.{one.name}: {each.name!r} is in seconds: let its name end with _s"


def _is_named_so(owner: str, name: str) -> bool:
    return name.endswith("_s") or name == "seconds" or owner in _OF_SERVICES


def _docstring_entries(text: str | None) -> dict[str, str]:
    """What ``Args:`` and ``Attributes:`` of a docstring say, by name; what is said twice counts as said first."""
    entries: dict[str, str] = {}
    heading = name = ""
    for line in inspect.cleandoc(text or "").splitlines():
        if line and not line.startswith(" "):
            heading = line.strip()
        elif heading in {"Attributes:", "Args:"} and (begun := re.match(r"    (\w+): (.*)", line)):
            name = "" if begun[1] in entries else begun[1]
            entries.setdefault(begun[1], begun[2])
        elif heading in {"Attributes:", "Args:"} and name and line.strip():
            entries[name] += f" {line.strip()}"
    return entries


@cache
def _public() -> dict[int, tuple[Any, str]]:
    """Each public class and function, with the shortest way to import it."""
    homes: dict[int, tuple[Any, str]] = {}
    for found in pkgutil.walk_packages(huleedu_service_libs.__path__, _PREFIX):
        path = found.name.removeprefix(_PREFIX)
        if any(part.startswith("_") for part in path.split(".")) or path.startswith(_OTHERS):
            continue
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", ()):
            thing = getattr(module, name)
            if callable(thing) and str(getattr(thing, "__module__", "")).startswith(_PREFIX):
                known = homes.get(id(thing), (thing, path))[1]
                homes[id(thing)] = (thing, min(known, path, key=lambda one: (one.count("."), len(one))))
    return homes


def describe(thing: Any, home: str) -> Iterator[Described]:
    """What there is to tell of a class or function that stands in the module ``home``; nothing where it has no settings."""
    if thing.__name__ in _NO_SETTINGS or thing.__name__.startswith(("raise_", "create_test_")):
        return
    if inspect.isclass(thing) and _is_settings(thing):
        settings, readers = tuple(_of_class(thing)), _readers(thing.__name__, thing.__module__)
    elif _is_offered(thing, home):
        settings, readers = tuple(_options(thing)), ()
    else:
        return
    if settings:
        yield Described(name=thing.__name__, home=home, first=_first(thing), settings=settings, readers=readers)


def _is_settings(thing: type) -> bool:
    if issubclass(thing, BaseModel):
        return thing.__name__.endswith(_CALLED_SO)
    if getattr(thing, "_is_protocol", False):
        return thing.__name__.endswith("Settings")
    if not dataclasses.is_dataclass(thing):
        return thing.__name__.endswith(_CALLED_SO) and not issubclass(thing, BaseException)
    has_default = any(_default_of(field) is not _MISSING for field in dataclasses.fields(thing))
    return has_default and (thing.__name__.endswith(_CALLED_SO) or "__post_init__" in vars(thing))


def _of_class(thing: type) -> Iterator[Setting]:
    said = _docstring_entries(thing.__doc__)
    if issubclass(thing, BaseModel):
        for name, field in thing.model_fields.items():
            default = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
            yield _setting(name, _MISSING if default is PydanticUndefined else default, field.annotation, said)
    elif dataclasses.is_dataclass(thing):
        for each in dataclasses.fields(thing):
            yield _setting(each.name, _default_of(each), each.type, said)
    elif getattr(thing, "_is_protocol", False):
        for name, member in inspect.getmembers(thing, lambda each: isinstance(each, property)):
            yield _setting(name, _MISSING, str, {name: _first(member)})
        defaults = _asked_for(thing)
        for name in said:
            yield _setting(name, defaults.get(name), type(defaults.get(name)), said)
    else:
        for parameter in list(inspect.signature(thing).parameters.values()):
            yield _of_parameter(parameter, said)


def _asked_for(port: type) -> dict[str, Any]:
    """What the module of a port asks settings for by name, and takes when it is not there."""
    tree = _trees()[port.__module__.removeprefix(_PREFIX)]
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr")
    asked = [call.args[1:] for call in calls if isinstance(call.args[1], ast.Constant)]
    return {ast.literal_eval(name): ast.literal_eval(*default) for name, *default in asked if default}


def _default_of(field: dataclasses.Field[Any]) -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    return _MISSING if field.default_factory is dataclasses.MISSING else field.default_factory()


def _options(thing: Any) -> Iterator[Setting]:
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):
        return
    said = _docstring_entries(thing.__doc__)
    for parameter in signature.parameters.values():
        given = parameter.default is not parameter.empty
        if _is_choice(parameter) or (_is_figure(parameter.annotation) and (given or inspect.isclass(thing))):
            yield _of_parameter(parameter, said)


def _of_parameter(parameter: inspect.Parameter, said: dict[str, str]) -> Setting:
    default = _MISSING if parameter.default is parameter.empty else parameter.default
    return _setting(parameter.name, default, parameter.annotation, said)


def _is_offered(thing: Any, home: str) -> bool:
    if inspect.isclass(thing) and (issubclass(thing, BaseException | Enum) or dataclasses.is_dataclass(thing)):
        return False
    module = importlib.import_module(_PREFIX + home)
    is_front = "." not in home or hasattr(module, "__path__")
    return is_front or thing.__name__ in _named_by_pages()


@cache
def _named_by_pages() -> frozenset[str]:
    paths = {path for pattern in _PAGES for path in ROOT.glob(pattern)}
    return frozenset(name for path in paths for name in _NAMED.findall(path.read_text(encoding="utf-8")))


def _is_choice(parameter: inspect.Parameter) -> bool:
    """Whether it is a text that is there unless somebody wants another; a mere name for log and metrics is no setting."""
    return (
        bool(parameter.default)
        and isinstance(parameter.default, str)
        and parameter.name not in _MERE_NAMES | _BY_ENVIRONMENT
    )


def _is_figure(annotation: Any) -> bool:
    """Whether it is a number, a switch, a time, or one of several names."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return any(map(_is_figure, get_args(annotation)))
    return annotation in {int, float, bool, timedelta} or get_origin(annotation) is Literal


def _is_number(annotation: Any) -> bool:
    if get_origin(annotation) in {Union, types.UnionType}:
        return any(map(_is_number, get_args(annotation)))
    return annotation in {int, float}


def _setting(name: str, default: Any, annotation: Any, said: dict[str, str]) -> Setting:
    means, is_number = said.get(name, ""), _is_number(annotation)
    unit = _unit(name, means) if is_number else "s" if isinstance(default, timedelta) else ""
    return Setting(name=name, default=_shown(default, unit), unit=unit, means=means, is_number=is_number)


def _unit(name: str, means: str) -> str:
    by_name = next((unit for suffix, unit in _SUFFIXES.items() if name.endswith(suffix) or name == suffix[1:]), "")
    clause = re.sub(r"``.*?``", "", means).split(";")[0]
    return by_name or next((unit for unit, word in _WORDS.items() if word.search(clause)), "")


def _shown(value: Any, unit: str) -> str:
    """A default, as people read it."""
    if isinstance(value, timedelta):
        value, unit = value.total_seconds(), "s"
    if value is _MISSING:
        return "required"
    if isinstance(value, SecretStr):
        return "empty"
    if isinstance(value, bool | None):
        return f"`{value}`"
    if isinstance(value, int | float):
        return _number(value, unit)
    return _thing(value)


def _number(value: float, unit: str) -> str:
    if unit == "bytes":
        size, name = (value / 1024**2, "MiB") if value >= 1024**2 else (value / 1024, "KiB")
        return f"{size:g} {name}"
    days = f" ({value / 86_400:g} d)" if unit == "s" and value >= 86_400 else ""  # noqa: PLR2004  # a day
    return f"{value:,.10g}".replace(",", " ") + days


def _thing(value: Any) -> str:
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    if isinstance(value, tuple | frozenset | dict):
        return "none" if not value else "see there"
    name = getattr(value, "__name__", None)
    return f"`{name}`" if name else f"`{type(value).__name__}()`"


@cache
def _trees() -> dict[str, ast.Module]:
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"]
    return {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def module_of(path: Path) -> str:
    """A file's module, without the package's name."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts)


@cache
def _imports() -> dict[str, frozenset[str]]:
    """What each module imports, by name."""
    return {
        module: frozenset(
            each.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for each in node.names
        )
        for module, tree in _trees().items()
    }


def _readers(name: str, own: str) -> tuple[str, ...]:
    """The modules that take settings of that name; its own where no other does."""
    found = [module for module, names in _imports().items() if name in names]
    return tuple(sorted(found)) or (own.removeprefix(_PREFIX),)


def place_of(home: str) -> str:
    """The key of `_SECTIONS` under which a module's settings stand."""
    fitting = [name for name in _SECTIONS if home == name or home.startswith(f"{name}.")]
    if not fitting:
        raise LookupError(f"settings of {home}: say in scripts/settings.py under which title they stand")
    return max(fitting, key=len)


def _first(thing: Callable[..., Any] | property) -> str:
    return " ".join(inspect.cleandoc(thing.__doc__ or "").split("\n\n")[0].split())
