"""Section 5: idempotency. Keys, times to live and the signature of the decorator; live Redis holds such keys."""

import pytest

from huleedu_service_libs import idempotency_v2
from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
class idempotency_v2:IdempotencyConfig(service_name, event_type_ttls=None, default_ttl=86400, key_prefix='huleedu:idempotency:v2', enable_debug_logging=False)
def idempotency_v2:IdempotencyConfig.get_ttl_for_event_type(event_type)
def idempotency_v2:IdempotencyConfig.generate_redis_key(event_type, event_id, deterministic_hash)
def idempotency_v2:idempotent_consumer(redis_client, config)
def event_utils:generate_deterministic_event_id(msg_value)
def event_utils:extract_user_id_from_event_data(event_data)
def event_utils:extract_correlation_id_as_string(correlation_id)
def event_utils:extract_correlation_id_from_event(msg_value)
"""
TTLS = {
    "huleedu.essay.spellcheck.requested.v1": 3600,
    "huleedu.essay.spellcheck.completed.v1": 3600,
    "huleedu.file.essay.content.provisioned.v1": 3600,
    "huleedu.file.essay.validation.failed.v1": 3600,
    "huleedu.batch.essays.registered.v1": 43200,
    "huleedu.els.batch.essays.ready.v1": 43200,
    "huleedu.els.batch.phase.outcome.v1": 43200,
    "huleedu.cj_assessment.completed.v1": 86400,
    "huleedu.batch.cj_assessment.initiate.command.v1": 86400,
    "huleedu.batch.spellcheck.initiate.command.v1": 86400,
    "huleedu.result_aggregator.batch.completed.v1": 259200,
    "huleedu.result_aggregator.class.summary.updated.v1": 259200,
}


@pytest.mark.parametrize("wanted", lines("05 idempotency, 01 event utilities", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEFAULT_TTL_SECONDS", 86400),
        ("DEFAULT_PROCESSING_TTL_SECONDS", 300),
        ("IDEMPOTENCY_STATUS_PROCESSING", "processing"),
        ("IDEMPOTENCY_STATUS_COMPLETED", "completed"),
        ("DEFAULT_EVENT_TYPE_TTLS", TTLS),
    ],
)
def test_constants(name: str, value: object) -> None:
    """The constants have these values."""
    assert getattr(idempotency_v2, name) == value


@pytest.mark.parametrize(
    ("service", "event_type", "key"),
    [
        ("batch-service", "huleedu.a.b.v1", "huleedu:idempotency:v2:batch-service:huleedu_a_b_v1:"),
        ("nlp-service", "SpellcheckResultDataV1", "huleedu:idempotency:v2:nlp-service:SpellcheckResultDataV1:"),
    ],
)
def test_key(service: str, event_type: str, key: str) -> None:
    """Prefix, service, event type with underscores for dots, hash; the event's id has no influence."""
    digest = generate_deterministic_event_id(b'{"event_id": "1", "data": {"a": 1}}')
    config = IdempotencyConfig(service)
    assert config.generate_redis_key(event_type, "dummy", digest) == key + digest
    assert config.generate_redis_key(event_type, "other", digest) == key + digest
    assert (len((key + digest).split(":")), len(digest)) == (6, 64)


def test_digest() -> None:
    """SHA-256 of canonical JSON of id and data, byte for byte."""
    assert generate_deterministic_event_id(
        b'{"data": {"b": 2, "a": "\xc3\xa5"}, "event_id": "e-1", "event_type": "t"}'
    ) == ("b21a107a2f2dd6498d0c291f9684161e5657179dc2c2f69c35ec75a93c1195a6")


def test_times_to_live() -> None:
    """A given map replaces the default one; an empty one is a copy of it."""
    config = IdempotencyConfig("s", {})
    assert (config.event_type_ttls, config.default_ttl) == (TTLS, 86400)
    assert config.event_type_ttls is not idempotency_v2.DEFAULT_EVENT_TYPE_TTLS
    assert IdempotencyConfig("s", {"x": 5}, 7).get_ttl_for_event_type("huleedu.els.batch.essays.ready.v1") == 7
