"""What a line goes through: before configuration, into a full disk, with secrets in it, and from where it came."""

import json
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog

from huleedu_service_libs._log_pipeline import sink
from huleedu_service_libs._log_pipeline.cleaning import clean_event, clean_into
from huleedu_service_libs._log_pipeline.logger import set_threshold
from huleedu_service_libs._log_pipeline.places import Places
from huleedu_service_libs._redaction import RedactionPolicy, configure_redaction
from huleedu_service_libs.logging_utils import create_service_logger

LOGGER = create_service_logger("early")


@pytest.fixture(autouse=True)
def _unconfigured() -> None:
    """As a program that never called `configure_service_logging`."""
    set_threshold(logging.NOTSET)


def _fail_with_much_in_hand() -> None:
    password = "hunter2-in-a-local"
    rows = [{"row": number, "text": "x" * 200} for number in range(20_000)]
    raise RuntimeError(f"broken after {len(rows)} rows, postgresql://u:hunter2-in-a-url@db/x, {len(password)}")


@pytest.mark.parametrize("environment", ["production", "development"])
def test_a_traceback_before_configuration_is_quick_and_tells_no_locals(
    environment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Structlog's own default would draw every local variable, for seconds; ours prints what the interpreter would."""
    monkeypatch.setenv("ENVIRONMENT", environment)
    started = time.process_time()
    try:
        _fail_with_much_in_hand()
    except RuntimeError:
        LOGGER.exception("failed", api_key="hunter2-in-a-field")
    assert time.process_time() - started < 1
    out = capsys.readouterr().out
    assert "RuntimeError: broken after 20000 rows" in out
    assert "hunter2" not in out


def test_before_configuration_the_environment_decides(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """JSON in production, lines for people elsewhere; every level is written while nobody has chosen one."""
    LOGGER.debug("for people", essay_id="e")
    monkeypatch.setenv("ENVIRONMENT", "production")
    monkeypatch.setenv("SERVICE_NAME", "essay-service")
    LOGGER.debug("for machines")
    people, machines = capsys.readouterr().out.splitlines()
    assert "essay_id=e" in people
    assert json.loads(machines).items() >= {"service_name": "essay-service", "service_version": "1.0.0"}.items()


def test_capture_logs_leaves_the_safe_default_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """After structlog's test tool structlog counts as configured; ours still draws the line."""
    with structlog.testing.capture_logs() as captured:
        LOGGER.info("caught")
    LOGGER.info("written", password="hunter2")
    assert [each["event"] for each in captured] == ["caught"]
    assert "hunter2" not in capsys.readouterr().out


FULL = """
import logging
from huleedu_service_libs.logging_utils import configure_service_logging, create_service_logger, swallowed_failures
configure_service_logging("svc", "production")
for _ in range(100):
    create_service_logger("x").info("a line", text="x" * 500)
    logging.getLogger("y").warning("another")
import sys
sys.stderr.write(str(swallowed_failures()))
"""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has /dev/full")
def test_a_full_disk_costs_lines_and_nothing_else() -> None:
    """Each line that does not fit is counted; the process goes on and ends well."""
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run([sys.executable, "-c", FULL], stdout=full, stderr=subprocess.PIPE, check=False)  # noqa: S603  # our own
    assert (ended.returncode, ended.stderr) == (0, b"200")


def test_lines_of_several_threads_stay_whole(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also when the system takes a line in parts."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:7]))
    path = tmp_path / "out"
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        threads = [threading.Thread(target=sink.write_line, args=(str(number) * 50,)) for number in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(path.read_text().splitlines()) == [str(number) * 50 for number in range(8)]


def test_a_torn_line_does_not_take_the_next_one_with_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a line ended in the middle, the next begins on a line of its own, and the loss is counted."""
    real, path = os.write, tmp_path / "out"
    left = [3, 0, 100, 1_000]
    monkeypatch.setattr(sink, "PATIENCE_S", 0.0)

    def reluctant(descriptor: int, data: bytes) -> int:
        if not (size := left.pop(0)):
            raise BlockingIOError
        return real(descriptor, data[:size])

    monkeypatch.setattr(os, "write", reluctant)
    before = sink.swallowed_failures()
    with path.open("w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        sink.write_line("first line")
        sink.write_line("second line")
    first, second, told = path.read_text().splitlines()
    assert (first, second) == ("fir", "second line")
    assert "log_lines_lost" in told
    assert sink.swallowed_failures() == before + 1


@pytest.mark.parametrize("name", ["timestamp", "level", "filename", "func_name", "lineno"])
def test_a_field_with_a_name_of_ours_is_kept_beside_it(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A caller's `level` is not the level of the line; nor is one in the context."""
    monkeypatch.setenv("ENVIRONMENT", "production")
    LOGGER.info("x", **{name: "mine"})
    with structlog.contextvars.bound_contextvars(**{name: "of the context"}):
        LOGGER.info("x")
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line[f"{name}_"] for line in shown] == ["mine", "of the context"]
    assert "mine" not in (shown[0][name], shown[1][name])


@pytest.mark.parametrize(
    "value",
    [
        "password=hunter2",
        "redis://:hunter2@host",
        "Bearer hunter2hunter2",
        "bearer\thunter2hunter2",
        "eyJhunter2.hunter2.hunter2",
        "('authorization', 'hunter2')",
        ["redis://:hunter2@host"],
        {"token": "hunter2"},
        ValueError("password=hunter2"),
    ],
)
def test_a_secret_in_a_value_is_found_beside_harmless_ones(value: Any) -> None:
    """The quick look lets nothing through that a rule would have found, in fields and in events."""
    line: dict[str, Any] = {}
    clean_into(line, {"essay_id": str(uuid4()), "detail": value, "count": 3})
    assert "hunter2" not in str(line)
    assert line["count"] == 3
    assert "hunter2" not in str(clean_event(value))


def test_a_changed_policy_forgets_what_was_harmless() -> None:
    """Names and events that were looked at before are looked at anew."""
    line: dict[str, Any] = {}
    clean_into(line, {"nickname": "kalle"})
    clean_event("mail of kalle@example.org")
    configure_redaction(RedactionPolicy(emails=True, names=frozenset({"Nick-Name"})))
    try:
        clean_into(line, {"nickname": "kalle"})
        assert line == {"nickname": "***"}
        assert clean_event("mail of kalle@example.org") == "mail of ***"
    finally:
        configure_redaction(RedactionPolicy())


CODE = """
def a(): return b()
def b(): return c()
def c(): return d()
def d(): return e()
def e(): return places()
"""


def test_code_that_is_made_as_it_runs_does_not_fill_the_memory() -> None:
    """What is known of pieces of code has a bound."""
    places = Places()
    for _ in range(5_000):
        scope: dict[str, Any] = {"places": places, "__name__": "made"}
        exec(CODE, scope)  # noqa: S102  # that is the point
        scope["a"]()
    assert len(places._known) <= 4_096
