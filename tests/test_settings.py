"""The page of settings misses nothing: what is not described is told, what the environment is asked for is found."""

import ast
import importlib.util
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and each other look them up
    spec.loader.exec_module(module)
    return module


settings = _load("settings")
variables = _load("variables")


@dataclass(frozen=True, kw_only=True)
class InnerConfig:
    """What is inside.

    Attributes:
        size_bytes: How large.
    """

    size_bytes: int = 2 * 1024 * 1024


@dataclass(frozen=True, kw_only=True)
class SomeConfig:
    """How it is set up.

    Attributes:
        pause_s: Between two looks,
            over several lines.
        retry_delay: How long.
        other_delay: Seconds, too.
        inner: What is inside.
        mode: How.
    """

    pause_s: float = 86_400.0
    retry_delay: float = 1.0
    other_delay: float = 0.5
    inner: InnerConfig = field(default_factory=InnerConfig)
    mode: Literal["slow", "fast"] = "slow"
    forgotten: int | None = None
    name: str


def _table(kind: type) -> list[tuple[str, str, str, str]]:
    (one,) = settings.describe(kind, "resilience")
    return [(each.name, each.default, each.unit, each.means) for each in one.settings]


def test_a_class_tells_its_settings() -> None:
    """Name, default and unit are read from the code, the meaning from the docstring."""
    assert _table(SomeConfig) == [
        ("pause_s", "86 400 (1 d)", "s", "Between two looks, over several lines."),
        ("retry_delay", "1", "", "How long."),
        ("other_delay", "0.5", "s", "Seconds, too."),
        ("inner", "`InnerConfig()`", "", "What is inside."),
        ("mode", "`slow`", "", "How."),
        ("forgotten", "`None`", "", ""),
        ("name", "required", "", ""),
    ]
    assert _table(InnerConfig) == [("size_bytes", "2 MiB", "bytes", "How large.")]


def test_what_is_not_described_is_told() -> None:
    """A setting without description is a fault, and so is a time without unit, in the docstring or in its name."""
    assert list(settings.faults(settings.describe(SomeConfig, "resilience"))) == [
        "resilience.SomeConfig: the docstring must say the unit of 'retry_delay'",
        "resilience.SomeConfig: 'other_delay' is in seconds: let its name end with _s",
        "resilience.SomeConfig: its docstring says nothing about 'forgotten'",
        "resilience.SomeConfig: its docstring says nothing about 'name'",
    ]


def test_every_way_to_read_the_environment_is_seen() -> None:
    """Asked for directly, by a helper, with a default, as an option or as an alias: each name is found."""
    asked = variables.asked_in(
        ast.parse(
            """
__all__ = ["REDIS_EXPORTED"]
plain = os.environ.get("PLAIN")
with_default = environ.get("WITH_DEFAULT", "one")
either = os.environ.get("EITHER") or "two"
needed = os.environ["NEEDED"]
helped = _secret(environ, "REDIS_HELPED")
option = Option(envvar="HULEEDU_OPTION")
alias = Field(validation_alias="SERVICE_ALIAS")
SOME_CONSTANT = "no variable"
"""
        )
    )
    found: dict[str, str] = {}
    for name, default in asked:
        found[name] = found.get(name) or default
    assert found == {
        "PLAIN": "",
        "WITH_DEFAULT": "one",
        "EITHER": "two",
        "NEEDED": "",
        "REDIS_HELPED": "",
        "HULEEDU_OPTION": "",
        "SERVICE_ALIAS": "",
    }


def test_a_part_that_nobody_placed_is_told() -> None:
    """Settings of a new part of the library need a title to stand under; making the page says so."""
    assert settings.place_of("kafka.consumer.config") == "kafka.consumer"
    with pytest.raises(LookupError, match="settings of unheard_of: say in"):
        settings.place_of("unheard_of")
