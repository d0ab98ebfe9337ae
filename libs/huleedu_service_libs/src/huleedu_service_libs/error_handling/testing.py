"""Helpers for tests of code that raises `HuleEduError`, for services and for this library.

Work with every family of codes. Nothing here needs pytest.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from common_core.error_enums import ErrorCode
from common_core.models.error_models import ErrorCodeType, ErrorDetail
from huleedu_service_libs.error_handling.error_detail_factory import create_error_detail_with_context
from huleedu_service_libs.error_handling.huleedu_error import HuleEduError

__all__ = [
    "ErrorCapture",
    "ErrorDetailMatcher",
    "assert_raises_huleedu_error",
    "create_test_error_detail",
    "create_test_huleedu_error",
]


class ErrorCapture:
    """What `assert_raises_huleedu_error` yields.

    Attributes:
        error: The error, once the block has raised it.
    """

    def __init__(self) -> None:
        self.error: HuleEduError | None = None

    @property
    def raised(self) -> HuleEduError:
        """The error.

        Raises:
            AssertionError: The block has not raised it yet.
        """
        if self.error is None:
            raise AssertionError("No error was captured; read it after the block")
        return self.error


class ErrorDetailMatcher:
    """Compares an `ErrorDetail` in the fields that are given; details as a subset.

    Args:
        error_code: A member of any code enum, or its text.
        message: The whole message.
        service: Where.
        operation: Doing what.
        details: What must be among the details.
        correlation_id: A UUID or its text.
    """

    def __init__(
        self,
        error_code: ErrorCodeType | str | None = None,
        message: str | None = None,
        service: str | None = None,
        operation: str | None = None,
        details: dict[str, Any] | None = None,
        correlation_id: Any = None,
    ) -> None:
        self.error_code = error_code
        self.message = message
        self.service = service
        self.operation = operation
        self.details = details
        self.correlation_id = correlation_id

    def matches(self, detail: ErrorDetail) -> bool:
        """Whether every given field is as it should be."""
        return not self.mismatches(detail)

    def mismatches(self, detail: ErrorDetail) -> list[str]:
        """What is not as it should be, one line each."""
        faults = [
            f"{name} is {found!r}, not {wanted!r}" for name, wanted, found in self._pairs(detail) if wanted != found
        ]
        for key, wanted in (self.details or {}).items():
            if key not in detail.details:
                faults.append(f"details have no {key!r}; they are {detail.details!r}")
            elif detail.details[key] != wanted:
                faults.append(f"details[{key!r}] is {detail.details[key]!r}, not {wanted!r}")
        return faults

    def _pairs(self, detail: ErrorDetail) -> Iterator[tuple[str, Any, Any]]:
        if self.error_code is not None:
            yield "error_code", str(getattr(self.error_code, "value", self.error_code)), detail.error_code.value
        if self.correlation_id is not None:
            yield "correlation_id", str(self.correlation_id), str(detail.correlation_id)
        for name in ("message", "service", "operation"):
            wanted = getattr(self, name)
            if wanted is not None:
                yield name, wanted, getattr(detail, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ErrorDetail) and self.matches(other)

    __hash__ = None  # type: ignore[assignment]  # equal to many different details

    def __repr__(self) -> str:
        given = {name: value for name, value in vars(self).items() if value is not None}
        return f"ErrorDetailMatcher({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def assert_raises_huleedu_error(
    error_code: ErrorCodeType | str,
    service: str | None = None,
    operation: str | None = None,
    message_contains: str | None = None,
    details_contain: dict[str, Any] | None = None,
) -> AbstractContextManager[ErrorCapture, bool]:
    """Assert that the block raises a `HuleEduError` like this.

    Args:
        error_code: A member of any code enum, or its text.
        service: Where.
        operation: Doing what.
        message_contains: A part of the message.
        details_contain: What must be among the details.

    Returns:
        A context manager. Yields what holds the error as ``.error`` after the block, and raises an
        `AssertionError` when nothing, another type or another error was raised.
    """
    matcher = ErrorDetailMatcher(error_code, None, service, operation, details_contain)
    return _Expectation(matcher, message_contains)


class _Expectation(AbstractContextManager[ErrorCapture, bool]):
    # A class, because type checkers take a block under `contextlib.contextmanager` for one that never swallows.

    def __init__(self, matcher: ErrorDetailMatcher, message_contains: str | None) -> None:
        self._matcher = matcher
        self._message_contains = message_contains
        self._capture = ErrorCapture()

    def __enter__(self) -> ErrorCapture:
        return self._capture

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        if error is None:
            code = getattr(self._matcher.error_code, "value", self._matcher.error_code)
            raise AssertionError(f"Expected HuleEduError with code {code}, but nothing was raised")
        if not isinstance(error, Exception):
            return False
        if not isinstance(error, HuleEduError):
            kind = type(error).__name__
            raise AssertionError(f"Expected HuleEduError, but {kind} was raised: {error}") from error  # noqa: TRY004  # a failed test
        faults = self._faults(error.error_detail)
        if faults:
            raise AssertionError("Another HuleEduError was raised: " + "; ".join(faults)) from error
        self._capture.error = error
        return True

    def _faults(self, detail: ErrorDetail) -> list[str]:
        faults = self._matcher.mismatches(detail)
        if self._message_contains is not None and self._message_contains not in detail.message:
            faults.append(f"message {detail.message!r} does not contain {self._message_contains!r}")
        return faults


def create_test_error_detail(
    error_code: ErrorCodeType = ErrorCode.UNKNOWN_ERROR,
    message: str = "Test error",
    service: str = "test_service",
    operation: str = "test_operation",
    **kwargs: Any,
) -> ErrorDetail:
    """An `ErrorDetail` without a stack.

    Args:
        error_code: A member of any code enum.
        message: For people.
        service: Where.
        operation: Doing what.
        **kwargs: ``correlation_id`` (a UUID or its text), ``details``, ``capture_stack``.
    """
    return create_error_detail_with_context(
        error_code, message, service, operation, **{"capture_stack": False, **kwargs}
    )


def create_test_huleedu_error(
    error_code: ErrorCodeType = ErrorCode.UNKNOWN_ERROR,
    message: str = "Test error",
    service: str = "test_service",
    operation: str = "test_operation",
    **kwargs: Any,
) -> HuleEduError:
    """A `HuleEduError` around the detail that `create_test_error_detail` makes of the same arguments."""
    return HuleEduError(create_test_error_detail(error_code, message, service, operation, **kwargs))
