"""From a stored row to the wire."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common_core import EventEnvelope
from huleedu_service_libs import _json
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs.outbox.rows import Row
from huleedu_service_libs.outbox.wire import envelope_of, key_of, message_of, standard_headers
from huleedu_service_libs.protocols import OutgoingMessage

from .doubles import Event

ENVELOPE: EventEnvelope[Any] = EventEnvelope(
    event_type="huleedu.essay.submitted.v1",
    source_service="intake",
    data={"text": "Räksmörgås på åsen"},
    metadata={"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
)
STORED = ENVELOPE.model_dump(mode="json") | {"topic": "t"}


def test_every_attempt_sends_the_same_bytes() -> None:
    """A row gives the same message each time, also when it lacks ids and timestamps of its own."""
    bare = Event(event_data={"data": {"n": 1}})
    for event in (bare, Event(event_data=STORED)):
        assert message_of(event, "svc") == message_of(event, "svc")


def test_the_envelope_keeps_its_identity() -> None:
    """Event id, timestamp, schema version, source, correlation id and data leave as they were stored."""
    message = message_of(Event(event_data=STORED, event_type=ENVELOPE.event_type), "svc")
    assert EventEnvelope.model_validate_json(message.value) == ENVELOPE
    assert "Räksmörgås".encode() in message.value


def test_single_and_batched_publishing_send_the_same_envelope() -> None:
    """The envelope object of a row dumps to the same JSON as its encoded message."""
    for event in (Event(event_data=STORED), Event(event_data={"data": [1]}), Event(event_data={"odd": "payload"})):
        assert envelope_of(event, "svc").model_dump(mode="json") == json.loads(message_of(event, "svc").value)


def test_a_bare_payload_is_filled_in_from_the_row() -> None:
    """The row's id, time and service stand in for what is missing; a payload without data is the data."""
    row = Event(event_data={"odd": 1}, created_at=datetime(2026, 1, 2, 3, 4, 5))  # noqa: DTZ001  # some tables have no zone
    envelope = envelope_of(row, "svc")
    assert (envelope.event_id, envelope.correlation_id) == (row.id, row.id)
    assert envelope.event_timestamp == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert (envelope.source_service, envelope.data, envelope.metadata) == ("svc", {"odd": 1}, {})


def test_standard_headers_are_complete_and_the_caller_wins() -> None:
    """Each event carries the documented headers and the trace; stored headers override."""
    event = Event(event_data=STORED | {"headers": {"source_service": "other", "x": "1"}}, event_type="e.v1")
    headers = dict(message_of(event, "svc").headers)
    assert headers == {
        "event_id": str(ENVELOPE.event_id).encode(),
        "event_type": b"e.v1",
        "trace_id": str(ENVELOPE.correlation_id).encode(),
        "source_service": b"other",
        "schema_version": b"1",
        "occurred_at": STORED["event_timestamp"].encode(),
        "content_type": b"application/json",
        "traceparent": b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x": b"1",
    }


def test_topic_and_headers_stay_out_of_the_body_and_the_row_is_untouched() -> None:
    """Delivery fields are not part of the envelope, and reading them changes nothing in the stored payload."""
    stored = STORED | {"headers": {"x": "1"}}
    before = json.dumps(stored)
    body = json.loads(message_of(Event(event_data=stored), "svc").value)
    assert "topic" not in body
    assert "headers" not in body
    assert json.dumps(stored) == before


def test_the_key_is_the_events_own_or_the_aggregates() -> None:
    """Order holds per event key; the aggregate id stands in for a missing one."""
    assert key_of(Event(event_key="k")) == "k"
    assert key_of(Event(event_key=None, aggregate_id="a")) == "a"


@pytest.mark.parametrize("payload", [[1, 2], "text", None])
def test_a_payload_that_is_no_object_names_the_row(payload: object) -> None:
    """The error of an unusable payload says which row it is and what was found."""
    event = replace(Event(), event_data=payload)  # type: ignore[arg-type]  # what a broken row holds
    with pytest.raises(ValueError, match=str(event.id)):
        message_of(event, "svc")


def test_headers_of_an_envelope_without_metadata() -> None:
    """No metadata, no trace headers."""
    fields = envelope_of(Event(), "svc").model_dump(mode="json")
    assert "traceparent" not in standard_headers(Event(), fields)


@pytest.mark.parametrize("metadata", [None, "text", [1]])
def test_metadata_that_is_no_object_leaves_as_an_empty_one(metadata: object) -> None:
    """Also a stored ``null``: the row is no poison, and consumers find what the envelope promises."""
    payload = {**COMPLETE, "metadata": metadata, "topic": "t"}
    message = message_of(_stored(payload), "svc")
    assert message.value is not None
    assert json.loads(message.value) == {**COMPLETE, "metadata": {}}
    assert "traceparent" not in dict(message.headers)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(data=JSON, event_id=st.uuids())
def test_any_json_data_survives(data: object, event_id: UUID) -> None:
    """Whatever JSON a service stores arrives unchanged, integers beyond 64 bits included."""
    event = Event(event_data={"event_id": str(event_id), "data": data})
    body = json.loads(message_of(event, "svc").value)
    assert body["data"] == data
    assert body["event_id"] == str(event_id)


ODD = {
    "event_id": "evt-1",
    "correlation_id": 7,
    "event_timestamp": "yesterday",
    "schema_version": "v1",
    "data_schema_uri": 5,
    "source_service": 3,
    "metadata": "none",
}


def test_envelope_fields_of_no_use_give_way_to_the_rows() -> None:
    """A payload whose own fields merely look like an envelope's is sent, not parked, and consumers can read it."""
    event = Event(event_data=ODD)
    body = message_of(event, "svc").value
    envelope = EventEnvelope[Any].model_validate_json(body)
    assert (envelope.event_id, envelope.correlation_id) == (event.id, event.id)
    assert (envelope.schema_version, envelope.data_schema_uri, envelope.source_service) == (1, None, "3")
    assert envelope.data == ODD
    assert envelope_of(event, "svc").model_dump(mode="json") == json.loads(body)


def _stored(payload: dict[str, Any], text: str | None = None, event_type: str = "e.v1") -> Row:
    """A row as the relay reads it, its payload as `OutboxManager` stores it."""
    return Row(
        id=uuid7(),
        aggregate_id="a",
        aggregate_type="essay",
        event_type=event_type,
        stored_text=_json.dumps(payload).decode() if text is None else text,
        event_key="k",
        topic="t",
        created_at=datetime.now(UTC),
        published_at=None,
        retry_count=0,
        last_error=None,
        age_seconds=0.0,
    )


COMPLETE: dict[str, Any] = EventEnvelope[Any](
    event_type="e.v1", source_service="svc", data={"ord": "smörgås"}, metadata={"traceparent": "00-1-2-01"}
).model_dump(mode="json")


def _rebuilt(row: Row) -> OutgoingMessage:
    """The message of the same row where the stored text is not looked at."""
    fields = {name: getattr(row, name) for name in ("id", "aggregate_id", "event_type", "event_key", "topic")}
    return message_of(Event(**fields, event_data=row.event_data, created_at=row.created_at), "other")


@pytest.mark.parametrize("headers", [None, {"x": "1", "source_service": "mine"}])
def test_stored_bytes_go_out_as_they_are(headers: dict[str, str] | None) -> None:
    """Up to the delivery fields the value is the stored text, and the headers are those of a rebuilt message."""
    payload = COMPLETE | {"topic": "t"} | ({"headers": headers} if headers else {})
    row = _stored(payload)
    message = message_of(row, "other")
    assert row.stored_text.encode().startswith(message.value[:-1])
    assert message == message_of(row, "another")
    assert "event_data" not in vars(row)  # nothing was decoded for it
    assert message == _rebuilt(row)


INNER = {"topic": "t", "headers": {"x": "1"}}


@pytest.mark.parametrize(
    "change",
    [
        {"metadata": None},
        {"event_id": "evt-1"},
        {"event_id": "A" * 8 + "-0000-4000-8000-000000000000"},
        {"event_type": "other"},
        {"event_timestamp": "2026-01-01T00:00:00"},
        {"source_service": ""},
        {"schema_version": True},
        {"data_schema_uri": 5},
        {"more": 1},
        {"data": INNER},
        {"data": ',"topic":"t"}'},
        {"metadata": {"a": [{"topic": "t"}]}},
    ],
    ids=str,
)
def test_whatever_must_be_filled_in_is_rebuilt(change: dict[str, Any]) -> None:
    """Fields of no use, further fields, look-alikes of the delivery fields: the message is that of the decoded row."""
    for payload in (COMPLETE | change | {"topic": "t"}, COMPLETE | change, {**INNER, **COMPLETE, **change}):
        row = _stored(payload)
        assert message_of(row, "other") == _rebuilt(row)


@given(data=JSON, spaced=st.booleans(), delivery=st.sampled_from([{}, {"topic": "t"}, INNER, {"topic": "elsewhere"}]))
def test_what_is_passed_on_reads_like_what_is_rebuilt(data: Any, spaced: bool, delivery: dict[str, Any]) -> None:  # noqa: FBT001  # drawn
    """For any data and any way of writing it down, consumers read the same event; the same row gives the same bytes."""
    payload = COMPLETE | {"data": data} | delivery
    text = json.dumps(payload) if spaced else json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    row = _stored({}, text)
    message = message_of(row, "other")
    assert json.loads(message.value) == json.loads(_rebuilt(row).value)
    assert message.headers == _rebuilt(row).headers
    assert message == message_of(row, "other")


@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_a_number_beyond_a_double_is_refused_and_does_not_become_null(number: str) -> None:
    """JSONB and foreign writers store any number; where the payload must be rebuilt, one that would be lost is the row's fault."""
    row = _stored({}, text=f'{{"data": {{"n": {number}, "m": 1.5}}}}')
    with pytest.raises(ValueError, match=f"The number {number} in the payload"):
        message_of(row, "svc")


def test_integers_of_any_size_leave_as_they_are() -> None:
    """Also where the payload is rebuilt."""
    row = _stored({}, text='{"data": {"n": 123456789012345678901234567890}}')
    assert b'"n":123456789012345678901234567890' in message_of(row, "svc").value
