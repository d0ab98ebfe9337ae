"""Compares signatures, written as the contract writes them, with what an implementation offers.

A line is ``async module:Class.method(parameters)``, ``def module:function(parameters)`` or ``class module:Class(parameters)``;
the module is named below the package. ``...`` as a default means: optional, and its value is checked elsewhere.
A line ``[2.1-bus-signatures]`` is the id of the row that the signatures below it belong to.
"""

import ast
import importlib
import inspect
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from inspect import Parameter
from typing import Any

import pytest
from _pytest.mark import ParameterSet

from tests.contract.report import REPORT

__all__ = ["Wanted", "lines"]

PACKAGE = "huleedu_service_libs"
UNSAID = "..."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One line of a table of signatures."""

    form: str
    module: str
    path: str
    parameters: str

    def __str__(self) -> str:
        """The name, as it is shown by pytest."""
        return f"{self.module}:{self.path}"

    def faults(self) -> list[str]:
        """In what the implementation differs; empty where a caller cannot tell the difference."""
        thing: Any = importlib.import_module(f"{PACKAGE}.{self.module}")
        for name in self.path.split("."):
            thing = getattr(thing, name)
        ours = [one for one in inspect.signature(thing).parameters.values() if one.name != "self"]
        return [*_of_form(self.form, thing), *_of_parameters(_parse(self.parameters), ours)]


def lines(section: str, table: str) -> list[ParameterSet]:
    """The lines of a section's table, each claiming the row it stands under; the report says how many there are."""
    row, found = "", []
    for line in filter(None, map(str.strip, table.splitlines())):
        if line.startswith("["):
            row = line.strip("[]")
            continue
        found.append(pytest.param(_line(line), marks=[pytest.mark.contract(row)] if row else []))
    REPORT.add(f"section {section}: {len(found)} signatures")
    return found


def _line(line: str) -> Wanted:
    form, _, rest = line.partition(" ")
    name, _, parameters = rest.partition("(")
    module, _, path = name.partition(":")
    assert form in {"async", "def", "class"}, f"{line!r} begins with none of async, def, class"
    return Wanted(form=form, module=module, path=path, parameters=parameters.removesuffix(")"))


def _parse(parameters: str) -> list[Parameter]:
    """The parameters of a line; the default of each is its text."""
    (function,) = ast.parse(f"def f({parameters}): ...").body
    assert isinstance(function, ast.FunctionDef)
    names = function.args
    required = len(names.args) - len(names.defaults)
    found = [
        Parameter(one.arg, Parameter.POSITIONAL_OR_KEYWORD, default=_text(names.defaults, at - required))
        for at, one in enumerate(names.args)
    ]
    found += [Parameter(one.arg, Parameter.VAR_POSITIONAL) for one in [names.vararg] if one]
    found += [
        Parameter(one.arg, Parameter.KEYWORD_ONLY, default=Parameter.empty if default is None else ast.unparse(default))
        for one, default in zip(names.kwonlyargs, names.kw_defaults, strict=True)
    ]
    return found + [Parameter(one.arg, Parameter.VAR_KEYWORD) for one in [names.kwarg] if one]


def _text(defaults: list[ast.expr], at: int) -> Any:
    return Parameter.empty if at < 0 else ast.unparse(defaults[at])


def _written(default: Any) -> str:
    """A default of the implementation as the contract would write it."""
    if isinstance(default, timedelta):
        return f"timedelta(seconds={default.total_seconds():.0f})"
    if isinstance(default, Enum):
        return f"{type(default).__name__}.{default.name}"
    return default.__name__ if isinstance(default, type) else repr(default)


def _of_form(form: str, thing: Any) -> list[str]:
    """`AsyncMock(spec=...)` decides by this whether a method is awaited."""
    is_form = "class" if inspect.isclass(thing) else "async" if inspect.iscoroutinefunction(thing) else "def"
    return [] if form == is_form else [f"is {is_form}, not {form}"]


def _of_parameters(wanted: list[Parameter], ours: list[Parameter]) -> list[str]:
    names = [one.name for one in wanted]
    known = {one.name: one for one in ours}
    missing = [f"has no parameter {name}" for name in names if name not in known]
    if missing:
        return missing
    order = [one.name for one in ours if one.name in names]
    faults = [] if order == names else [f"has the order {order}, not {names}"]
    for one in wanted:
        faults += _of_parameter(one, known[one.name], forwards=any(p.kind is Parameter.VAR_KEYWORD for p in wanted))
    return faults + _of_additions([one for one in ours if one.name not in names], ours, names)


def _of_parameter(wanted: Parameter, ours: Parameter, *, forwards: bool) -> list[str]:
    """Where keywords are handed on, positional-only is no loss: the keyword belongs to whoever gets them."""
    same_kind = ours.kind is wanted.kind or (forwards and ours.kind is Parameter.POSITIONAL_ONLY)
    faults = [] if same_kind else [f"{wanted.name} is {ours.kind.description}, not {wanted.kind.description}"]
    if wanted.default is Parameter.empty:
        return faults if ours.default is Parameter.empty else [*faults, f"{wanted.name} must be given"]
    if ours.default is Parameter.empty:
        return [*faults, f"{wanted.name} has no default"]
    same = wanted.default == UNSAID or _written(ours.default) == wanted.default
    return faults if same else [*faults, f"{wanted.name} is {_written(ours.default)} by default, not {wanted.default}"]


def _of_additions(additions: list[Parameter], ours: list[Parameter], names: list[str]) -> list[str]:
    """What an implementation adds is optional and stands where it moves no positional argument."""
    last = max((at for at, one in enumerate(ours) if one.name in names), default=-1)
    positional = {Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD}
    faults = []
    for one in additions:
        variable = one.kind in {Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD}
        if one.default is Parameter.empty and not variable:
            faults.append(f"asks for {one.name}, which nobody gives")
        if one.kind in positional and ours.index(one) < last:
            faults.append(f"has {one.name} before what callers give by position")
    return faults
