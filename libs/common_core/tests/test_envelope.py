"""`EventEnvelope`: what goes over the wire, and what comes back."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import common_core
from common_core import events
from common_core.config_enums import Environment
from common_core.events.envelope import EventEnvelope

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


class EssayV1(BaseModel):
    """An event's data with everything that JSON has no form for."""

    essay_id: UUID
    read_at: datetime
    environment: Environment
    text: str


def _essay() -> EssayV1:
    read_at = datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)
    return EssayV1(essay_id=UUID(int=1), read_at=read_at, environment=Environment.STAGING, text="Läsförståelse på ön")


def _envelope(**changes: Any) -> EventEnvelope[EssayV1]:
    fields: dict[str, Any] = {"event_type": "t.v1", "source_service": "s", "data": _essay(), **changes}
    return EventEnvelope[EssayV1](**fields)


def test_defaults() -> None:
    """Ids are new, the time is now in UTC, the schema is version 1, the rest is empty."""
    first, second = _envelope(), _envelope()
    assert len({first.event_id, second.event_id, first.correlation_id, second.correlation_id}) == 4
    assert first.event_timestamp.utcoffset() == timedelta(0)
    assert datetime.now(UTC) - first.event_timestamp < timedelta(minutes=1)
    assert (first.schema_version, first.data_schema_uri, first.metadata) == (1, None, None)


@pytest.mark.parametrize("missing", ["event_type", "source_service", "data"])
def test_required_fields(missing: str) -> None:
    """Type, sender and data must be given."""
    fields = {"event_type": "t", "source_service": "s", "data": {}}
    del fields[missing]
    with pytest.raises(ValidationError, match=missing):
        EventEnvelope[Any].model_validate(fields)


def test_data_is_kept_as_it_is() -> None:
    """The instance passed in is the instance inside, a mapping stays a mapping."""
    essay = _essay()
    assert _envelope(data=essay).data is essay
    plain = {"a": 1}
    assert EventEnvelope(event_type="t", source_service="s", data=plain).data == plain


def test_json_form() -> None:
    """Ids, times and enums become text, also inside the data."""
    envelope = _envelope()
    body = envelope.model_dump(mode="json")
    assert body == json.loads(json.dumps(body))
    assert body["event_id"] == str(envelope.event_id)
    assert body["data"] == {
        "essay_id": str(UUID(int=1)),
        "read_at": "2025-01-02T03:04:05Z",
        "environment": "staging",
        "text": "Läsförståelse på ön",
    }


def test_round_trip() -> None:
    """What was read equals what was written, with the data as a plain mapping for the handler to validate."""
    sent = _envelope(metadata={"traceparent": "x"})
    received: EventEnvelope[EssayV1] = EventEnvelope[EssayV1].model_validate_json(sent.model_dump_json())
    assert type(received.data) is dict
    assert EssayV1.model_validate(received.data) == sent.data
    assert received.model_dump(exclude={"data"}) == sent.model_dump(exclude={"data"})


@given(data=JSON, metadata=st.none() | st.dictionaries(st.text(), JSON, max_size=3), event_type=st.text())
def test_any_json_round_trips(data: Any, metadata: dict[str, Any] | None, event_type: str) -> None:
    """Any data and metadata survive the wire."""
    sent: EventEnvelope[Any] = EventEnvelope(event_type=event_type, source_service="s", data=data, metadata=metadata)
    received = EventEnvelope[Any].model_validate_json(json.dumps(sent.model_dump(mode="json")))
    assert received == sent


def test_metadata_can_be_assigned() -> None:
    """Publishers set metadata later and put the trace into it."""
    envelope = _envelope()
    envelope.metadata = {}
    envelope.metadata["traceparent"] = "x"
    assert envelope.model_dump()["metadata"] == {"traceparent": "x"}


def test_unknown_fields_are_ignored() -> None:
    """A newer sender's fields do no harm."""
    body = {"event_type": "t", "source_service": "s", "data": {}, "new": 1, "correlation_id": str(uuid4())}
    assert not hasattr(EventEnvelope[Any].model_validate(body), "new")


def test_one_class_under_three_names() -> None:
    """The packages above hand on the same class."""
    assert EventEnvelope is events.EventEnvelope
    assert common_core.EventEnvelope is EventEnvelope
