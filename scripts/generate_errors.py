"""Write what follows from the error catalogue: factories, the package's exports, the documentation page.

Run by ``make generate``; ``--check`` writes nothing and fails when a file is not what would be written.
"""

import argparse
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

from huleedu_service_libs.error_handling.catalogue import (
    FAMILIES,
    CodeDescription,
    FactoryDescription,
    Family,
    Parameter,
)

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "libs/huleedu_service_libs/src/huleedu_service_libs/error_handling"
PAGE = ROOT / "docs/reference/errors.md"
NAME = "huleedu_service_libs.error_handling"
NOTE = "Made by ``make generate`` from ``error_handling/catalogue``; change that."

# What the package hands on beside the factories: name -> module.
BY_HAND = {
    "Cause": "context",
    "ErrorCapture": "testing",
    "ErrorContext": "context",
    "ErrorDetailMatcher": "testing",
    "HuleEduError": "huleedu_error",
    "StackCapture": "_stack",
    "assert_raises_huleedu_error": "testing",
    "configure_stack_capture": "_stack",
    "continue_from": "boundary",
    "create_error_detail_with_context": "error_detail_factory",
    "create_test_error_detail": "testing",
    "create_test_huleedu_error": "testing",
    "error_context": "boundary",
    "error_from_response": "remote",
    "format_error_for_logging": "logging_utils",
    "log_failure_once": "logging_utils",
}
FROM_BELOW = {
    "RedactionPolicy": "huleedu_service_libs._redaction",
    "configure_redaction": "huleedu_service_libs._redaction",
}

DESCRIPTIONS: dict[str, CodeDescription] = {each.code: each for family in FAMILIES for each in family.codes}


def outputs() -> dict[Path, str]:
    """Every generated file with its content."""
    files = {PACKAGE / f"{family.module}.py": module_text(family) for family in FAMILIES if family.module}
    files[PACKAGE / "__init__.py"] = package_text()
    files[PAGE] = page_text()
    return files


# --- modules of factories


def module_text(family: Family) -> str:
    """One module of factories."""
    enums = sorted({type(factory.code).__name__ for factory in family.factories})
    body = "\n\n\n".join(factory_text(factory) for factory in family.factories)
    helpers = "given, make_error" if "given(" in body else "make_error"
    names = "".join(f'    "{name}",\n' for name in sorted(each.name for each in family.factories))
    return (
        f'"""Factories of errors. {family.title}.\n\n{NOTE}\n"""\n\n'
        "from typing import Any, NoReturn\nfrom uuid import UUID\n\n"
        f"from common_core.error_enums import {', '.join(enums)}\n"
        f"from {NAME}._raising import {helpers}\n\n"
        f"__all__ = [\n{names}]\n\n\n{body}\n"
    )


def factory_text(factory: FactoryDescription) -> str:
    """One function."""
    required = [each for each in factory.parameters if not each.optional]
    optional = [each for each in factory.parameters if each.optional]
    signature = [
        "service: str",
        "operation: str",
        *(f"{each.name}: {each.type}" for each in required),
        *(["message: str"] if factory.takes_message else []),
        "correlation_id: UUID",
        *(f"{each.name}: {each.type} = None" for each in optional),
        "**additional_context: Any",
    ]
    code = f"{type(factory.code).__name__}.{factory.code.name}"
    lines = "".join(f"    {each},\n" for each in signature)
    return (
        f"def {factory.name}(\n{lines}) -> NoReturn:\n"
        f'    """{docstring(factory)}"""\n'
        f"    raise make_error(\n        {code},\n        {message(factory)},\n        service,\n        operation,\n"
        f"        correlation_id,\n        {details(factory, required, optional)},\n    )"
    )


def docstring(factory: FactoryDescription) -> str:
    """What it raises, and with which HTTP status."""
    known = DESCRIPTIONS[factory.code]
    return f"{factory.about or known.meaning} Raises {factory.code.value}, HTTP {known.status}."


def message(factory: FactoryDescription) -> str:
    """The expression that gives the message."""
    if factory.message is None:
        return "message"
    prefix = "f" if re.search(r"\{\w+\}", factory.message) else ""
    return f'{prefix}"{factory.message}"'


def details(factory: FactoryDescription, required: list[Parameter], optional: list[Parameter]) -> str:
    """The expression that gives the details."""
    always = [*required, *(optional if factory.keeps_none else [])]
    entries = [f'"{each.name}": {each.name}' for each in always]
    entries += [f'"{name}": "{value}"' for name, value in factory.constants]
    if optional and not factory.keeps_none:
        entries.append(f"**given({', '.join(f'{each.name}={each.name}' for each in optional)})")
    return "additional_context" if not entries else f"{{{', '.join([*entries, '**additional_context'])}}}"


# --- the package


def exports() -> dict[str, str]:
    """Every exported name with the full name of its module, in the order of ``__all__``."""
    homes = {name: f"{NAME}.{module}" for name, module in BY_HAND.items()} | FROM_BELOW
    for family in FAMILIES:
        for factory in family.factories:
            if factory.name not in family.not_exported:
                homes[factory.name] = f"{NAME}.{family.module}"
    return dict(sorted(homes.items(), key=lambda one: (not one[0].isupper(), not one[0][0].isupper(), one[0])))


def package_text() -> str:
    """The package's ``__init__``."""
    homes = exports()
    modules = sorted(set(homes.values()))
    imports = "\n".join(
        f"    from {module} import (\n"
        + "".join(f"        {name},\n" for name in homes if homes[name] == module)
        + "    )"
        for module in modules
    )
    names = "".join(f'    "{name}",\n' for name in homes)
    mapping = "".join(f'        "{name}": "{home}",\n' for name, home in homes.items())
    return (
        '"""Errors that carry code, context and correlation id, and what turns them into answers and back.\n\n'
        "Names are fetched from their modules when they are first used, so importing the\n"
        f"package stays light. {NOTE}\n"
        '"""\n\n'
        "from typing import TYPE_CHECKING\n\nfrom huleedu_service_libs._lazy import lazy_exports\n\n"
        f"if TYPE_CHECKING:\n{imports}\n\n__all__ = [\n{names}]\n\n"
        f"__getattr__, __dir__ = lazy_exports(\n    __name__,\n    {{\n{mapping}    }},\n)\n"
    )


# --- the page


def page_text() -> str:
    """The documentation page."""
    return "\n".join(_page_lines()) + "\n"


def _page_lines() -> Iterator[str]:
    yield "# Error catalogue"
    yield ""
    yield from textwrap.wrap(
        "Every code that a service answers with. Made by `make generate` from `error_handling/catalogue`; a test keeps it "
        "current. *Wait* is the `Retry-After` in seconds where the error itself does not say; answers with 429 and 503 "
        "always have one. How errors work: [concepts](../concepts/errors.md).",
        width=120,
    )
    for family in FAMILIES:
        yield from _family_lines(family)


def _family_lines(family: Family) -> Iterator[str]:
    yield ""
    yield f"## {family.title}"
    if family.codes:
        yield ""
        yield "| code | HTTP | wait | meaning | what to do |"
        yield "|---|---|---|---|---|"
        for each in family.codes:
            yield f"| `{each.code.value}` | {each.status} | {each.retry_after or ''} | {each.meaning} | {each.advice} |"
    if family.factories:
        yield ""
        yield f"Raised with, from `error_handling.{family.module}`:"
        yield ""
        yield "| factory | code | parameters | message |"
        yield "|---|---|---|---|"
        for factory in family.factories:
            parameters = ", ".join(f"`{each.name}`" + ("?" if each.optional else "") for each in factory.parameters)
            text = f"`{factory.message}`" if factory.message else "yours"
            yield f"| `{factory.name}` | `{factory.code.value}` | {parameters} | {text} |"


# --- writing


def formatted(path: Path, text: str) -> str:
    """``text`` in the house format."""
    if path.suffix != ".py":
        return text
    ruff = Path(sys.executable).with_name("ruff")
    done = subprocess.run(  # noqa: S603  # our own tool
        [ruff, "format", "--stdin-filename", path, "-"], input=text, capture_output=True, text=True, check=True
    )
    return done.stdout


def stale(render: Callable[[Path, str], str] = formatted) -> dict[Path, str]:
    """The files that are not what would be written, with what would be."""
    wanted = {path: render(path, text) for path, text in outputs().items()}
    return {
        path: text for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text
    }


def main() -> int:
    """Write or check; 1 when something was stale in a check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is stale")
    check = parser.parse_args().check
    changes = stale()
    for path, text in changes.items():
        print(f"{'stale' if check else 'wrote'} {path.relative_to(ROOT)}")
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return 1 if check and changes else 0


if __name__ == "__main__":
    sys.exit(main())
