"""The helpers that services use in their tests."""

from typing import Any
from uuid import uuid4

import pytest

from common_core.error_enums import ErrorCode, IdentityErrorCode, LLMErrorCode
from huleedu_service_libs.error_handling import (
    ErrorDetailMatcher,
    assert_raises_huleedu_error,
    create_test_error_detail,
    create_test_huleedu_error,
)


@pytest.mark.parametrize("code", [ErrorCode.TIMEOUT, IdentityErrorCode.ACCOUNT_LOCKED, LLMErrorCode.QUEUE_FULL])
def test_any_family_of_codes(code: Any) -> None:
    """The helper takes a member of every enum, or its text, and holds the error afterwards."""
    error = create_test_huleedu_error(code, "It failed", details={"a": 1, "b": 2})
    for wanted in (code, code.value):
        with assert_raises_huleedu_error(wanted, "test_service", "test_operation", "failed", {"a": 1}) as captured:
            raise error
        assert captured.error is error is captured.raised


@pytest.mark.parametrize(
    ("expected", "told"),
    [
        ({"error_code": ErrorCode.TIMEOUT}, "error_code is 'UNKNOWN_ERROR', not 'TIMEOUT'"),
        ({"service": "x"}, "service is 'test_service', not 'x'"),
        ({"operation": "x"}, "operation is 'test_operation', not 'x'"),
        ({"message_contains": "x"}, "message 'Test error' does not contain 'x'"),
        ({"details_contain": {"a": 2}}, r"details\['a'\] is 1, not 2"),
        ({"details_contain": {"z": 2}}, "details have no 'z'"),
    ],
)
def test_another_error_is_told_apart(expected: dict[str, Any], told: str) -> None:
    """The failure says what was expected and what came."""
    arguments: dict[str, Any] = {"error_code": ErrorCode.UNKNOWN_ERROR, **expected}
    with pytest.raises(AssertionError, match=told), assert_raises_huleedu_error(**arguments):
        raise create_test_huleedu_error(details={"a": 1})


def test_nothing_or_another_type() -> None:
    """Both are failures of the test, with the original as the cause; the error is not readable before its time."""
    with pytest.raises(AssertionError, match="nothing was raised"), assert_raises_huleedu_error(ErrorCode.TIMEOUT):
        pass
    with (
        pytest.raises(AssertionError, match="KeyError was raised") as caught,
        assert_raises_huleedu_error(ErrorCode.TIMEOUT) as captured,
    ):
        raise KeyError("x")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(AssertionError, match="after the block"):
        _ = captured.raised


def test_details_for_tests() -> None:
    """Made without a stack; a correlation id may be text."""
    correlation_id = uuid4()
    detail = create_test_error_detail(correlation_id=str(correlation_id), details={"a": 1})
    assert (detail.error_code, detail.message) == (ErrorCode.UNKNOWN_ERROR, "Test error")
    assert (detail.stack_trace, detail.correlation_id, detail.details) == (None, correlation_id, {"a": 1})


def test_the_matcher_compares_what_is_given() -> None:
    """Only the given fields count, details as a subset; it stands in for a detail in comparisons too."""
    detail = create_test_error_detail(details={"a": 1, "b": 2})
    matcher = ErrorDetailMatcher(error_code=ErrorCode.UNKNOWN_ERROR, details={"a": 1})
    assert matcher.matches(detail)
    assert matcher == detail
    assert matcher != "something else"
    assert ErrorDetailMatcher().matches(detail)
    assert ErrorDetailMatcher(correlation_id=str(detail.correlation_id), message="Test error").matches(detail)
    assert not ErrorDetailMatcher(correlation_id=uuid4()).matches(detail)
    assert "details={'a': 1}" in repr(matcher)
