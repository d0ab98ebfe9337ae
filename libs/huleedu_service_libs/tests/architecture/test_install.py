"""What a plain dependency on the package brings: by its metadata, and by imports with everything else out of reach."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EARLIER: dict[str, set[str]] = {
    "aiohttp": set(),
    "aiokafka": set(),
    "huleedu-common-core": set(),
    "opentelemetry-api": set(),
    "opentelemetry-exporter-otlp": set(),
    "opentelemetry-sdk": set(),
    "prometheus-client": set(),
    "pydantic": set(),
    "quart": set(),
    "redis": {"hiredis"},
    "sqlalchemy": {"asyncio"},
    "structlog": set(),
}
"""What the earlier library declared, with extras; services count on it without declaring it themselves."""

NAMES: dict[str, list[str]] = json.loads((Path(__file__).parents[4] / "tests/contract/names.json").read_text())
OURS = {module: names for module, names in NAMES.items() if "fastapi" not in module}
"""What services import, from where. Those on FastAPI bring it themselves, and always did."""

IMPORT = """
import importlib, json, sys
absent, wanted = json.loads(sys.stdin.read())
class OutOfReach:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not installed here", name=name)
sys.meta_path.insert(0, OutOfReach())
for module, names in wanted.items():
    for name in names:
        getattr(importlib.import_module(module), name)
"""


def _required(name: str, extras: set[str]) -> list[Requirement]:
    lines = [Requirement(line) for line in metadata.requires(name) or []]
    return [
        one
        for one in lines
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    ]


def _brought(name: str, extras: set[str]) -> set[str]:
    """The distributions that installing ``name`` brings, itself included."""
    names, left = {canonicalize_name(name): extras}, [(name, extras)]
    while left:
        for one in _required(*left.pop()):
            key = canonicalize_name(one.name)
            if key not in names or one.extras - names[key]:
                names[key] = names.get(key, set()) | one.extras
                left.append((one.name, one.extras))
    return set(names)


def _others(distributions: set[str]) -> list[str]:
    """The top-level packages here that they do not bring."""
    brought_by = metadata.packages_distributions().items()
    return [top for top, by in brought_by if not distributions & {canonicalize_name(one) for one in by}]


def test_a_plain_dependency_brings_what_the_earlier_library_brought() -> None:
    """Each package that the earlier library declared is declared, with its extras, for everybody."""
    declared = {canonicalize_name(one.name): one.extras for one in _required("huleedu-service-libs", set())}
    assert {name: declared.get(canonicalize_name(name)) for name in EARLIER} == EARLIER


def test_every_name_of_the_services_imports_from_a_plain_installation() -> None:
    """With only that in reach, all that services import is there: no extra is needed to move in."""
    absent = _others(_brought("huleedu-service-libs", set()))
    assert {"fastapi", "typer", "pytest"} <= set(absent), "what only an extra brings is out of reach"
    done = subprocess.run(  # noqa: S603  # our own code
        [sys.executable, "-c", IMPORT],
        input=json.dumps([absent, OURS]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("extra", "package"), [("fastapi", "fastapi"), ("cli", "typer"), ("testing", "pytest")])
def test_what_not_every_service_needs_is_an_extra(extra: str, package: str) -> None:
    """Frameworks that services choose, and tools for tests and terminals, come when they are asked for."""
    assert package not in _brought("huleedu-service-libs", set())
    assert package in _brought("huleedu-service-libs", {extra})
    assert package in _brought("huleedu-service-libs", {"all"})
