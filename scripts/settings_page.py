"""The page docs/reference/settings.md: every setting and every environment variable. Used by ``generate_reference``.

Settings are described by their docstrings, variables that fill none of them by docs/reference/environment.toml.
"""

import tomllib
from collections.abc import Iterator
from functools import cache

import settings
from settings import Described, Setting
from variables import Variable, variables

__all__ = ["PATH", "faults", "page"]

PATH = settings.ROOT / "docs/reference/settings.md"
_VARIABLES = PATH.parent / "environment.toml"
_NOTE = "<!-- Made by `make generate`; change the docstrings or environment.toml. -->"


def page() -> str:
    """The whole page."""
    lines = [
        _NOTE,
        "",
        "# Settings and environment variables",
        "",
        (
            "What can be set, what it is when nobody sets it, and what it means. First the classes of settings, with who reads them; below them "
            "the options of constructors and functions; modules are named without `huleedu_service_libs.`. Names end with `_s` for seconds in what is new here, with `_seconds` in what the services "
            "knew before and in classes of theirs; a `timeout` ends one operation, a `limit` bounds how many or how long in all. "
            "[Environment variables](#environment-variables) stand at the end."
        ),
    ]
    for title, found in settings.sections():
        lines += ["", f"## {title}", *(line for one in found if one.readers for line in _of_class(one))]
        lines += _options([one for one in found if not one.readers])
    return "\n".join([*lines, *_of_variables()]) + "\n"


def faults() -> Iterator[str]:
    """What is not described, or described and not there."""
    yield from settings.faults(settings.described())
    found = {each.name: each for each in variables()}
    told = {name for name, each in found.items() if each.means}
    for name in sorted(set(found) - told - set(_said())):
        yield f"{name} is read by {', '.join(found[name].readers)}: describe it in {_VARIABLES.name}"
    for name in sorted(set(_said()) - (set(found) - told)):
        yield f"{name} is described in {_VARIABLES.name}, but nothing reads it, or a docstring describes it"


def _of_class(one: Described) -> Iterator[str]:
    yield from ("", f"### `{one.name}`", "")
    readers = ", ".join(f"`{each}`" for each in one.readers)
    yield f"{_code(one.first)} Import it from `{one.home}`. Read by {readers}."
    yield from ("", "| setting | default | unit | means |", "|---|---|---|---|")
    for each in one.settings:
        yield f"| `{each.name}` | {_cells(each)} |"


def _options(found: list[Described]) -> Iterator[str]:
    if found:
        yield from ("", "### Options of constructors and functions", "")
        yield from ("| of | option | default | unit | means |", "|---|---|---|---|---|")
    for one in found:
        for each in one.settings:
            yield f"| `{one.home}.{one.name}` | `{each.name}` | {_cells(each)} |"


def _cells(each: Setting) -> str:
    return f"{_escaped(each.default)} | {each.unit} | {_escaped(_code(each.means))}"


def _of_variables() -> Iterator[str]:
    yield from ("", "## Environment variables", "")
    yield (
        "OpenTelemetry's SDK reads further ones, among them `OTEL_TRACES_SAMPLER` and `OTEL_EXPORTER_OTLP_HEADERS`. The numbers of "
        "`RedisClientConfig`, `REDIS_USERNAME`, passwords and `REDIS_TLS_…` are read by `RedisClientConfig.from_environment`."
    )
    yield from ("", "| variable | default | means | read by |", "|---|---|---|---|")
    for each in variables():
        readers = ", ".join(f"`{reader}`" for reader in each.readers)
        means = each.means or str(_said().get(each.name, {}).get("means", ""))
        yield f"| `{each.name}` | {_escaped(_default(each))} | {_escaped(_code(means))} | {readers} |"


def _default(each: Variable) -> str:
    if each.means:
        return each.default
    return _said().get(each.name, {}).get("default") or (f"`{each.default}`" if each.default else "")


@cache
def _said() -> dict[str, dict[str, str]]:
    return tomllib.loads(_VARIABLES.read_text(encoding="utf-8"))


def _code(text: str) -> str:
    """Docstrings mark code with two back-ticks, pages with one."""
    return text.replace("``", "`")


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
