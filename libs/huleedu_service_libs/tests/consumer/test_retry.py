"""What follows from a failure, and what a configuration refuses."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.kafka.consumer import ConsumerConfig, HandlerTimeoutError, RetryPolicy
from huleedu_service_libs.kafka.consumer.retry import Again, GiveUp, Later, delay_after, plan_retry, waits_for_others

POLICY = RetryPolicy(attempts=3, first_delay_s=1.0, longest_delay_s=3.0, delayed_s=(10.0, 60.0), never=(KeyError,))


def plan(failures: int, tier: int = 0, error: Exception | None = None, policy: RetryPolicy = POLICY) -> Any:
    """The plan, with the longest delays."""
    return plan_retry(policy, error or RuntimeError(), failures=failures, tier=tier, jitter=lambda: 1.0)


def test_an_event_is_tried_in_place_then_in_retry_topics_then_given_up() -> None:
    """Delays double in place up to the longest; each retry topic gives one attempt; then it is over."""
    assert [plan(1), plan(2)] == [Again(delay_s=1.0), Again(delay_s=2.0)]
    assert plan(3) == Later(tier=1, delay_s=10.0)
    assert plan(1, tier=1) == Later(tier=2, delay_s=60.0)
    assert plan(1, tier=2) == GiveUp()


def test_without_retry_topics_the_last_attempt_is_the_end() -> None:
    """No tier is invented."""
    assert plan(2, policy=RetryPolicy(attempts=2)) == GiveUp()


def test_futile_errors_are_given_up_at_once() -> None:
    """Errors that the policy names get no second attempt."""
    assert plan(1, error=KeyError("x")) == GiveUp()


def test_outages_wait_and_a_handlers_own_timeout_does_not() -> None:
    """What is out of reach waits, also what the policy names and what errors were raised from; what it calls futile does not."""
    policy = RetryPolicy(outages=(LookupError,), never=(ConnectionAbortedError,))
    wrapped = RuntimeError()
    wrapped.__cause__ = IndexError()
    waiting: list[Exception] = [ConnectionResetError(), TimeoutError(), LookupError(), wrapped]
    counted: list[Exception] = [ConnectionAbortedError(), HandlerTimeoutError("e.v1", 1.0), ValueError()]
    assert [waits_for_others(policy, error, since_s=1e9) for error in waiting] == [True] * len(waiting)
    assert [waits_for_others(policy, error, since_s=0.0) for error in counted] == [False] * len(counted)


def test_an_outage_may_be_given_a_limit() -> None:
    """An event that runs into a timeout for longer than the limit is at fault after all."""
    policy = RetryPolicy(outage_limit_s=60.0)
    assert waits_for_others(policy, TimeoutError(), since_s=59.0)
    assert not waits_for_others(policy, TimeoutError(), since_s=61.0)


@given(failures=st.integers(1, 1000), jitter=st.floats(0, 1, exclude_max=True))
def test_delays_are_bounded(failures: int, jitter: float) -> None:
    """Whatever chance and however many failures: between half of the first and the longest."""
    delay = delay_after(failures, first_s=0.2, longest_s=30.0, jitter=lambda: jitter)
    assert 0.1 <= delay <= 30.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"attempts": 0}, "attempts must be positive"),
        ({"first_delay_s": 2.0, "longest_delay_s": 1.0}, "longest_delay_s"),
        ({"delayed_s": (60.0, 10.0)}, "must not decrease"),
        ({"delayed_s": (0.0,)}, "must be positive"),
        ({"outage_limit_s": -1.0}, "outage_limit_s"),
    ],
)
def test_a_policy_checks_itself(wrong: dict[str, Any], said: str) -> None:
    """What makes no sense is named."""
    with pytest.raises(ValueError, match=said):
        RetryPolicy(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"group_id": ""}, "group_id must not be empty"),
        ({"topics": ()}, "topics must be a tuple"),
        ({"topics": "one"}, "topics must be a tuple"),
        ({"concurrency": 0}, "concurrency must be positive"),
        ({"drain_timeout_s": -1.0}, "drain_timeout_s must not be negative"),
        ({"max_uncommitted_per_partition": 10}, "must not be below max_buffered_per_partition"),
        ({"pause_after_s": 200.0}, "pause_after_s"),
        ({"retry_topic": "{topic}.retry"}, "must contain {n}"),
        ({"dead_letter_topic": "{topic}"}, "must differ from the topic itself"),
        ({"dead_letter_topic": "{wrong}"}, "may contain"),
        ({"client_options": {"enable_auto_commit": True}}, "must not set enable_auto_commit"),
    ],
)
def test_a_configuration_checks_itself(wrong: dict[str, Any], said: str) -> None:
    """What makes no sense, or would break a promise, is named."""
    with pytest.raises(ValueError, match=said):
        ConsumerConfig(**{"group_id": "g", "topics": ("t",), **wrong})
