"""What the public docstrings leave out: errors that a caller may get, and units of what a caller gives. ``tests/test_house.py`` holds both.

A function's errors are those that it raises itself or through functions and methods of its own module, those that the docstrings of functions
from other modules tell of, and those of the checks of settings, as far as nothing between catches them. A docstring tells of an error by its name, or that
of its base, or by naming whose errors they are (``Raises like `other```); what the class says holds for its methods. Generated modules, ports and what
is private are left out, and so are the command line's commands, whose docstrings are their help.
"""

import ast
import builtins
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from house import House, Module

__all__ = ["Documented", "bases_of", "read_documented"]

_DRIVERS = {
    "ConnectionError": ["RedisError"],
    "TimeoutError": ["RedisError"],
    "WatchError": ["RedisError"],
    "DataError": ["RedisError"],
}
"""Bases of the drivers' errors."""

_Function = ast.FunctionDef | ast.AsyncFunctionDef
_BY_CHECKS = {"positive", "not_negative", "at_least_one", "check_store_down_policy"}
"""What settings are checked with; all raise ValueError."""

_ANY = "*"
_TRANSLATES = re.compile(r"error|suppress", re.IGNORECASE)
"""What a context manager is called that makes other errors of those in it, or none."""

_NOT_TOLD = {
    "AssertionError": "the program is wrong",
    "AttributeError": "Python asks for it by this name",
    "Exception": "whatever a body raises",
    "MissingExtraError": "says what to install, wherever a package is missing",
    "ModuleNotFoundError": "as before",
    "NotImplementedError": "the program is wrong",
    "SystemExit": "ends the program",
    "TypeError": "the program is wrong",
}
"""Errors of which no docstring has to tell, and why."""

_REFERS = re.compile(r"\b(?:[Rr]aises|[Aa]s|[Ll]ike) (?:(?:of|for|by|like|what|with) )?`\w[\w.]*`")
_REFERS_AT_ONCE = re.compile(r"(?:[Ss]ee (?:`|the driver)|[Aa]nother name of `)")
"""Whose errors they are is said by naming him: anywhere after "raises", "as" or "like", in the first line after "see", too."""

_TIMES = re.compile(r"(?:^|_)(?:timeout|interval|delay|wait|pause|ttl|age|retention|deadline|patience)$")
_UNIT = re.compile(r"\b(?:[Mm]illi)?[Ss]econds?\b|\d s\b|\b[Mm]inutes?\b|\btimedelta\b")
_NUMBERS = re.compile(r"\b(?:int|float)\b")


@dataclass(frozen=True, kw_only=True)
class Documented:
    """A public function, method or class.

    Attributes:
        place: File and name.
        own: Its docstring.
        docstring: That, and that of its class.
        errors: Names of what it may raise.
        parameters: Names and annotations.
    """

    place: str
    own: str
    docstring: str
    errors: frozenset[str]
    parameters: tuple[tuple[str, str], ...]

    def untold(self, bases: dict[str, set[str]]) -> list[str]:
        """Errors of which the docstring says nothing, not even by a base."""
        words = set(re.findall(r"\w+", self.docstring))
        if _REFERS.search(self.own) or _REFERS_AT_ONCE.search(self.own.partition("\n")[0]):
            return []
        return sorted(name for name in self.errors if not words & ({name} | bases.get(name, set())))

    def without_unit(self) -> list[str]:
        """Times among the parameters whose unit is nowhere said."""
        return [
            name
            for name, kind in self.parameters
            if _TIMES.search(name) and _NUMBERS.search(kind) and not self._says_unit(name)
        ]

    def _says_unit(self, name: str) -> bool:
        said = re.search(rf"^ +{name}: (.*(?:\n {{8,}}.*)*)", self.docstring, re.MULTILINE)
        return bool(_UNIT.search(said[1] if said else self.docstring))


def read_documented(house: House) -> list[Documented]:
    """Everything public of everything that people wrote."""
    told = dict(one for module in house.modules for one in _told(module))
    modules = (each for each in house.modules if not each.is_generated and "cli" not in each.path.parts)
    bases = bases_of(house)
    return [one for module in modules for one in _Reader(module, told, bases).read()]


def _told(module: Module) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    """What its functions' docstrings say that they raise."""
    dotted = ".".join(module.path.with_suffix("").parts[3:]).removesuffix(".__init__")
    for node in (each for each in module.tree.body if isinstance(each, _Function)):
        section = (ast.get_docstring(node) or "").partition("Raises:\n")[2].partition("\n\n")[0]
        yield (dotted, node.name), tuple(re.findall(r"^    (\w+):", section, re.MULTILINE))


def bases_of(house: House) -> dict[str, set[str]]:
    """For each class of the house the names of all its bases."""
    direct = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for module in house.modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }
    ours = {name: set(_all_bases(name, direct)) for name in {*direct, *_DRIVERS}}
    return {name: bases - {"Exception", "BaseException", "object"} for name, bases in (ours | _of_python()).items()}


def _of_python() -> dict[str, set[str]]:
    errors = {
        name: kind
        for name, kind in vars(builtins).items()
        if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    return {
        name: {base.__name__ for base in kind.__mro__} | set(_DRIVERS.get(name, ())) for name, kind in errors.items()
    }


def _all_bases(name: str, direct: dict[str, set[str]]) -> Iterator[str]:
    for base in {*direct.get(name, ()), *_DRIVERS.get(name, ())}:
        yield base
        yield from _all_bases(base, direct)


@dataclass(frozen=True)
class _Reader:
    """Reads one module.

    Attributes:
        module: The file.
        told: For functions by module and name what their docstrings say that they raise.
        bases: Of errors.
    """

    module: Module
    told: Mapping[tuple[str, str], tuple[str, ...]]
    bases: Mapping[str, set[str]]

    def read(self) -> Iterator[Documented]:
        for node in self.module.tree.body:
            if isinstance(node, _Function) and not node.name.startswith("_"):
                yield self._of(node, node.name, ast.get_docstring(node) or "", None)
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not _is_port(node):
                yield from self._of_class(node)

    def _of_class(self, owner: ast.ClassDef) -> Iterator[Documented]:
        about = ast.get_docstring(owner) or ""
        for node in (each for each in owner.body if isinstance(each, _Function)):
            if node.name in {"__init__", "__post_init__"}:
                yield self._of(node, owner.name, about, owner)
            elif not node.name.startswith("_"):
                yield self._of(node, f"{owner.name}.{node.name}", f"{about}\n{ast.get_docstring(node) or ''}", owner)

    def _of(self, node: _Function, name: str, docstring: str, owner: ast.ClassDef | None) -> Documented:
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        return Documented(
            place=f"{self.module.path}:{node.lineno} {name}",
            own=ast.get_docstring(node) or "",
            docstring=docstring,
            errors=frozenset(self._raised(node, owner, frozenset())),
            parameters=tuple((each.arg, ast.unparse(each.annotation)) for each in every if each.annotation),
        )

    @cached_property
    def _imported(self) -> dict[str, tuple[str, str]]:
        """Where names come from."""
        imports = (node for node in ast.walk(self.module.tree) if isinstance(node, ast.ImportFrom))
        return {each.asname or each.name: (node.module or "", each.name) for node in imports for each in node.names}

    @cached_property
    def _functions(self) -> dict[tuple[str, str], _Function]:
        """By class and name; functions of the module under an empty class."""
        found = {("", node.name): node for node in self.module.tree.body if isinstance(node, _Function)}
        for owner in (node for node in self.module.tree.body if isinstance(node, ast.ClassDef)):
            found |= {(owner.name, node.name): node for node in owner.body if isinstance(node, _Function)}
        return found

    def _raised(self, node: _Function, owner: ast.ClassDef | None, seen: frozenset[str]) -> Iterator[str]:
        for each, caught in _outside_of_handlers(node.body, frozenset()):
            names: Iterable[str] = ()
            if isinstance(each, ast.Raise):
                names = self._named(each)
            elif isinstance(each, ast.Call):
                names = self._of_call(each, node, owner, seen)
            yield from (
                name
                for name in names
                if not ({name, _ANY} | self.bases.get(name, set())) & caught and name not in _NOT_TOLD
            )

    def _of_call(
        self, call: ast.Call, caller: _Function, owner: ast.ClassDef | None, seen: frozenset[str]
    ) -> Iterator[str]:
        called = ast.unparse(call.func)
        if called in _BY_CHECKS:
            yield "ValueError"
            return
        is_own = owner is not None and called.startswith("self.")
        if is_own and caller.name == "__init__" and not called.startswith("self._"):
            return  # what a public method raises is told by it, and a constructor knows what it gives
        found = self._functions.get((owner.name if owner and is_own else "", called.removeprefix("self.")))
        if found is not None and called not in seen:
            yield from self._raised(found, owner, seen | {called})
        elif called in self._imported:
            yield from set(self.told.get(self._imported[called], ())) - {
                "RuntimeError"
            }  # no loop is running: here one is

    def _named(self, node: ast.Raise) -> Iterator[str]:
        """The class that is raised, by its first name, where it is written there."""
        thing = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        name = ast.unparse(thing).rpartition(".")[2] if thing is not None else ""
        name = self._imported.get(name, ("", name))[1]
        if name[:1].isupper() and (name.endswith("Error") or hasattr(builtins, name)):
            yield name


def _outside_of_handlers(body: Iterable[ast.AST], caught: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """Every node that runs with the function, with the errors that something around it catches."""
    for node in body:
        if isinstance(node, _Function | ast.ClassDef | ast.Lambda):
            continue
        inside = caught
        if isinstance(node, ast.Try):
            inside |= {name for handler in node.handlers for name in _caught(handler)}
            yield from _outside_of_handlers(node.body, inside)
            rest = [*node.orelse, *node.finalbody, *(each for handler in node.handlers for each in handler.body)]
            yield from _outside_of_handlers(rest, caught)
            continue
        if isinstance(node, ast.With | ast.AsyncWith) and any(
            _TRANSLATES.search(ast.unparse(one)) for one in node.items
        ):
            inside |= {_ANY}
        yield node, inside
        yield from _outside_of_handlers(ast.iter_child_nodes(node), inside)


def _caught(handler: ast.ExceptHandler) -> Iterator[str]:
    """Names; a tuple that has a name of its own is taken for one that catches all."""
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type] if handler.type else []
    for kind in kinds:
        name = ast.unparse(kind).rpartition(".")[2]
        yield _ANY if name.isupper() or name in {"Exception", "BaseException"} else name


def _is_port(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).partition("[")[0] == "Protocol" for base in node.bases)
