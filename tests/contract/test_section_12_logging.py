"""Section 12: how a service logs; each case in an interpreter of its own, whose standard output is looked at."""

import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from typing import Any

import pytest

from huleedu_service_libs.logging_utils import create_service_logger
from tests.contract.signatures import Wanted
from tests.contract.tables import signatures

START = """
import os
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger, log_event_processing
logger = create_service_logger("svc.module")
"""


@pytest.mark.parametrize("wanted", signatures(12), ids=str)
def test_signature(wanted: Wanted) -> None:
    """Callers of the earlier library may stay as they are."""
    assert wanted.faults() == []


def run(code: str, **variables: str) -> list[str]:
    """The lines that ``code`` writes to standard output; ``logger`` exists, and nothing is configured."""
    kept = {key: value for key, value in os.environ.items() if key not in {"SERVICE_NAME", "ENVIRONMENT"}}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", START + code],
        env=kept | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def objects(code: str, **variables: str) -> list[dict[str, Any]]:
    """The same, as JSON."""
    return [json.loads(line) for line in run(code, **variables)]


@pytest.mark.contract("12-before-configuration")
def test_before_anything_is_configured() -> None:
    """A logger is made and used, with a name and without."""
    create_service_logger("svc.module").info("event", key=1)
    create_service_logger().debug("without a name")
    create_service_logger(name="n").bind(x=1).warning("bound")
    (line,) = [one for one in run("logger.info('hello', key=7)") if "hello" in one]
    assert "7" in line


@pytest.mark.contract("12-configured-later", "12-json-lines", "12-json-keys", "12-timestamp")
def test_lines_for_machines() -> None:
    """A logger of the import writes JSON once production is configured: keys, keywords, context variables."""
    code = """
configure_service_logging("svc", environment="production")
import structlog
structlog.contextvars.bind_contextvars(request="r-1")
def work():
    logger.info("done", essay_id="e-1", number=3)
work()
"""
    (line,) = objects(code)
    assert (line["event"], line["level"], line["logger_name"]) == ("done", "info", "svc.module")
    assert (line["func_name"], type(line["lineno"]), type(line["filename"])) == ("work", int, str)
    assert (line["essay_id"], line["number"], line["request"]) == ("e-1", 3, "r-1")
    assert datetime.fromisoformat(line["timestamp"]).utcoffset() == timedelta(0)


@pytest.mark.contract("12-call-styles", "12-extra", "12-exception")
def test_every_style_of_call() -> None:
    """Six levels, nested `extra`, an exception's text, arguments put in their places, and `bind`."""
    code = """
configure_service_logging(service_name="svc", environment="production", log_level="debug")
for name in ("debug", "info", "warning", "error", "critical"):
    getattr(logger, name)(name, key=1)
logger.info("extra", extra={"a": {"b": 1}})
try:
    {}["lost"]
except KeyError:
    logger.error("failed", exc_info=True)
    logger.exception("excepted")
logger.warning("%s of %d", "one", 2)
logger.bind(batch="b-1").info("bound")
"""
    found = {line["event"]: line for line in objects(code)}
    levels = ("debug", "info", "warning", "error", "critical")
    assert [found[name]["level"] for name in levels] == list(levels)
    assert found["extra"]["extra"] == {"a": {"b": 1}}
    for name in ("failed", "excepted"):
        assert (found[name]["level"], "KeyError: 'lost'" in found[name]["exception"]) == ("error", True)
    assert (found["one of 2"]["level"], found["bound"]["batch"]) == ("warning", "b-1")


@pytest.mark.contract("12-console", "12-environment")
@pytest.mark.parametrize(
    ("variables", "argument", "machines"),
    [
        ({}, "", False),
        ({"ENVIRONMENT": "production"}, "", True),
        ({"ENVIRONMENT": "production"}, ", environment='development'", False),
        ({"ENVIRONMENT": "testing"}, ", environment='production'", True),
    ],
    ids=["default", "variable", "argument", "argument-production"],
)
def test_lines_for_people_or_machines(variables: dict[str, str], argument: str, *, machines: bool) -> None:
    """JSON in production only; the argument wins over the variable."""
    (line,) = run(f"configure_service_logging('svc'{argument}); logger.info('hello')", **variables)
    assert "hello" in line
    assert line.startswith("{") == machines


@pytest.mark.contract("12-sets-variables")
@pytest.mark.parametrize("variables", [{}, {"SERVICE_NAME": "own", "ENVIRONMENT": "staging"}], ids=["unset", "set"])
def test_variables_of_the_process(variables: dict[str, str]) -> None:
    """Set where they were not."""
    code = "configure_service_logging('svc'); print(os.environ['SERVICE_NAME'], os.environ['ENVIRONMENT'])"
    assert run(code, **variables) == [" ".join(variables.values()) or "svc development"]


@pytest.mark.contract("12-levels", "12-repeated")
def test_levels() -> None:
    """INFO unless said otherwise, in any case of letters; configured again, the new level counts."""
    code = """
for options in ({}, {"log_level": "warning"}, {"log_level": "DEBUG"}, {"log_level": "Error"}):
    configure_service_logging("svc", environment="production", **options)
    for name in ("debug", "info", "warning", "error"):
        getattr(logger, name)(name + str(options.get("log_level", "")))
"""
    assert [line["event"] for line in objects(code)] == [
        "info",
        "warning",
        "error",
        "warningwarning",
        "errorwarning",
        "debugDEBUG",
        "infoDEBUG",
        "warningDEBUG",
        "errorDEBUG",
        "errorError",
    ]


@pytest.mark.contract("12-event-context", "12-event-line")
def test_an_event_is_processed() -> None:
    """One line at info with the class of the data; its identity is on all later lines, the context on this one only."""
    code = """
configure_service_logging("svc", environment="production")
from common_core.events.envelope import EventEnvelope
from pydantic import BaseModel
class Essay(BaseModel):
    id: str
first = EventEnvelope(event_type="e.v1", source_service="a", data=Essay(id="1"))
second = EventEnvelope(event_type="e.v2", source_service="b", data={})
log_event_processing(logger=logger, message="processing", envelope=first, attempt=2)
logger.info("later")
log_event_processing(logger, "processing", second)
print('{"ids": ["%s", "%s", "%s"]}' % (first.event_id, first.correlation_id, second.event_id))
"""
    one, later, two, ids = objects(code)
    first, correlation, other = ids["ids"]
    assert (one["event"], one["level"], one["event_data_type"], one["attempt"]) == ("processing", "info", "Essay", 2)
    expected = {"event_id": first, "correlation_id": correlation, "event_type": "e.v1", "source_service": "a"}
    assert expected.items() <= one.items()
    assert expected.items() <= later.items()
    assert "attempt" not in later
    assert (two["event_id"], two["event_type"], two["event_data_type"]) == (other, "e.v2", "dict")
