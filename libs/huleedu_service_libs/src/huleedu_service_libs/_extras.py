"""Says which extra to install when an optional driver or framework is missing."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

__all__ = ["MissingExtraError", "check_extra", "requires_extra"]


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


def check_extra(extra: str, *, package: str, module: str) -> None:
    """Make sure that ``package`` is installed, without loading it.

    Raises:
        MissingExtraError: It is not.
    """
    with requires_extra(extra, module=module):
        if find_spec(package) is None:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
