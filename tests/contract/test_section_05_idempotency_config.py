"""Sections 5.1 and 5.2: constants, times to live and keys. Live Redis holds such keys during an upgrade."""

import inspect
from typing import Any

import pytest

from huleedu_service_libs import idempotency_v2
from huleedu_service_libs.event_utils import generate_deterministic_event_id
from huleedu_service_libs.idempotency_v2 import IdempotencyConfig
from tests.contract.signatures import Wanted, lines

SIGNATURES = """
[5.2-signatures]
class idempotency_v2:IdempotencyConfig(service_name, event_type_ttls=None, default_ttl=86400, key_prefix='huleedu:idempotency:v2', enable_debug_logging=False)
def idempotency_v2:IdempotencyConfig.get_ttl_for_event_type(event_type)
def idempotency_v2:IdempotencyConfig.generate_redis_key(event_type, event_id, deterministic_hash)
[5.3-signatures]
def idempotency_v2:idempotent_consumer(redis_client, config)
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
SERVICES = (
    "batch-service",
    "batch-conductor-service",
    "essay-lifecycle-service",
    "spell-checker-service",
    "result-aggregator-service",
    "nlp-service",
    "websocket-service",
    "email-service",
    "identity-service-orchestrator",
    "entitlements-service",
    "class-management-service",
    "cj-assessment-service",
)
EVENT_TYPES = {"huleedu.a.b.v1": "huleedu_a_b_v1", "SpellcheckResultDataV1": "SpellcheckResultDataV1"}


@pytest.mark.parametrize("wanted", lines("05 idempotency", SIGNATURES), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.mark.contract("5.1-constants")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DEFAULT_TTL_SECONDS", 86400),
        ("DEFAULT_PROCESSING_TTL_SECONDS", 300),
        ("IDEMPOTENCY_STATUS_PROCESSING", "processing"),
        ("IDEMPOTENCY_STATUS_COMPLETED", "completed"),
    ],
)
def test_constants(name: str, value: object) -> None:
    """The constants have these values."""
    assert getattr(idempotency_v2, name) == value


@pytest.mark.contract("5.1-ttls")
def test_times_to_live_of_event_types() -> None:
    """Twelve event types, from an hour to three days."""
    assert idempotency_v2.DEFAULT_EVENT_TYPE_TTLS == TTLS


@pytest.mark.contract("5.2-attributes", "5.2-signatures")
def test_attributes() -> None:
    """What was given, by name or by position, can be read by name."""
    given: dict[str, Any] = {
        "service_name": "s",
        "event_type_ttls": {"x": 5},
        "default_ttl": 7,
        "key_prefix": "p",
        "enable_debug_logging": True,
    }
    for config in (IdempotencyConfig(**given), IdempotencyConfig(*given.values())):
        assert {name: getattr(config, name) for name in given} == given
    config = IdempotencyConfig("s")
    assert (config.default_ttl, config.key_prefix, config.enable_debug_logging) == (
        86400,
        "huleedu:idempotency:v2",
        False,
    )


@pytest.mark.contract("5.2-ttl-map")
@pytest.mark.parametrize("given", [None, {}])
def test_no_map_is_a_copy_of_the_table(given: dict[str, int] | None) -> None:
    """A copy: changing it changes nobody else's."""
    config = IdempotencyConfig("s", given)
    assert config.event_type_ttls == TTLS
    config.event_type_ttls["mine"] = 1
    assert TTLS == idempotency_v2.DEFAULT_EVENT_TYPE_TTLS
    assert "mine" not in IdempotencyConfig("s").event_type_ttls


@pytest.mark.contract("5.2-ttl-map", "5.2-ttl-lookup")
def test_a_map_replaces_the_table() -> None:
    """It is looked up; what it has not gets the default, though the table has it."""
    config = IdempotencyConfig("s", {"x": 5}, 7)
    found = [config.get_ttl_for_event_type(one) for one in ("x", "y", "huleedu.els.batch.essays.ready.v1")]
    assert found == [5, 7, 7]
    assert IdempotencyConfig("s").get_ttl_for_event_type("huleedu.els.batch.essays.ready.v1") == 43200


@pytest.mark.contract("5.2-key")
@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(("event_type", "written"), EVENT_TYPES.items())
def test_key(service: str, event_type: str, written: str) -> None:
    """Prefix, service, event type with underscores for dots, hash; six parts, and the event's id has no influence."""
    digest = generate_deterministic_event_id(b'{"event_id": "1", "data": {"a": 1}}')
    config, key = IdempotencyConfig(service_name=service), f"huleedu:idempotency:v2:{service}:{written}:{digest}"
    assert config.generate_redis_key(event_type, "dummy", digest) == key
    assert config.generate_redis_key(event_type=event_type, event_id="other", deterministic_hash=digest) == key
    assert (len(key.split(":")), len(digest)) == (6, 64)
    assert IdempotencyConfig(service, key_prefix="p").generate_redis_key("a.b", "x", "h") == f"p:{service}:a_b:h"


@pytest.mark.contract("5.3-signatures")
def test_the_decorator_is_made_at_once() -> None:
    """Neither making the decorator nor decorating is awaited."""
    decorator = idempotency_v2.idempotent_consumer(redis_client=None, config=IdempotencyConfig("s"))  # type: ignore[arg-type]
    assert callable(decorator)
    assert not inspect.isawaitable(decorator)
