"""What the running services do: keys, ids, series and tables."""

import json
from collections.abc import Awaitable, Callable
from uuid import NAMESPACE_OID, uuid5

import httpx
import pytest

from essay_pipeline.demo.clients import User
from essay_pipeline.demo.processes import PipelineProcesses
from essay_pipeline.demo.readback import read_database, read_topic
from huleedu_service_libs.redis_client import RedisClient

from .example import COLUMNS

Connect = Callable[[], Awaitable[User]]
Submit = Callable[..., Awaitable[httpx.Response]]


@pytest.mark.integration
async def test_an_event_is_claimed_under_its_key(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """After an essay's way there is a completed record for each consumer and event, in Redis, under the common keys."""
    user = await connect()
    essay_id = (await submit(user)).json()["essay_id"]
    await user.wait_for("essay.checked", essay_id)
    prefix = f"{pipeline.namespace}huleedu:idempotency:v2:"
    async with RedisClient(client_id="rules", redis_url=pipeline.servers.redis.address) as redis:
        records = {key: json.loads(await redis.get(key) or "{}") for key in await redis.scan_pattern(f"{prefix}*")}
    services = {key.removeprefix(prefix).partition(":")[0] for key in records}
    assert services == {"spellcheck-service", "notify-service"}
    assert "completed" in {record["status"] for record in records.values()}


@pytest.mark.integration
async def test_event_ids_come_from_content(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """Both records of an essay are envelopes in JSON, whose ids are derived from the essay's and from the cause's."""
    user = await connect()
    answer = (await submit(user)).json()
    await user.wait_for("essay.checked", answer["essay_id"])
    bodies = []
    for topic in pipeline.topics:
        records = await read_topic(pipeline.servers.kafka.address, topic)
        (body,) = [json.loads(each.value) for each in records if each.key == answer["essay_id"].encode()]
        bodies.append(body)
    submitted, checked = bodies
    assert submitted["event_id"] == str(uuid5(NAMESPACE_OID, f"{answer['essay_id']}:{submitted['event_type']}"))
    assert checked["event_id"] == str(uuid5(NAMESPACE_OID, f"{submitted['event_id']}:{checked['event_type']}"))
    assert answer["event_id"] == submitted["event_id"]


@pytest.mark.integration
async def test_critical_queries_are_timed(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """The insertion that a request waits for, and the one that keeps a result single, have series of their own."""
    user = await connect()
    await user.wait_for("essay.checked", (await submit(user)).json()["essay_id"])
    for url, name, table in (
        (pipeline.intake_url, "intake", "essays"),
        (pipeline.spellcheck_url, "spellcheck", "spellcheck_results"),
    ):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        series = f'{name}_service_database_query_duration_seconds_count{{operation="insert",'
        values = [float(line.split()[-1]) for line in lines if line.startswith(series) and f'table="{table}"' in line]
        assert sum(values) >= 1, f"{series} table={table}"


@pytest.mark.integration
async def test_collectors_have_the_common_labels(pipeline: PipelineProcesses) -> None:
    """Requests of all three services are counted by `method`, `endpoint` and `status`."""
    for url in (pipeline.intake_url, pipeline.spellcheck_url, pipeline.notify_url):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            await http.get("/healthz")
            lines = (await http.get("/metrics")).text.splitlines()
        counted = [line for line in lines if line.startswith("http_server_request_duration_seconds_count{")]
        assert counted
        assert all(f'{label}="' in line for line in counted for label in ("method", "endpoint", "status"))


@pytest.mark.integration
async def test_breakers_have_their_metrics(pipeline: PipelineProcesses) -> None:
    """Both services that publish tell the state of their breaker."""
    for url, name in ((pipeline.intake_url, "intake"), (pipeline.spellcheck_url, "spellcheck")):
        async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
            lines = (await http.get("/metrics")).text.splitlines()
        assert any(line.startswith("circuit_breaker_state{") and f"{name}-service" in line for line in lines)


@pytest.mark.integration
async def test_the_outbox_has_its_columns(pipeline: PipelineProcesses) -> None:
    """The outbox of both services has these columns and no other."""
    query = "SELECT column_name::text FROM information_schema.columns WHERE table_name = 'event_outbox'"
    for name in ("intake", "spellcheck"):
        rows = await read_database(pipeline.databases[name], {"columns": query})
        assert {column for (column,) in rows["columns"]} == set(COLUMNS.split(", "))
