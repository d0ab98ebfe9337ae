"""Which claims that could not be given back are known again, and how many are kept."""

import json

from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.idempotency_v2.leftovers import forget, leave, left_under


def _record(token: str) -> str:
    return json.dumps({"status": "processing", "owner": token})


@given(tries=st.integers(1, 200))
def test_the_claims_of_the_begin_and_of_the_end_of_an_outage_are_known(tries: int) -> None:
    """Redis answers before and after an outage, so the first and the last claims may stand; both are known, and few are kept."""
    tokens = [f"token-{number:04}" for number in range(tries)]
    for token in tokens:
        leave("key", token)
    try:
        known = [token for token in tokens if left_under("key", _record(token)) == token]
    finally:
        forget("key")
    assert known[:16] == tokens[:16]
    assert known[-16:] == tokens[-16:]
    assert len(known) <= 32


def test_a_claim_of_another_process_is_not_taken_for_our_own() -> None:
    """Only a record that holds a token that was left counts; a completed one has none."""
    leave("key", "mine")
    try:
        assert left_under("key", _record("theirs")) is None
        assert left_under("key", json.dumps({"status": "completed"})) is None
        assert left_under("other key", _record("mine")) is None
    finally:
        forget("key")
    assert left_under("key", _record("mine")) is None
