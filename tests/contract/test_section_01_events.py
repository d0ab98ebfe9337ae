"""Section 1: events. The envelope, and what is read from a message's bytes."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from enum import Enum
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import BaseModel, ValidationError

import common_core
from common_core import events
from common_core.events import envelope
from common_core.events.envelope import EventEnvelope
from huleedu_service_libs.event_utils import (
    extract_correlation_id_as_string,
    extract_correlation_id_from_event,
    extract_user_id_from_event_data,
    generate_deterministic_event_id,
)
from huleedu_service_libs.observability import inject_trace_context
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[1.2-signatures]
def event_utils:generate_deterministic_event_id(msg_value)
def event_utils:extract_user_id_from_event_data(event_data)
def event_utils:extract_correlation_id_as_string(correlation_id)
def event_utils:extract_correlation_id_from_event(msg_value)
"""
USER_FIELDS = (
    "user_id",
    "created_by_user_id",
    "updated_by_user_id",
    "created_by_id",
    "updated_by_id",
    "owner_id",
    "author_id",
)
GOLDEN = [
    (
        {"event_id": "e-1", "data": {"b": 2, "a": "å"}},
        "b21a107a2f2dd6498d0c291f9684161e5657179dc2c2f69c35ec75a93c1195a6",
    ),
    ({"data": {"a": 1}}, hashlib.sha256(b'{"a": 1}').hexdigest()),
    ({"event_id": "", "data": [1, "x"]}, hashlib.sha256(b'[1, "x"]').hexdigest()),
    ({"event_id": None, "data": "räka"}, hashlib.sha256(b'"r\\u00e4ka"').hexdigest()),
    ({"event_id": "e", "data": 0}, hashlib.sha256(b'{"data": 0, "event_id": "e"}').hexdigest()),
]


class _Level(Enum):
    HIGH = "high"


class _Essay(BaseModel):
    essay_id: UUID
    text: str
    level: _Level = _Level.HIGH
    written: datetime = datetime(2025, 1, 2, tzinfo=UTC)


def _essay() -> _Essay:
    return _Essay(essay_id=uuid4(), text="räksmörgås på Öland")


def _envelope(data: Any) -> EventEnvelope[Any]:
    return EventEnvelope(event_type="essay.v1", source_service="svc", data=data)


@pytest.mark.parametrize("wanted", lines("01 event utilities", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.mark.contract("1.1-import-paths")
def test_import_paths() -> None:
    """Three paths lead to one class; its type parameter is bound to models and can be imported too."""
    assert envelope.EventEnvelope is events.EventEnvelope is common_core.EventEnvelope is EventEnvelope
    assert envelope.T_EventData.__bound__ is BaseModel


@pytest.mark.contract("1.1-fields")
def test_fields() -> None:
    """Nine fields; three must be given, the others have the defaults that consumers build on."""
    fields = {name: (field.annotation, field.is_required()) for name, field in EventEnvelope.model_fields.items()}
    assert fields == {
        "event_id": (UUID, False),
        "event_type": (str, True),
        "event_timestamp": (datetime, False),
        "source_service": (str, True),
        "schema_version": (int, False),
        "correlation_id": (UUID, False),
        "data_schema_uri": (str | None, False),
        "data": (Any, True),
        "metadata": (dict[str, Any] | None, False),
    }
    made = _envelope({})
    assert (made.schema_version, made.data_schema_uri, made.metadata) == (1, None, None)
    with pytest.raises(ValidationError, match="source_service"):
        EventEnvelope.model_validate({"event_type": "t", "data": {}})


@pytest.mark.contract("1.1-fresh-ids")
def test_each_envelope_has_ids_and_a_time_of_its_own() -> None:
    """Random UUIDs that differ between envelopes and from each other, and an aware time of now."""
    one, other = _envelope({}), _envelope({})
    assert len({one.event_id, one.correlation_id, other.event_id, other.correlation_id}) == 4
    assert (one.event_id.version, one.correlation_id.version) == (4, 4)
    assert one.event_timestamp.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - one.event_timestamp) < timedelta(minutes=1)


@pytest.mark.contract("1.1-mutable")
def test_metadata_can_be_assigned_and_filled() -> None:
    """Consumers assign a dict and have the trace context put into that very dict."""
    made, carrier = _envelope({}), dict[str, Any]()
    made.metadata = carrier
    made.event_type = "other.v1"
    inject_trace_context(made.metadata)
    assert made.metadata is carrier
    assert made.event_type == "other.v1"


@pytest.mark.contract("1.1-unknown-ignored")
def test_unknown_fields_are_ignored() -> None:
    """A newer producer may say more than this consumer knows."""
    body = {"event_type": "t", "source_service": "s", "data": {}, "from_the_future": 1}
    found: EventEnvelope[Any] = EventEnvelope.model_validate_json(json.dumps(body))
    assert "from_the_future" not in found.model_dump()
    assert EventEnvelope.model_config.get("populate_by_name") is True


@pytest.mark.contract("1.1-data-identity")
def test_data_is_kept_as_it_is() -> None:
    """The instance that was passed in is the one that comes out, for models and for dicts."""
    essay, plain = _essay(), {"a": 1}
    assert EventEnvelope[_Essay](event_type="t", source_service="s", data=essay).data is essay
    assert _envelope(essay).data is essay
    assert _envelope(plain).data is plain


@pytest.mark.contract("1.1-data-from-json")
def test_data_read_from_json_is_a_dict() -> None:
    """Handlers validate it themselves, whichever class read the envelope."""
    text = _envelope(_essay()).model_dump_json()
    for kind in (EventEnvelope, EventEnvelope[_Essay]):
        assert type(kind.model_validate_json(text).data) is dict


@pytest.mark.contract("1.1-generic-or-bare")
def test_with_and_without_a_type() -> None:
    """Both spellings make an `EventEnvelope`."""
    typed = EventEnvelope[_Essay](event_type="t", source_service="s", data=_essay())
    assert isinstance(typed, EventEnvelope)
    assert isinstance(_envelope({"a": 1}), EventEnvelope)


@pytest.mark.contract("1.1-json-dump")
def test_dump_for_the_wire() -> None:
    """Only what JSON has: text for ids and times, values for enums, in the envelope and inside of its data."""
    essay = _essay()
    made = _envelope(essay)
    dumped = made.model_dump(mode="json")
    assert json.loads(json.dumps(dumped)) == dumped
    assert (dumped["event_id"], dumped["correlation_id"]) == (str(made.event_id), str(made.correlation_id))
    assert datetime.fromisoformat(dumped["event_timestamp"]) == made.event_timestamp
    assert dumped["data"] == {
        "essay_id": str(essay.essay_id),
        "text": essay.text,
        "level": "high",
        "written": "2025-01-02T00:00:00Z",
    }
    assert list(dumped) == list(EventEnvelope.model_fields)


@pytest.mark.contract("1.1-swedish")
def test_swedish_survives_the_round_trip() -> None:
    """What was written is read, and the envelope stays the same event."""
    made = _envelope({"text": "Sjön där räven åt äpplen", "名": "é🎓"})
    read: EventEnvelope[Any] = EventEnvelope.model_validate_json(made.model_dump_json())
    assert (read.data, read.event_id, read.event_timestamp) == (made.data, made.event_id, made.event_timestamp)


@pytest.mark.contract("1.2-id-bytes", "1.2-id-subject")
@pytest.mark.parametrize(("body", "digest"), GOLDEN)
def test_deterministic_id(body: dict[str, Any], digest: str) -> None:
    """Byte for byte: default separators, ASCII escapes, sorted keys; an id that is not there leaves the data alone."""
    assert generate_deterministic_event_id(json.dumps(body).encode()) == digest
    assert generate_deterministic_event_id(json.dumps(body, ensure_ascii=False, indent=1).encode()) == digest
    assert (len(digest), digest.lower()) == (64, digest)


@pytest.mark.contract("1.2-id-other-fields")
def test_other_fields_have_no_influence() -> None:
    """The same id and data give the same digest, whatever else the envelope says; another id or data does not."""
    base = {"event_id": "e", "data": {"a": 1, "b": {"d": 1, "c": 2}}}
    more = {"event_type": "t", "event_timestamp": "2025", "correlation_id": "c", "source_service": "s", "metadata": {}}
    turned = {"data": {"b": {"c": 2, "d": 1}, "a": 1}, "event_id": "e"}
    digest = _digest(base)
    assert {_digest({**base, **more}), _digest({**more, **turned})} == {digest}
    assert len({digest, _digest({**base, "event_id": "f"}), _digest({**base, "data": {"a": 1}})}) == 3


def _digest(body: Any) -> str:
    return generate_deterministic_event_id(json.dumps(body).encode())


@pytest.mark.contract("1.2-id-refuses")
@pytest.mark.parametrize("body", [{}, {"event_id": "e"}, {"event_id": "e", "data": None}])
def test_without_data_there_is_no_id(body: dict[str, Any]) -> None:
    """Data that is missing or null is refused."""
    with pytest.raises(ValueError, match="data"):
        _digest(body)


@pytest.mark.contract("1.2-id-refuses")
@pytest.mark.parametrize("body", [b"{not json", b"\xff\xfe", "", None, 5])
def test_what_cannot_be_read_has_no_id(body: Any) -> None:
    """A body that is no JSON, or no bytes at all, is refused, and the cause is told."""
    with pytest.raises(ValueError, match=r"\S") as caught:
        generate_deterministic_event_id(body)
    assert caught.value.__cause__ is not None


@pytest.mark.contract("1.2-user-id")
def test_the_first_user_that_is_named() -> None:
    """Seven attributes in order of precedence; an empty one does not count, and a UUID comes out as text."""
    values: dict[str, Any] = {name: f"of {name}" for name in USER_FIELDS}
    for name in USER_FIELDS:
        assert extract_user_id_from_event_data(SimpleNamespace(**values)) == f"of {name}"
        values[name] = "" if name != "owner_id" else None
    assert extract_user_id_from_event_data(SimpleNamespace(**values)) is None
    user = uuid4()
    assert extract_user_id_from_event_data(SimpleNamespace(author_id=user)) == str(user)


@pytest.mark.contract("1.2-user-id")
@pytest.mark.parametrize("data", [None, {"user_id": "u"}, SimpleNamespace(), "text"])
def test_nobody_is_named(data: Any) -> None:
    """Attributes are looked at, not keys; without one there is no user."""
    assert extract_user_id_from_event_data(data) is None


@pytest.mark.contract("1.2-correlation-as-string")
def test_correlation_id_as_text() -> None:
    """Whatever it is, as text; nothing stays nothing."""
    id_ = uuid4()
    assert extract_correlation_id_as_string(id_) == str(id_)
    assert extract_correlation_id_as_string("c-1") == "c-1"
    assert extract_correlation_id_as_string(None) is None


@pytest.mark.contract("1.2-correlation-from-event")
@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"correlation_id": "c-1"}', "c-1"),
        (b'{"correlation_id": 5}', None),
        (b'{"correlation_id": null}', None),
        (b"{}", None),
        (b'["correlation_id"]', None),
        (b"{not json", None),
        (b"\xff", None),
        (None, None),
    ],
)
def test_correlation_id_of_a_message(body: Any, found: str | None) -> None:
    """The text that the body has, and None instead of an error for everything else."""
    assert extract_correlation_id_from_event(body) == found
