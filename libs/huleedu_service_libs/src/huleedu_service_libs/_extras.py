"""Says which extra to install when an optional driver or framework is missing."""

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["MissingExtraError", "requires_extra"]


class MissingExtraError(ImportError):
    """An optional dependency is not installed; the text names the extra that brings it."""


@contextmanager
def requires_extra(extra: str, *, module: str) -> Iterator[None]:
    """Wrap the import of a driver or framework.

    Args:
        extra: The extra of ``huleedu-service-libs`` that brings it.
        module: The module of ours that needs it.

    Raises:
        MissingExtraError: In place of the ``ModuleNotFoundError``.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{module} needs {error.name!r}, which is not installed: pip install 'huleedu-service-libs[{extra}]'",
            name=error.name,
        ) from error
