"""One essay's whole way through three processes and real servers."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis.asyncio import Redis
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from essay_pipeline.demo.clients import User, send_fences
from essay_pipeline.demo.processes import PipelineProcesses
from essay_pipeline.demo.readback import as_event, read_database, read_topic, replay, wait_until_consumed

pytestmark = pytest.mark.integration

Connect = Callable[[], Awaitable[User]]
Submit = Callable[..., Awaitable[httpx.Response]]

STAGES = (
    "received_at",
    "stored_at",
    "relayed_at",
    "checking_at",
    "checked_at",
    "result_stored_at",
    "result_relayed_at",
    "notified_at",
)
SWEDISH = "Jag fick ett brevv från min vän igår, och det handlade om hans långa resa till fjällen."
KAFKA_CUT = timedelta(milliseconds=1)  # Kafka's times are whole milliseconds


async def settle(pipeline: PipelineProcesses, *users: User) -> None:
    """Wait until every event is consumed and every notification has arrived."""
    submitted, checked = pipeline.topics
    spellcheck, notify = pipeline.groups
    async with asyncio.timeout(30):
        await wait_until_consumed(
            pipeline.servers.kafka.address,
            {spellcheck: [submitted], notify: [submitted, checked]},
            check=pipeline.check_alive,
        )
        for user in users:
            user.fenced.clear()
        await send_fences(pipeline.servers.redis.address, pipeline.namespace, users)
        for user in users:
            await user.fenced.wait()


def lines_about(log: str, correlation_id: str) -> list[dict[str, Any]]:
    """The log lines that carry a correlation id; one that is still being written has no end yet."""
    lines = (json.loads(line) for line in log.rpartition("\n")[0].splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("correlation_id") == correlation_id]


async def test_an_essay_travels_stage_by_stage(connect: Connect, submit: Submit) -> None:
    """The user hears "accepted" and then "checked", with every stage's time, in order."""
    user = await connect()
    essay_id = (await submit(user)).json()["essay_id"]
    checked = (await user.wait_for("essay.checked", essay_id)).message["data"]

    times = [datetime.fromisoformat(checked["stages"][stage]) for stage in STAGES]
    assert [arrival.event for arrival in user.arrivals] == ["essay.accepted", "essay.checked"]
    assert set(user.arrivals[0].message["data"]["stages"]) == {"received_at", "stored_at", "relayed_at", "notified_at"}
    assert set(checked["stages"]) == set(STAGES)
    assert all(later - earlier > -KAFKA_CUT for earlier, later in pairwise(times))
    assert all(len(text) == len("2026-01-01T00:00:00.000000+00:00") for text in checked["stages"].values())


async def test_misspellings_are_found_where_they_stand(connect: Connect, submit: Submit) -> None:
    """The result names word, place and suggestions; the places fit the text that was sent."""
    user = await connect()
    text = "Yesterday I recieved a letter from my freind, who lives in a small village by the sea."
    essay_id = (await submit(user, text)).json()["essay_id"]
    checked = (await user.wait_for("essay.checked", essay_id)).message["data"]

    found = {each["word"]: each for each in checked["misspellings"]}
    assert checked["language"] == "en"
    assert checked["word_count"] == 17
    assert set(found) == {"recieved", "freind"}
    assert all(text[each["start"] : each["end"]] == word for word, each in found.items())
    assert "received" in found["recieved"]["suggestions"]
    assert "friend" in found["freind"]["suggestions"]


async def test_swedish_survives_the_way(connect: Connect, submit: Submit) -> None:
    """Å, ä and ö come back as they were, and the Swedish dictionary judges them."""
    user = await connect()
    essay_id = (await submit(user, SWEDISH, "sv")).json()["essay_id"]
    checked = (await user.wait_for("essay.checked", essay_id)).message["data"]

    assert [SWEDISH[each["start"] : each["end"]] for each in checked["misspellings"]] == ["brevv"]
    assert "brev" in checked["misspellings"][0]["suggestions"]


async def test_correlation_and_trace_reach_every_log(
    pipeline: PipelineProcesses, connect: Connect, submit: Submit
) -> None:
    """One request's correlation id and trace id stand in the logs of all three processes and in the notification."""
    user, correlation_id, trace_id = await connect(), str(uuid4()), uuid4().hex
    headers = {"X-Correlation-ID": correlation_id, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    essay_id = (await submit(user, headers=headers)).json()["essay_id"]
    checked = (await user.wait_for("essay.checked", essay_id)).message["data"]
    await settle(pipeline, user)

    assert (checked["correlation_id"], checked["trace_id"]) == (correlation_id, trace_id)
    for name, event in (("intake", "essay_stored"), ("spellcheck", "essay_checked"), ("notify", "user_notified")):
        lines = lines_about(pipeline.logs[name].text(), correlation_id)
        assert event in {line["event"] for line in lines}
        assert {line["trace_id"] for line in lines} == {trace_id}


async def test_events_carry_the_standard_headers(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """Both records have the essay as key, the standard headers and the trace of the request."""
    user, correlation_id, trace_id = await connect(), str(uuid4()), uuid4().hex
    headers = {"X-Correlation-ID": correlation_id, "traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    answer = (await submit(user, headers=headers)).json()
    await user.wait_for("essay.checked", answer["essay_id"])

    for topic, service in zip(pipeline.topics, ("intake-service", "spellcheck-service"), strict=True):
        (record,) = [
            each
            for each in await read_topic(pipeline.servers.kafka.address, topic)
            if each.key == answer["essay_id"].encode()
        ]
        sent = {name: value.decode() for name, value in record.headers}
        body = json.loads(record.value or b"")
        assert sent["event_id"] == body["event_id"]
        assert sent["event_type"] == body["event_type"] == topic.removeprefix(pipeline.namespace)
        assert sent["trace_id"] == body["correlation_id"] == correlation_id
        assert sent["source_service"] == service
        assert sent["traceparent"].split("-")[1] == trace_id
        assert body["metadata"]["traceparent"].split("-")[1] == trace_id


async def test_duplicates_have_no_second_effect(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """Delivered messages that come again are neither checked nor announced a second time."""
    user = await connect()
    essay_id = (await submit(user)).json()["essay_id"]
    await user.wait_for("essay.checked", essay_id)
    kafka = pipeline.servers.kafka
    for topic in pipeline.topics:
        mine = [each for each in await read_topic(kafka.address, topic) if as_event(each).essay_id == essay_id]
        await replay(kafka.address, mine * 3, idempotent=kafka.supports_idempotent_producer)
    await settle(pipeline, user)

    rows = await read_database(
        pipeline.databases["spellcheck"],
        {
            "runs": f"SELECT was_first FROM spellcheck_runs WHERE essay_id = '{essay_id}'",  # noqa: S608  # our own id
            "events": f"SELECT 1 FROM event_outbox WHERE aggregate_id = '{essay_id}'",  # noqa: S608
        },
    )
    assert rows["runs"] == [(True,)]
    assert len(rows["events"]) == 1
    assert [arrival.event for arrival in user.arrivals] == ["essay.accepted", "essay.checked"]


async def test_users_hear_only_of_their_own_essays(
    pipeline: PipelineProcesses, connect: Connect, submit: Submit
) -> None:
    """Of two users with open pages each gets the notifications of the own essays and no other."""
    first, second = await connect(), await connect()
    own = {user.user_id: (await submit(user)).json()["essay_id"] for user in (first, second, first, second)}
    for user in (first, second):
        await user.wait_for("essay.checked", own[user.user_id])
    await settle(pipeline, first, second)

    heard_first = {arrival.essay_id for arrival in first.arrivals}
    heard_second = {arrival.essay_id for arrival in second.arrivals}
    assert len(heard_first) == len(heard_second) == 2
    assert not heard_first & heard_second


async def test_both_pages_of_a_user_hear(pipeline: PipelineProcesses, connect: Connect, submit: Submit) -> None:
    """A user with the page open twice is told in both."""
    user = await connect()
    url = f"{pipeline.notify_url.replace('http', 'ws', 1)}/ws?token={user.token}"
    async with open_websocket(url, proxy=None) as second:
        assert json.loads(await second.recv())["event"] == "ready"
        essay_id = (await submit(user)).json()["essay_id"]
        await user.wait_for("essay.checked", essay_id)
        heard = [json.loads(await asyncio.wait_for(second.recv(), 10))["event"] for _ in range(2)]

    assert heard == ["essay.accepted", "essay.checked"]


@pytest.mark.parametrize("query", ["", "?token=", "?token=user-1.AAAA", "?token=user-1", "?token=%F0%9F%98%80.x"])
async def test_wrong_tokens_get_their_own_close_code(pipeline: PipelineProcesses, query: str) -> None:
    """A WebSocket without a valid token is closed with code 4401, and nothing is sent before."""
    async with open_websocket(f"{pipeline.notify_url.replace('http', 'ws', 1)}/ws{query}", proxy=None) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 10)

    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4401


async def test_a_closed_page_is_forgotten(pipeline: PipelineProcesses, connect: Connect) -> None:
    """When a client leaves, the gauge of open WebSockets goes back and its Redis channel has no listener."""
    stays = await connect()
    async with User.connected(pipeline.notify_url) as leaves, Redis.from_url(pipeline.servers.redis.address) as redis:
        channels = [f"ws:{stays.user_id}", f"ws:{leaves.user_id}"]
        assert [count for _, count in await redis.pubsub_numsub(*channels)] == [1, 1]
    async with asyncio.timeout(10), Redis.from_url(pipeline.servers.redis.address) as redis:
        while dict(await redis.pubsub_numsub(*channels))[channels[1].encode()]:
            pass
        assert [count for _, count in await redis.pubsub_numsub(*channels)] == [1, 0]


async def test_what_the_page_asks_for(pipeline: PipelineProcesses) -> None:
    """The page, its files, a new user at each look at the configuration, and the texts by id."""
    async with httpx.AsyncClient(base_url=pipeline.notify_url, trust_env=False) as http:
        first, second = [(await http.get("/config.json")).json() for _ in range(2)]
        files = {name: await http.get(name) for name in ("/", "/app.js", "/style.css")}
        essay = first["essays"][0]
        text = (await http.get(f"/texts/{essay['id']}")).json()
        unknown = await http.get("/texts/no-such-text")

    assert first["limits"] == {"least_characters": 20, "most_characters": 20_000, "most_bytes": 65_536}
    assert set(first) == {"intake_url", "user_id", "token", "essays", "limits"}
    assert first["intake_url"] == pipeline.intake_url
    assert first["user_id"] != second["user_id"]
    assert first["token"].startswith(f"{first['user_id']}.")
    assert set(essay) == {"id", "title", "author", "year", "language"}
    assert {essay["language"] for essay in first["essays"]} == {"en", "sv"}
    assert set(text) == {*essay, "source", "text"}
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "RESOURCE_NOT_FOUND")
    assert [answer.headers["Content-Type"].partition(";")[0] for answer in files.values()] == [
        "text/html",
        "text/javascript",
        "text/css",
    ]
    assert all("frame-ancestors 'none'" in answer.headers["Content-Security-Policy"] for answer in files.values())
