"""Keys, times to live, identities and judgements: the formats that live in Redis."""

import hashlib
import json
from typing import Any

import pytest

from huleedu_service_libs import idempotency_v2 as public
from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.idempotency_v2 import DEFAULT_EVENT_TYPE_TTLS, IdempotencyConfig
from huleedu_service_libs.idempotency_v2.identity import identify
from huleedu_service_libs.idempotency_v2.records import Standing, judge
from libs.huleedu_service_libs.tests.idempotency.fakes import message

NOW = 1_700_000_000.0
BODY = {
    "event_id": "body-id",
    "event_type": "body.type.v1",
    "source_service": "body-service",
    "correlation_id": "body-correlation",
    "data": {"a": 1},
}


def test_public_names() -> None:
    """Everything that the module promises is there, and sorted as ruff sorts."""
    assert all(hasattr(public, name) for name in public.__all__)
    assert public.DEFAULT_TTL_SECONDS == 86400
    assert public.DEFAULT_PROCESSING_TTL_SECONDS == 300
    assert (public.IDEMPOTENCY_STATUS_PROCESSING, public.IDEMPOTENCY_STATUS_COMPLETED) == ("processing", "completed")


def test_default_ttls() -> None:
    """The default table has twelve event types with 1, 12, 24 and 72 hours."""
    config = IdempotencyConfig("svc")
    assert len(DEFAULT_EVENT_TYPE_TTLS) == 12
    assert config.get_ttl_for_event_type("huleedu.essay.spellcheck.requested.v1") == 3600
    assert config.get_ttl_for_event_type("huleedu.els.batch.phase.outcome.v1") == 43200
    assert config.get_ttl_for_event_type("huleedu.cj_assessment.completed.v1") == 86400
    assert config.get_ttl_for_event_type("huleedu.result_aggregator.batch.completed.v1") == 259200
    assert config.get_ttl_for_event_type("another") == 86400


@pytest.mark.parametrize("given", [None, {}])
def test_missing_table_is_a_copy_of_the_default(given: dict[str, int] | None) -> None:
    """Without a table, or with an empty one, each config has its own copy of the default."""
    config = IdempotencyConfig("svc", given)
    config.event_type_ttls["mine"] = 1
    assert "mine" not in DEFAULT_EVENT_TYPE_TTLS


def test_given_table_replaces_the_default() -> None:
    """A table passed in is not merged with the default."""
    config = IdempotencyConfig("svc", {"t": 5}, 7, "prefix", True)  # noqa: FBT003  # the services' order
    assert config.get_ttl_for_event_type("t") == 5
    assert config.get_ttl_for_event_type("huleedu.essay.spellcheck.requested.v1") == 7
    assert (config.service_name, config.default_ttl, config.key_prefix, config.enable_debug_logging) == (
        "svc",
        7,
        "prefix",
        True,
    )


def test_key_format() -> None:
    """A key has six parts: prefix, service, type with underscores, digest; the event id has no influence."""
    config = IdempotencyConfig("batch-service")
    key = config.generate_redis_key("huleedu.essay.v1", "dummy", "f" * 64)
    assert key == "huleedu:idempotency:v2:batch-service:huleedu_essay_v1:" + "f" * 64
    assert config.generate_redis_key("ClassName", "other", "d").endswith(":ClassName:d")


@pytest.mark.parametrize("wrong", [{"in_progress": "ignore"}, {"wait_timeout_seconds": 0}])
def test_config_checks_itself(wrong: dict[str, Any]) -> None:
    """A setting that makes no sense is refused by name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        IdempotencyConfig("svc", **wrong)


def test_complete_headers_leave_the_body_alone() -> None:
    """With id and type in the headers the body is not read; the digest is of the compact id object."""
    identity = identify(
        message(
            None,
            [("event_id", b"h"), (b"event_type", b"t.v1"), ("trace_id", b"c"), ("source_service", b"s")],
        )
    )
    assert identity.digest == hashlib.sha256(b'{"event_id":"h"}').hexdigest()
    assert (identity.event_type, identity.correlation_id, identity.source_service) == ("t.v1", "c", "s")
    assert not identity.body_parsed


@pytest.mark.parametrize("headers", [(), None, [("event_type", b"h.type"), ("trace_id", b"h")]])
def test_without_event_id_header_everything_comes_from_the_body(headers: Any) -> None:
    """Headers without the id are not believed."""
    raw = json.dumps(BODY).encode()
    identity = identify(message(raw, headers))
    assert (identity.event_id, identity.event_type) == ("body-id", "body.type.v1")
    assert (identity.correlation_id, identity.source_service) == ("body-correlation", "body-service")
    assert identity.digest == generate_deterministic_event_id(raw)


def test_without_event_type_header_the_body_fills_in() -> None:
    """Only the type missing: it comes from the body, and so does what else the headers lack."""
    raw = json.dumps(BODY).encode()
    identity = identify(message(raw, [("event_id", b"h"), ("trace_id", b"hc")]))
    assert (identity.event_id, identity.event_type) == ("h", "body.type.v1")
    assert (identity.correlation_id, identity.source_service) == ("hc", "body-service")
    assert identity.digest == generate_deterministic_event_id(raw)


@pytest.mark.parametrize("event_type", [None, 5, ["t"]])
def test_event_type_that_is_no_text_is_unknown(event_type: Any) -> None:
    """A null or non-text type still yields an identity."""
    identity = identify(message(json.dumps({**BODY, "event_type": event_type}).encode()))
    assert identity.event_type == "unknown"


def test_malformed_headers_are_left_out() -> None:
    """Headers that are no pairs or no UTF-8 do not spoil the others."""
    identity = identify(message(None, [("odd",), ("x", b"\xff"), ("n", None), ("event_id", b"i"), ("event_type", "t")]))
    assert (identity.event_id, identity.event_type) == ("i", "t")


def _claim(**changes: Any) -> str:
    return json.dumps({"status": "processing", "started_at": NOW - 10, "owner": "me", **changes})


@pytest.mark.parametrize(
    ("stored", "standing"),
    [
        (None, Standing.UNKNOWN),
        ('{"status": "completed", "processed_at": 1, "processed_by": "x"}', Standing.COMPLETED),
        ("{}", Standing.COMPLETED),
        ("1", Standing.COMPLETED),
        ("[]", Standing.COMPLETED),
        ("null", Standing.COMPLETED),
        ("", Standing.COMPLETED),
        ("processed", Standing.COMPLETED),
        (_claim(), Standing.OURS),
        (_claim(owner="other"), Standing.IN_PROGRESS),
        (_claim(owner="other", started_at=NOW - 300), Standing.IN_PROGRESS),
        (_claim(owner="other", started_at=NOW - 300.1), Standing.STALE),
        (_claim(owner="other", started_at=NOW + 60), Standing.IN_PROGRESS),
        (_claim(owner="other", started_at=None), Standing.STALE),
    ],
)
def test_judgement(stored: str | None, standing: Standing) -> None:
    """What is stored decides; unknown formats count as completed, claims are fresh for 300 s."""
    assert judge(stored, now=NOW, token="me").standing is standing
