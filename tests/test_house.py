"""The house keeps to its norms, so that it stays one that people like to read."""

import importlib.util
import re
import statistics
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts/house.py"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


house = _load(SCRIPT)
docstrings = _load(SCRIPT.with_name("docstrings.py"))


@pytest.fixture(scope="module")
def ours() -> Any:
    """The house as it stands."""
    return house.read()


def test_functions_are_short(ours: Any) -> None:
    """Half of all functions fit into ten lines of code."""
    assert statistics.median(ours.function_lengths()) <= house.MEDIAN_FUNCTION


def test_modules_are_short(ours: Any) -> None:
    """Nine of ten modules fit into 250 lines, and none that people wrote is much longer."""
    assert ours.share_of_modules() >= house.SHARE_OF_MODULES
    assert [str(one.path) for one in house.longer_than(house.LONGEST_MODULE, ours.modules)] == []


def test_files_of_tests_are_short(ours: Any) -> None:
    """No file of tests, or of what they share, has more than 400 lines: it has one subject."""
    assert len(ours.tests) > 300
    assert [str(one.path) for one in house.longer_than(house.LONGEST_TEST_FILE, ours.tests)] == []


def test_nothing_is_exported_that_nobody_needs(ours: Any) -> None:
    """Every exported name is said by another file, or by a signature that callers see."""
    assert list(ours.needless()) == []


def test_nothing_is_defined_that_nobody_uses(ours: Any) -> None:
    """Every function, method, class and constant is named somewhere else, or handed to somebody by a decorator."""
    assert list(ours.unused()) == []


def test_docstrings_tell_of_errors(ours: Any) -> None:
    """What a public function may raise stands in its docstring, or in that of its class."""
    bases = docstrings.bases_of(ours)
    untold = {one.place: one.untold(bases) for one in docstrings.read_documented(ours)}
    assert {place: names for place, names in untold.items() if names} == {}


def test_docstrings_tell_units(ours: Any) -> None:
    """A time that a caller gives has its unit in its name or in the docstring."""
    found = {one.place: one.without_unit() for one in docstrings.read_documented(ours)}
    assert {place: names for place, names in found.items() if names} == {}


def test_every_room_is_named_in_the_architecture(ours: Any) -> None:
    """Who reads ARCHITECTURE.md has heard of every module and package that stands at the top of the library."""
    told = (SCRIPT.parent.parent / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tops = {one.path.parts[4].removesuffix(".py") for one in ours.modules if "huleedu_service_libs" in one.path.parts}
    assert sorted(top for top in tops if top != "__init__" and not re.search(rf"\b{top}\b", told)) == []


def test_what_it_finds(tmp_path: Path) -> None:
    """A needless export and an unused method are found, one in a signature or used elsewhere is not; docstrings are no code."""
    package = tmp_path / "libs/some/src/some"
    package.mkdir(parents=True)
    (package / "made.py").write_text(
        '''"""Doc."""

__all__ = ["Lonely", "Needed", "Shown", "make"]


class Lonely:
    def never(self) -> None:
        """Long
        docstring."""
        return None  # said once


class Shown: ...


class Needed: ...


def make() -> Shown:
    return Shown()
'''
    )
    (tmp_path / "page.md").write_text("Call `make`, give it `Needed`.")
    (tmp_path / "README.md").write_text("Call `make`, give it `Needed`.")
    found = house.read(tmp_path)
    assert list(found.needless()) == ["libs/some/src/some/made.py: Lonely"]
    assert list(found.unused()) == ["libs/some/src/some/made.py: never"]
    assert sorted(found.modules[0].functions()) == [("make", 2), ("never", 2)]


def test_what_a_docstring_leaves_out(tmp_path: Path) -> None:
    """Found are an error of its own, one through a helper and one of a check; not one that is caught, named by its base, or of another function's."""
    package = tmp_path / "libs/some/src/some"
    package.mkdir(parents=True)
    (package / "told.py").write_text(
        '''"""Doc."""


class OwnError(Exception):
    """Doc."""


class NarrowError(OwnError):
    """Doc."""


def open_(delay: float, wait: float, rest_s: float) -> None:
    """Doc.

    Args:
        delay: Seconds.
        wait: How long.
    """
    _help()
    raise NarrowError


def told() -> None:
    """Raises `OwnError` or a narrower one."""
    raise NarrowError


def passes_on() -> None:
    """Raises as `told` does."""
    raise OwnError


def catches() -> None:
    """Doc."""
    try:
        told()
        _help()
    except (LookupError, OwnError):
        pass


def _help() -> None:
    raise LookupError


class Config:
    """Doc."""

    def __post_init__(self) -> None:
        positive(size=self.size)
'''
    )
    found = house.read(tmp_path)
    read = docstrings.read_documented(found)
    bases = docstrings.bases_of(found)
    untold = {one.place.rpartition(" ")[2]: one.untold(bases) for one in read}
    assert {name: errors for name, errors in untold.items() if errors} == {
        "open_": ["LookupError", "NarrowError"],
        "Config": ["ValueError"],
    }
    assert [one.without_unit() for one in read if one.parameters] == [["wait"]]
