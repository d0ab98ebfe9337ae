"""Every name that the services import stands in the module that they import it from, and is of the kind they use."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest

from tests.contract.report import REPORT

NAMES: dict[str, list[str]] = json.loads(Path(__file__).with_name("names.json").read_text())
IMPORTS = [(module, name) for module, names in NAMES.items() for name in names]


def _kind(name: str) -> str:
    """The kind of a name as the contract writes it: PEP 8 tells constants, classes and functions apart."""
    if name.isupper():
        return "constant"
    if name.endswith("Protocol") or name == "OutboxEvent":
        return "protocol"
    return "class" if name[0].isupper() else "function"


def _is(kind: str, thing: Any) -> bool:
    if kind == "constant":
        return isinstance(thing, str)
    if kind == "function":
        return inspect.isfunction(thing) and not inspect.iscoroutinefunction(thing)
    return inspect.isclass(thing) and getattr(thing, "_is_protocol", False) == (kind == "protocol")


def test_the_list_is_whole() -> None:
    """The list has the 136 names of 42 modules that sixteen services import."""
    assert (len(IMPORTS), len(set(IMPORTS)), len(NAMES)) == (136, 136, 42)


@pytest.mark.parametrize(("module", "name"), IMPORTS)
def test_a_name_is_where_it_is_imported_from(module: str, name: str) -> None:
    """``from MODULE import NAME`` works and gives a constant, a class, a protocol or a plain function, as used."""
    thing = getattr(importlib.import_module(module), name)
    assert _is(_kind(name), thing), f"{module}.{name} is a {type(thing).__name__}, not a {_kind(name)}"


def test_how_many_names_resolve() -> None:
    """The report of the contract says how many of the names resolve: all."""
    found = [name for module, name in IMPORTS if hasattr(importlib.import_module(module), name)]
    REPORT.add(f"names resolved: {len(found)} of {len(IMPORTS)}, in {len(NAMES)} modules")
    assert len(found) == len(IMPORTS)


@pytest.mark.parametrize("module", sorted(NAMES))
def test_protocols_have_no_abstract_member(module: str) -> None:
    """A subclass of a protocol that overrides only some methods can be instantiated, as services' doubles are."""
    protocols = [getattr(importlib.import_module(module), name) for name in NAMES[module] if _kind(name) == "protocol"]
    for protocol in protocols:
        assert not getattr(protocol, "__abstractmethods__", None), f"{protocol.__name__} has abstract members"
        type("Double", (protocol,), {})()
