"""Section 13: the application class with places for what services hold."""

from typing import Any

import pytest
from quart import Quart

import huleedu_service_libs
from huleedu_service_libs.quart_app import HuleEduApp
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

NONE = (
    "tracer",
    "consumer_task",
    "kafka_consumer",
    "event_publisher",
    "relay_worker",
    "consumer_monitor_task",
    "relay_task",
)
ABSENT = ("database_engine", "container")


@pytest.mark.parametrize("wanted", signatures(13), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


@pytest.mark.contract("13-subclass-of-quart", "13-arguments")
def test_the_class() -> None:
    """An application of Quart's, by either path, that takes Quart's arguments and can be subclassed."""

    class Own(HuleEduApp):
        """As one service does."""

    assert huleedu_service_libs.HuleEduApp is HuleEduApp
    app = Own(__name__, static_url_path="/files")
    assert isinstance(app, Quart)
    assert (app.import_name, app.static_url_path) == (__name__, "/files")


@pytest.mark.contract("13-initial-values", "13-not-set", "13-annotations")
def test_places() -> None:
    """With their initial values; engine and container are absent; all are annotated."""
    app = HuleEduApp("x")
    assert {name: getattr(app, name) for name in NONE} == dict.fromkeys(NONE)
    assert app._consumer_shutdown_requested is False
    assert app.extensions == {}
    assert [name for name in ABSENT if hasattr(app, name)] == []
    annotated = HuleEduApp.__annotations__
    assert {*NONE, *ABSENT, "extensions", "_consumer_shutdown_requested"} <= set(annotated)


@pytest.mark.contract("13-extensions", "13-further-attributes", "13-not-set")
def test_what_services_put_there() -> None:
    """Anything, in each application apart."""
    first, second = HuleEduApp("x"), HuleEduApp("y")
    for key in ("metrics", "tracer", "relay_worker", "db_metrics", "health_checker", "QUART_DISHKA", "queue_processor"):
        first.extensions[key] = object()
    assert second.extensions == {}
    further: Any = first
    further.timeout_monitor = further.database_engine = further.container = marker = object()
    assert (further.timeout_monitor, hasattr(first, "database_engine"), hasattr(first, "container")) == (
        marker,
        True,
        True,
    )
    assert not hasattr(second, "database_engine")
