"""What factories of errors are beyond their contract: typed signatures, the caller's stack, ids and contexts that complete them."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest

from common_core.error_enums import ErrorCode
from huleedu_service_libs import error_handling
from huleedu_service_libs.error_handling import (
    ErrorContext,
    HuleEduError,
    StackCapture,
    configure_stack_capture,
    raise_processing_error,
    raise_rate_limit_error,
    raise_resource_not_found,
    raise_validation_error,
)
from tests.contract.factories import ROWS

IDS = [row[1] for row in ROWS]
TYPED = {
    "timeout_seconds": float,
    "limit": int,
    "window_seconds": int,
    "queue_size": int,
    "cycle_steps": list[str] | None,
    "imbalance_details": dict[str, int] | None,
    "callback_correlation_id": UUID | None,
    "correlation_id": UUID,
    "message": str,
    "service": str,
    "operation": str,
}


def _factory(row: list[str]) -> Callable[..., NoReturn]:
    module = importlib.import_module(f"huleedu_service_libs.error_handling.{row[0]}")
    factory: Callable[..., NoReturn] = getattr(module, row[1])
    return factory


def _raised(factory: Callable[..., NoReturn], **arguments: Any) -> HuleEduError:
    with pytest.raises(HuleEduError) as caught:
        factory(**arguments)
    return caught.value


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_signatures_are_those_of_the_contract(row: list[str]) -> None:
    """Names, order, defaults and types; every factory takes any extra keyword and never returns."""
    _, _, required, optional, _, own = row
    names = ["service", "operation", *required.split(), *([] if own else ["message"]), "correlation_id"]
    signature = inspect.signature(_factory(row))
    parameters = signature.parameters
    assert list(parameters) == [*names, *optional.split(), "additional_context"]
    assert [parameters[name].default for name in names] == [inspect.Parameter.empty] * len(names)
    assert [parameters[name].default for name in optional.split()] == [None] * len(optional.split())
    assert parameters["additional_context"].kind is inspect.Parameter.VAR_KEYWORD
    assert signature.return_annotation is NoReturn
    assert {name: each.annotation for name, each in parameters.items() if name in TYPED} == {
        name: TYPED[name] for name in parameters if name in TYPED
    }


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_the_stack_is_the_callers(row: list[str]) -> None:
    """It ends where the factory was called: nobody reads our own frames."""
    arguments = dict.fromkeys([*row[2].split(), *(() if row[5] else ("message",))], "v")
    error = _raised(_factory(row), service="svc", operation="op", correlation_id=uuid4(), **arguments)
    assert "test_the_stack_is_the_callers" in (error.error_detail.stack_trace or "")
    assert "error_handling" not in (error.error_detail.stack_trace or "")


def test_the_package_has_no_other_factory() -> None:
    """Whatever raises in the package is a factory that the contract knows."""
    exported = {name for name in error_handling.__all__ if name.startswith("raise_")}
    assert exported
    assert exported <= {*IDS, "raise_outbox_storage_error"}


def test_ids_may_be_text() -> None:
    """A correlation id given as text becomes a UUID, and a dictionary may bring the specific parameters."""
    context: dict[str, Any] = {"limit": 3, "window_seconds": 60}
    text = "6f1d8f5e-0f0a-4b53-9a3c-0d9c4f1f2a3b"
    error = _raised(raise_rate_limit_error, service="s", operation="o", message="m", correlation_id=text, **context)
    assert error.error_detail.correlation_id == UUID(text)
    assert error.error_detail.details == context


def _typed_for_checkers(context: ErrorContext) -> int:
    # Checked by mypy, not run: without NoReturn a return would be missing here.
    raise_validation_error(field="f", message="m", **context.arguments())


def test_a_context_completes_a_factory() -> None:
    """Ids, coordinates and causes come from an `ErrorContext`; the details say nothing of the context itself."""
    context = ErrorContext.current(service="svc", operation="op", error=KeyError("k"), topic="t", offset=7)
    error = _raised(raise_resource_not_found, resource_type="Essay", resource_id="1", **context.arguments())
    assert error.error_detail.correlation_id == context.correlation_id
    assert (error.service, error.operation) == ("svc", "op")
    assert error.error_detail.details == {
        "topic": "t",
        "offset": 7,
        "causes": ["KeyError"],
        "resource_type": "Essay",
        "resource_id": "1",
    }


def test_stack_capture_can_be_limited_and_turned_off() -> None:
    """A process decides how many frames its errors carry, or none; zero frames is a mistake that is named."""
    arguments: dict[str, Any] = {"service": "s", "operation": "o", "message": "m", "correlation_id": uuid4()}
    try:
        configure_stack_capture(StackCapture(frames=1))
        stack = _raised(raise_processing_error, **arguments).error_detail.stack_trace or ""
        assert stack.count("  File ") == 1
        assert "_raised" in stack
        configure_stack_capture(StackCapture(enabled=False))
        assert _raised(raise_processing_error, **arguments).error_detail.stack_trace is None
    finally:
        configure_stack_capture(StackCapture())
    with pytest.raises(ValueError, match="enabled=False takes none"):
        StackCapture(frames=0)


def test_codes_work_as_text() -> None:
    """A code compares and hashes like its value."""
    error = _raised(raise_processing_error, service="s", operation="o", message="m", correlation_id=uuid4())
    assert error.error_detail.error_code == "PROCESSING_ERROR" == ErrorCode.PROCESSING_ERROR
