"""What each module loads of others when it is imported: read from the source, so that nothing has to be imported or timed."""

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import huleedu_service_libs

ROOT = "huleedu_service_libs"
FOLDER = Path(huleedu_service_libs.__file__).parent
FILES = {
    ".".join([ROOT, *(part for part in path.relative_to(FOLDER).with_suffix("").parts if part != "__init__")]): path
    for path in sorted(FOLDER.rglob("*.py"))
}
# Small, or used by everything: these may be loaded anywhere.
EVERYWHERE = {
    "common_core", "opentelemetry.context", "opentelemetry.environment_variables",
    "opentelemetry.propagate", "opentelemetry.trace", "orjson",
    "prometheus_client", "pydantic", "pydantic_core", "structlog",
}  # fmt: skip
REDIS = ("_redis_", "redis_", "queue_redis_client", "di.redis", "health.probes.redis", "testing.fakes")
# Everything else costs tens of milliseconds or is an extra, and has the modules that cannot do without it.
ONLY_IN = {
    "aiohttp": ("http_client._transport", "http_client.base_client", "http_client.di_providers"),
    "aiokafka": ("kafka.", "kafka_client", "di.kafka", "health.probes.kafka", "cli.dead_letters"),
    "dishka": ("di.", "http_client.di_providers", "outbox.di", "quart_app"),
    "fakeredis": ("testing.fakes",),
    "fastapi": ("middleware.frameworks.fastapi_",),
    "hiredis": REDIS,
    "jinja2": ("console.app", "console.rendering"),
    "opentelemetry.sdk": ("observability._sdk", "observability._otlp"),
    "pydantic_settings": ("config",),
    "pytest": ("testing.pytest_plugin",),
    "quart": ("metrics_middleware", "middleware.frameworks.quart_", "quart_app"),
    "redis": REDIS,
    "rich": ("cli.",),
    "sqlalchemy": ("cli.outbox", "console.outbox", "database.", "health.probes.outbox", "inbox.", "outbox.", "quart_app"),
    "starlette": ("middleware.frameworks.fastapi_",),
    "tenacity": ("http_client.base_client", "http_client.di_providers", "resilience.retry"),
    "typer": ("cli.",),
    "werkzeug": ("metrics_middleware", "middleware.frameworks.quart_"),
    "yarl": ("http_client._transport", "http_client.base_client", "http_client.di_providers"),
}  # fmt: skip


def _statements(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that run when the module does: not those in functions, and not those for type checkers."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If):
            yield from _statements(
                node.orelse if "TYPE_CHECKING" in ast.unparse(node.test) else node.body + node.orelse
            )
        elif isinstance(node, ast.Try):
            yield from _statements(node.body + node.orelse + node.finalbody)
            yield from _statements([each for handler in node.handlers for each in handler.body])
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from _statements(node.body)


@cache
def _targets(module: str) -> frozenset[str]:
    found = set()
    for node in _statements(ast.parse(FILES[module].read_text(encoding="utf-8")).body):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            found |= {alias.name for alias in node.names}
    return frozenset(found)


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [known for end in range(1, len(parts) + 1) if (known := ".".join(parts[:end])) in FILES]


def _loads(module: str) -> dict[str, str]:
    """What of others is loaded by importing ``module``, and which module of ours does it."""
    seen: set[str] = set()
    found: dict[str, str] = {}
    waiting = _with_parents(module)
    while waiting:
        each = waiting.pop()
        if each in seen:
            continue
        seen.add(each)
        for target in _targets(each):
            if target.partition(".")[0] == ROOT:
                waiting += _with_parents(target)
            elif target.partition(".")[0] not in sys.stdlib_module_names:
                parts = target.split(".")
                found.setdefault(".".join(parts[: 2 if parts[0] == "opentelemetry" else 1]), each)
    return found


def test_the_root_loads_nothing_of_others() -> None:
    """Importing the package costs the package alone."""
    assert _loads(ROOT) == {}


@pytest.mark.parametrize("module", [name for name in FILES if name != ROOT])
def test_a_module_loads_only_what_it_cannot_do_without(module: str) -> None:
    """A driver, a framework or an SDK is loaded by the modules that wrap it; whatever is new needs a decision here."""
    name = module.removeprefix(f"{ROOT}.")
    wrong = {
        other: by
        for other, by in _loads(module).items()
        if other not in EVERYWHERE and not name.startswith(ONLY_IN.get(other, ()))
    }
    assert wrong == {}, f"importing {module} loads what it should not; by module of ours"


def test_no_permission_is_left_over() -> None:
    """What is allowed is needed: a package that nobody loads any more leaves the list."""
    loaded = {other for module in FILES for other in _loads(module)}
    assert {*EVERYWHERE, *ONLY_IN} - loaded == set()
