"""What a handler declares for the time in which its store is down."""

import pickle

import pytest

from huleedu_service_libs.store_policy import STORE_DOWN_POLICIES, StoreDownError, check_store_down_policy


def test_policies_are_three() -> None:
    """Process, pause and dead-letter are accepted; anything else is refused with the choice."""
    for policy in STORE_DOWN_POLICIES:
        check_store_down_policy(policy)
    assert STORE_DOWN_POLICIES == ("process", "pause", "dead-letter")
    with pytest.raises(ValueError, match="store_down must be one of process, pause, dead-letter, got 'retry'"):
        check_store_down_policy("retry")


def test_the_error_says_what_is_down_and_what_to_do() -> None:
    """Store, operation, cause and the consumer's next step stand in the text, and survive pickling."""
    error = StoreDownError(store="redis", operation="claim", policy="pause", reason="connection refused")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert (copy.store, copy.operation, copy.policy, copy.reason) == ("redis", "claim", "pause", "connection refused")
    assert str(copy) == (
        "The store of processed events (redis) does not answer (claim: connection refused), so the handler did not "
        "run; its policy is 'pause': leave the offset uncommitted and pause the partition until it answers"
    )
