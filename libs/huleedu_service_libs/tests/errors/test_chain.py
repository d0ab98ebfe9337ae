"""Three processes, HTTP and Kafka between them: the third one's error shows the first request's correlation id."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from huleedu_service_libs.testing.pytest_plugin import TopicFactory

from .applications import CORRELATION, HEADERS, TRACE

SCRIPT = Path(__file__).with_name("chain.py")


@contextmanager
def _service(role: str, environment: dict[str, str], *sockets: socket.socket) -> Iterator[subprocess.Popen[str]]:
    handles = [each.fileno() for each in sockets]
    listen = {"LISTEN_FD": str(handles[0])} if handles else {}
    process = subprocess.Popen(  # noqa: S603  # our own script
        [sys.executable, str(SCRIPT), role],
        env={**os.environ, **environment, **listen},
        pass_fds=handles,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=20)


def _listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def _lines(process: subprocess.Popen[str], timeout: float) -> list[dict[str, Any]]:
    output, _ = process.communicate(timeout=timeout)
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


@pytest.mark.integration
async def test_the_third_service_knows_the_first_request(
    real_kafka: object, kafka_bootstrap_servers: str, kafka_topic: TopicFactory
) -> None:
    """Over HTTP to a Quart service, HTTP to a FastAPI service and Kafka to a consumer: one id, one trace, one error each."""
    with ExitStack() as stack:
        one, two = stack.enter_context(_listening()), stack.enter_context(_listening())
        environment = {
            "BOOTSTRAP": kafka_bootstrap_servers,
            "TOPIC": kafka_topic("chain"),
            "SECOND_URL": f"http://127.0.0.1:{two.getsockname()[1]}/essays",
        }
        third = stack.enter_context(_service("third", environment))
        second = stack.enter_context(_service("second", environment, two))
        first = stack.enter_context(_service("first", environment, one))
        async with httpx.AsyncClient(timeout=60) as http:
            response = await http.post(f"http://127.0.0.1:{one.getsockname()[1]}/ask", headers=HEADERS)
        told = response.json()["error"]
        logged = {"third": _lines(third, 60)}
        for name, process in (("second", second), ("first", first)):
            process.terminate()
            logged[name] = _lines(process, 20)

    assert response.status_code == 404
    assert (told["code"], told["service"], told["correlation_id"]) == ("RESOURCE_NOT_FOUND", "second", CORRELATION)
    assert told["details"]["resource_id"] == "7"
    assert response.headers["X-Correlation-ID"] == CORRELATION
    assert response.headers["X-Trace-ID"] == TRACE
    errors = {name: [line for line in lines if "error.code" in line] for name, lines in logged.items()}
    assert {name: [line["error.code"] for line in lines] for name, lines in errors.items()} == {
        "first": ["RESOURCE_NOT_FOUND"],
        "second": ["RESOURCE_NOT_FOUND"],
        "third": ["UNKNOWN_ERROR"],
    }
    for (line,) in errors.values():
        assert (line["correlation_id"], line["trace_id"]) == (CORRELATION, TRACE)
    assert errors["third"][0]["error.service"] == "third"
    assert errors["third"][0]["error.details.offset"] == 0
