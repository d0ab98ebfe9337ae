"""Ids, JSON, collectors, extras: the parts that everything stands on."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from huleedu_service_libs import _extras, _json
from huleedu_service_libs._extras import MissingExtraError, requires_extra
from huleedu_service_libs._ids import uuid7
from huleedu_service_libs._metrics import counter, gauge, histogram
from huleedu_service_libs.protocols import DeliveryOutcome, concrete_capability


def test_ids_increase_and_are_version_seven() -> None:
    """Ids of one process sort as they were made, also within a millisecond, and are RFC 9562 version 7."""
    ids = [uuid7() for _ in range(20_000)]
    assert ids == sorted(ids)
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}


def test_ids_of_threads_are_unique() -> None:
    """Threads never get the same id."""
    with ThreadPoolExecutor(8) as pool:
        ids = [one for part in pool.map(lambda _: [uuid7() for _ in range(2_000)], range(8)) for one in part]
    assert len(set(ids)) == len(ids)


def test_json_keeps_text_order_and_large_integers() -> None:
    """Non-ASCII text stays, keys keep their order, integers beyond 64 bits are written out."""
    assert _json.dumps({"b": "å", "a": 2**70}) == b'{"b":"\xc3\xa5","a":1180591620717411303424}'


def test_json_forms_and_keys_of_ones_own() -> None:
    """A default gives forms, keys may be of any kind, and large integers change nothing of that."""
    value = {1: {2}, "n": 2**70}
    assert _json.dumps(value, default=list, any_keys=True) == b'{"1":[2],"n":1180591620717411303424}'


def test_json_refuses_what_has_no_form() -> None:
    """A lone surrogate and an object are TypeErrors."""
    for value in ("\ud800", object()):
        with pytest.raises(TypeError):
            _json.dumps(value)


@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers()))
def test_json_round_trip(value: dict[str, int]) -> None:
    """What is written reads back equal."""
    assert json.loads(_json.dumps(value)) == value


def test_collectors_are_made_once() -> None:
    """Asking again gives the same collector, registered or not."""
    first = counter("huleedu_test_made_once_total", "x", ("a",))
    assert counter("huleedu_test_made_once_total", "x", ("a",)) is first
    REGISTRY.unregister(first)
    first.labels(a="1").inc()  # harmless though it is not registered
    assert counter("huleedu_test_made_once_total", "x", ("a",)) is first


def test_a_taken_metric_name_is_told() -> None:
    """A name that somebody else has fails no import, but a warning names the metric that stays unseen."""
    gauge("huleedu_test_taken", "x").set(1)
    with pytest.warns(RuntimeWarning, match="metric 'huleedu_test_taken' is not exported") as caught:
        unseen = histogram("huleedu_test_taken", "x", (), (1.0,))
    assert caught[0].filename == __file__
    unseen.observe(1)
    assert histogram("huleedu_test_taken", "x", (), (1.0,)) is unseen  # told once
    assert REGISTRY.get_sample_value("huleedu_test_taken") == 1
    with warnings.catch_warnings():  # also where warnings are errors, the second import succeeds
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning):
            counter("huleedu_test_taken", "x")
        counter("huleedu_test_taken", "x").inc()


EXTRAS = [
    ("kafka", "aiokafka.errors"),
    ("redis", "redis"),
    ("tracing", "opentelemetry.sdk.trace"),
    ("di", "dishka"),
    ("resilience", "tenacity"),
    ("http", "aiohttp"),
]


@pytest.mark.parametrize(("extra", "missing"), EXTRAS)
def test_a_missing_package_of_an_extra_is_told_as_such(extra: str, missing: str) -> None:
    """The text says what to install, and which module asked."""
    with (
        pytest.raises(MissingExtraError, match=rf"^mine needs '{missing}'.*huleedu-service-libs\[{extra}\]"),
        requires_extra(extra, module="mine"),
    ):
        raise ModuleNotFoundError("absent", name=missing)


@pytest.mark.parametrize(
    ("extra", "missing"),
    [
        ("kafka", "async_timeout"),
        ("redis", "rediscluster"),
        ("tracing", "opentelemetry"),
        ("di", "aiokafka"),
        ("di", None),
    ],
)
def test_any_other_missing_module_speaks_for_itself(extra: str, missing: str | None) -> None:
    """What our extra does not bring, it would not repair: the original error passes."""
    error = ModuleNotFoundError("absent", name=missing)
    with pytest.raises(ModuleNotFoundError) as caught, requires_extra(extra, module="mine"):
        raise error
    assert caught.value is error


def test_every_extra_is_known() -> None:
    """The table has a row for each extra that the distribution offers."""
    offered = metadata("huleedu-service-libs").get_all("Provides-Extra") or []
    assert set(_extras._BROUGHT_BY) == set(offered) - {"all"}


def test_abilities_are_looked_up_on_the_class() -> None:
    """An attribute of the instance, such as a mock answers with, is no ability of the class."""

    class Able:
        async def publish_batch(self) -> None:
            """Do it."""

    able, unable = Able(), object()
    assert concrete_capability(able, "publish_batch") is not None
    assert concrete_capability(unable, "publish_batch") is None


def test_an_outcome_without_error_is_an_acknowledgement() -> None:
    """Only the absence of an error counts as acknowledged."""
    assert DeliveryOutcome().acknowledged
    assert not DeliveryOutcome(error=ValueError(), attempted=False).acknowledged
