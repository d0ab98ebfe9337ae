"""*intake* over HTTP: what it takes, what it refuses and how it says so."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.processes import PipelineProcesses
from essay_pipeline.demo.readback import read_database, read_topic

pytestmark = pytest.mark.integration

Connect = Callable[[], Awaitable[User]]
Submit = Callable[..., Awaitable[httpx.Response]]

TEXT = "Yesterday I recieved a letter from my freind, who lives in a small village by the sea."
GOOD = {"title": "A letter", "language": "en", "text": TEXT}


async def test_an_essay_is_accepted(connect: Connect, submit: Submit) -> None:
    """A valid essay gives 202 with ids and times, and ids of the request in the headers."""
    correlation_id = str(uuid4())
    response = await submit(await connect(), headers={"X-Correlation-ID": correlation_id})

    answer = response.json()
    assert response.status_code == 202
    assert set(answer) == {"essay_id", "event_id", "correlation_id", "received_at", "stored_at"}
    assert answer["correlation_id"] == correlation_id == response.headers["X-Correlation-ID"]
    assert len(response.headers["X-Trace-ID"]) == 32
    assert answer["received_at"] <= answer["stored_at"]


async def test_a_trace_goes_on(connect: Connect, submit: Submit) -> None:
    """The trace id of an incoming ``traceparent`` is the one that is answered."""
    trace_id = uuid4().hex
    response = await submit(await connect(), headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})

    assert response.headers["X-Trace-ID"] == trace_id


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**GOOD, "text": "Too short."}, "text"),
        ({**GOOD, "text": "long " * 5_000}, "text"),
        ({**GOOD, "text": f"NUL \0 {TEXT}"}, "text"),
        ({**GOOD, "language": "de"}, "language"),
        ({**GOOD, "title": "   "}, "title"),
        ({**GOOD, "title": "x" * 201}, "title"),
        ({"title": "No text", "language": "en"}, "text"),
        ({**GOOD, "extra": 1}, "extra"),
        ({**GOOD, "text": 7}, "text"),
    ],
)
async def test_faulty_essays_are_refused(
    connect: Connect, intake: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    """400, and the body names the field and what is wrong with it."""
    user = await connect()
    response = await intake.post("/v1/essays", json=body, headers={"X-User-Token": user.token})

    error = response.json()["error"]
    assert response.status_code == 400
    assert set(error) == {"code", "message", "correlation_id", "service", "timestamp", "details"}
    assert error["code"] == "VALIDATION_ERROR"
    assert error["service"] == "intake-service"
    assert error["correlation_id"] == response.headers["X-Correlation-ID"]
    assert error["message"].startswith(f"{field}: ")
    assert [fault["field"] for fault in error["details"]["errors"]] == [field]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff\xfe", b'{"title": "\\ud800"}'])
async def test_what_is_not_json_is_refused(connect: Connect, intake: httpx.AsyncClient, body: bytes) -> None:
    """400 for bodies that are no JSON object, broken UTF-8 and lone surrogates included."""
    user = await connect()
    response = await intake.post("/v1/essays", content=body, headers={"X-User-Token": user.token})

    assert response.status_code == 400
    assert response.json()["error"]["code"] == "VALIDATION_ERROR"


async def test_large_bodies_are_refused(connect: Connect, intake: httpx.AsyncClient) -> None:
    """More than 64 KiB gives 413, and the error says how much is allowed."""
    user = await connect()
    response = await intake.post("/v1/essays", content=b"x" * 65_537, headers={"X-User-Token": user.token})

    assert response.status_code == 413
    assert "65536 bytes" in response.json()["error"]["message"]


@pytest.mark.parametrize("token", [None, "", "user-1", "user-1.", ".x", "user-1.AAAA", "x" * 500])
async def test_wrong_tokens_are_refused(intake: httpx.AsyncClient, token: str | None) -> None:
    """401 without a token that *notify* has signed, and the token is not repeated."""
    headers = {} if token is None else {"X-User-Token": token}
    response = await intake.post("/v1/essays", json=GOOD, headers=headers)

    error = response.json()["error"]
    assert response.status_code == 401
    assert error["code"] == "AUTHENTICATION_ERROR"
    assert not token or token not in error["message"]


async def test_a_token_for_somebody_else_is_refused(connect: Connect, intake: httpx.AsyncClient) -> None:
    """One user's signature does not make a token of another user."""
    first, second = await connect(), await connect()
    forged = f"{second.user_id}.{first.token.rpartition('.')[2]}"
    response = await intake.post("/v1/essays", json=GOOD, headers={"X-User-Token": forged})

    assert response.status_code == 401


async def test_correlation_ids_must_be_uuids(connect: Connect, submit: Submit) -> None:
    """Events carry the correlation id as a UUID, so other ids are refused by name."""
    response = await submit(await connect(), headers={"X-Correlation-ID": "request-7"})

    assert response.status_code == 400
    assert "X-Correlation-ID" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [("GET", "/v1/nothing", 404, "RESOURCE_NOT_FOUND"), ("PUT", "/v1/essays", 405, "INVALID_REQUEST")],
)
async def test_unknown_places_answer_in_the_same_form(
    intake: httpx.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    """Unknown paths and wrong methods keep their status and get the common error body."""
    response = await intake.request(method, path)

    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    UUID(response.json()["error"]["correlation_id"])


async def test_the_page_may_call(pipeline: PipelineProcesses, intake: httpx.AsyncClient) -> None:
    """A preflight from the page's origin is granted for the headers that the page sends."""
    response = await intake.options(
        "/v1/essays",
        headers={"Origin": pipeline.notify_url, "Access-Control-Request-Method": "POST"},
    )

    allowed = response.headers["Access-Control-Allow-Headers"].lower()
    assert response.is_success
    assert response.headers["Access-Control-Allow-Origin"] == pipeline.notify_url
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert all(name in allowed for name in ("content-type", "x-user-token", "x-correlation-id", "traceparent"))


async def test_errors_can_be_read_by_the_page(pipeline: PipelineProcesses, intake: httpx.AsyncClient) -> None:
    """Errors carry the CORS header, too; else a browser would hide them from the page."""
    response = await intake.post("/v1/essays", json=GOOD, headers={"Origin": pipeline.notify_url})

    assert response.status_code == 401
    assert response.headers["Access-Control-Allow-Origin"] == pipeline.notify_url


async def test_other_pages_may_not_call(intake: httpx.AsyncClient) -> None:
    """A foreign origin gets no permission."""
    response = await intake.options("/v1/essays", headers={"Origin": "http://example.org"})

    assert "Access-Control-Allow-Origin" not in response.headers
    assert response.headers["Vary"] == "Origin"


async def test_a_rolled_back_essay_leaves_nothing(
    pipeline: PipelineProcesses, connect: Connect, submit: Submit
) -> None:
    """409, and neither essay nor event exists, although both had been written."""
    user = await connect()
    refused = await submit(user, headers={"X-Demo-Rollback": "1"})
    after = await submit(user)
    await user.wait_for("essay.checked", after.json()["essay_id"])

    error = refused.json()["error"]
    essay_id = error["details"]["essay_id"]
    rows = await read_database(
        pipeline.databases["intake"],
        {"essays": "SELECT id::text FROM essays", "outbox": "SELECT aggregate_id FROM event_outbox"},
    )
    records = await read_topic(pipeline.servers.kafka.address, pipeline.topics[0])
    assert refused.status_code == 409
    assert error["code"] == "PROCESSING_ERROR"
    assert (essay_id,) not in rows["essays"] + rows["outbox"]
    assert (after.json()["essay_id"],) in rows["essays"]
    assert essay_id.encode() not in {record.key for record in records}
    assert after.json()["essay_id"].encode() in {record.key for record in records}


async def test_health_and_metrics(pipeline: PipelineProcesses) -> None:
    """Each service reports its parts as healthy, is live and ready, and exposes its collectors."""
    shared = {"redis", "kafka", "event_loop"}
    with_outbox = {*shared, "database", "relay", "outbox", "circuit_breakers"}
    expected = {
        pipeline.intake_url: with_outbox,
        pipeline.spellcheck_url: {*with_outbox, "consumer"},
        pipeline.notify_url: {*shared, "consumer"},
    }
    async with httpx.AsyncClient(trust_env=False) as client:
        for url, names in expected.items():
            health = await client.get(f"{url}/healthz")
            probes = [await client.get(f"{url}/healthz/{name}") for name in ("live", "ready", "startup", "details")]
            metrics = await client.get(f"{url}/metrics")

            assert health.status_code == 200
            assert health.json()["status"] == "healthy"
            assert health.json()["checks"] == dict.fromkeys(names, "ok")
            assert [probe.json()["status"] for probe in probes] == ["pass"] * 4
            assert "python_info" in metrics.text
            assert metrics.headers["Content-Type"].startswith("text/plain")


async def test_database_health_and_figures(pipeline: PipelineProcesses) -> None:
    """Both services with a database tell how it is, and what they did with it, without a line of theirs for it."""
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in (pipeline.intake_url, pipeline.spellcheck_url):
            report = await client.get(f"{url}/healthz/database")
            metrics = await client.get(f"{url}/metrics")

            assert report.status_code == 200
            assert report.json()["overall_status"] == "healthy"
            assert report.json()["checks"]["connection_pool"]["total_capacity"] == 20
            assert 'database_statement_duration_seconds_count{operation="select"' in metrics.text
            assert "_database_connections_active" in metrics.text
