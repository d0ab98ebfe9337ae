"""Section 8.4: every factory of errors, with its parameters, its code, its message and what it puts into the details."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any, NoReturn
from uuid import UUID, uuid4

import pytest
from opentelemetry.sdk.trace import TracerProvider

from common_core.error_enums import ErrorCode
from huleedu_service_libs import error_handling
from huleedu_service_libs.error_handling import (
    HuleEduError,
    create_error_detail_with_context,
    format_error_for_logging,
    raise_rate_limit_error,
    raise_resource_not_found,
)
from tests.contract.factories import ROWS
from tests.contract.tables import claimed

EVERY_ROW = pytest.mark.parametrize(
    ("module", "name", "specific", "optional", "code", "own"),
    [claimed(f"8.4-{row[1].replace('_', '-')}", *row) for row in ROWS],
)
KEEP_NONE = ("batch_conductor_factories", "cj_assessment_factories")
NOT_HANDED_ON = ("batch_conductor_factories", "llm_provider_factories")
ALONE = ("raise_invalid_token_error", "raise_missing_token_error")
WHERE: dict[str, Any] = {"service": "svc", "operation": "op", "correlation_id": UUID(int=7)}


def factory(module: str, name: str) -> Callable[..., NoReturn]:
    """The factory of that module."""
    found: Callable[..., NoReturn] = getattr(
        importlib.import_module(f"huleedu_service_libs.error_handling.{module}"), name
    )
    return found


def raised(call: Callable[..., NoReturn], **arguments: Any) -> HuleEduError:
    """The error that a call raises."""
    with pytest.raises(HuleEduError) as caught:
        call(**arguments)
    return caught.value


@pytest.mark.contract("8.4-shape")
@EVERY_ROW
def test_parameters(module: str, name: str, specific: str, optional: str, code: str, own: str) -> None:
    """Names and their order, `None` for what is optional, and room for any further keyword."""
    found = inspect.signature(factory(module, name)).parameters
    names = [one for one in found if one != "message"]
    last = names[-1]
    assert names == ["service", "operation", *specific.split(), "correlation_id", *optional.split(), last]
    assert found[last].kind is inspect.Parameter.VAR_KEYWORD
    assert ("message" in found) == (not own)
    without = {one for one, parameter in found.items() if parameter.default is inspect.Parameter.empty}
    assert without == set(found) - set(optional.split())
    assert all(found[one].default is None for one in optional.split())


@pytest.mark.contract("8.4-extra-keywords", "8.4-value-only-if-given", "8.4-optional-none", "8.4-stack")
@EVERY_ROW
def test_what_it_raises(module: str, name: str, specific: str, optional: str, code: str, own: str) -> None:
    """Code, message, and details of what was given and of every further keyword, verbatim; with the stack."""
    given: dict[str, Any] = {one: f"v-{one}" for one in specific.split()}
    extra: dict[str, Any] = {"details": {"a": [1]}, "error_type": "E", "more": None}
    if own:
        extra["message"] = "theirs"
    if "status_code" not in optional:
        extra["status_code"] = 418
    call, message = factory(module, name), own or "mine"
    for one in specific.split():
        message = message.replace(f"<{one}>", f"v-{one}")
    error = raised(call, **{"message": "mine", **WHERE, **given, **extra})
    found = error.error_detail
    assert (error.error_code, found.message, found.correlation_id) == (code, message, UUID(int=7))
    assert (found.service, found.operation) == ("svc", "op")
    absent = dict.fromkeys(optional.split()) if module in KEEP_NONE else {}
    assert found.details == {**given, **absent, **extra}
    assert "test_what_it_raises" in (found.stack_trace or "")
    filled: dict[str, Any] = {one: f"o-{one}" for one in optional.split()}
    found = raised(call, **{"message": "mine", **WHERE, **given, **extra, **filled}).error_detail
    assert found.details == {**given, **filled, **extra}


@pytest.mark.contract("8.4-raise-outbox-storage-error")
def test_the_one_of_the_outbox() -> None:
    """A template around the caller's message, and one constant among the details."""
    given = {"aggregate_id": "a", "aggregate_type": "essay", "event_type": "e"}
    names = list(inspect.signature(error_handling.raise_outbox_storage_error).parameters)
    assert [one for one in names[:-1] if one != "message"] == ["service", "operation", *given, "correlation_id"]
    error = raised(error_handling.raise_outbox_storage_error, message="disk full", **WHERE, **given)
    assert str(error) == "[KAFKA_PUBLISH_ERROR] Outbox storage failed: disk full"
    assert error.error_detail.details == {**given, "outbox_operation": "store"}


@pytest.mark.contract("8.4-context-dictionary")
def test_parameters_out_of_a_dictionary() -> None:
    """As one service calls it: the limits are in the context."""
    context: dict[str, Any] = {"limit": 3, "window_seconds": 60, "provider": "p"}
    assert raised(raise_rate_limit_error, message="m", **WHERE, **context).error_detail.details == context


@pytest.mark.contract("8.4-re-exports")
def test_what_the_package_hands_on() -> None:
    """The same functions, but for five and three and two."""
    for module, name, *_ in ROWS:
        if name in ALONE or module in NOT_HANDED_ON:
            assert not hasattr(error_handling, name)
        else:
            assert getattr(error_handling, name) is factory(module, name)


@pytest.mark.contract("8.4-extra-keywords")
def test_a_message_beside_the_own_one() -> None:
    """It lands in the details and changes nothing else."""
    error = raised(raise_resource_not_found, resource_type="Essay", resource_id="1", message="m", **WHERE)
    assert str(error) == "[RESOURCE_NOT_FOUND] Essay with ID '1' not found"
    assert error.error_detail.details["message"] == "m"


@pytest.mark.contract("8.4-format-for-logging")
def test_for_the_log() -> None:
    """Flat keys with dots; ids of the trace only where there is one; what is no scalar is text."""

    def make() -> dict[str, Any]:
        return format_error_for_logging(
            create_error_detail_with_context(ErrorCode.TIMEOUT, "late", "svc", "op", own, {"a": 1, "b": [2], "c": True})
        )

    own = uuid4()
    found = make()
    timestamp = found.pop("error.timestamp")
    assert "T" in timestamp
    assert timestamp.endswith("+00:00")
    assert found == {
        "error.code": "TIMEOUT",
        "error.message": "late",
        "error.service": "svc",
        "error.operation": "op",
        "correlation_id": str(own),
        "error.details.a": 1,
        "error.details.b": "[2]",
        "error.details.c": True,
    }
    with TracerProvider().get_tracer("test").start_as_current_span("work") as span:
        inside = make()
    context = span.get_span_context()
    assert (inside["trace.id"], inside["span.id"]) == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
