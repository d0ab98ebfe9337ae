"""`event_utils`: digests that services precompute, and fields found in bodies."""

import hashlib
import json
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from huleedu_service_libs.event_utils import (
    extract_correlation_id_as_string,
    extract_correlation_id_from_event,
    extract_user_id_from_event_data,
    generate_deterministic_event_id,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_digest_with_event_id_is_that_of_the_canonical_text() -> None:
    """With an event id the digest is of id and data, keys sorted, default separators, ASCII."""
    canonical = b'{"data": {"a": "\\u00e5", "b": [1, 2.5, null]}, "event_id": "e-1"}'
    body = '{"event_id":"e-1","data":{"b":[1,2.5,null],"a":"å"},"event_type":"t"}'.encode()
    assert hashlib.sha256(canonical).hexdigest() == generate_deterministic_event_id(body)


@pytest.mark.parametrize("event_id", ["", None])
def test_digest_without_event_id_is_that_of_the_data(event_id: str | None) -> None:
    """A missing, null or empty event id leaves the data alone as the subject."""
    expected = hashlib.sha256(b'{"x": 1}').hexdigest()
    assert expected == generate_deterministic_event_id(json.dumps({"event_id": event_id, "data": {"x": 1}}).encode())
    assert expected == generate_deterministic_event_id(b'{"data": {"x": 1}}')


def test_fixed_vector() -> None:
    """The digest of a known body never changes: live Redis keys hold it."""
    digest = generate_deterministic_event_id(b'{"event_id": "test-123", "data": {"test": "data"}}')
    assert digest == "d30836992a7a98beae277c715ced69efbe604fe14bc874679aba06ea99576f62"


@given(event_id=st.text(min_size=1), data=JSON.filter(lambda value: value is not None), noise=JSON)
def test_only_id_and_data_count(event_id: str, data: Any, noise: Any) -> None:
    """Timestamp, correlation id and type never influence the digest, nor does the order of keys."""
    plain = json.dumps({"event_id": event_id, "data": data}).encode()
    other = json.dumps(
        {"correlation_id": noise, "data": data, "event_type": noise, "event_timestamp": noise, "event_id": event_id}
    ).encode()
    canonical = json.dumps({"data": data, "event_id": event_id}, sort_keys=True).encode()
    assert hashlib.sha256(canonical).hexdigest() == generate_deterministic_event_id(plain)
    assert generate_deterministic_event_id(plain) == generate_deterministic_event_id(other)


@pytest.mark.parametrize("body", [b"", b"no json", b"\xff", b"[1]", b"1", b"null", b"{}", b'{"data": null}', None, 7])
def test_bodies_without_identity_raise_value_error(body: Any) -> None:
    """Whatever is wrong with a body, the error is a ValueError."""
    with pytest.raises(ValueError, match="Event body"):
        generate_deterministic_event_id(body)


@pytest.mark.parametrize("data", [b"0", b"false", b'""', b"[]", b"{}"])
def test_empty_data_is_data(data: bytes) -> None:
    """Only null counts as missing, other empty values do not."""
    assert hashlib.sha256(data).hexdigest() == generate_deterministic_event_id(b'{"data": ' + data + b"}")


def test_user_id_is_the_first_attribute_set() -> None:
    """The attributes are tried in a fixed order, empty ones passed over; mappings have none."""
    assert extract_user_id_from_event_data(SimpleNamespace(user_id="", owner_id=7, author_id="a")) == "7"
    assert extract_user_id_from_event_data(SimpleNamespace(updated_by_id="u", created_by_user_id="c")) == "c"
    assert extract_user_id_from_event_data({"user_id": "u"}) is None


def test_correlation_id_as_string() -> None:
    """A correlation id becomes text, no correlation id stays none."""
    text = "00000000-0000-0000-0000-000000000001"
    assert extract_correlation_id_as_string(UUID(text)) == text
    assert extract_correlation_id_as_string(None) is None


@pytest.mark.parametrize(
    ("body", "expected"),
    [(b'{"correlation_id": "c"}', "c"), (b'{"correlation_id": 1}', None), (b"{}", None), (b"[]", None), (b"x", None)],
)
def test_correlation_id_from_event(body: bytes, expected: str | None) -> None:
    """Only a text in a JSON object counts; nothing raises."""
    assert extract_correlation_id_from_event(body) == expected
