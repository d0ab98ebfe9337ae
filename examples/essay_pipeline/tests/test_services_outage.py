"""The services across an outage of Redis, and a browser that was away: no notification is lost, none comes twice."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed

from essay_pipeline.demo.clients import User, send_fences
from essay_pipeline.demo.processes import PipelineProcesses, Servers
from huleedu_service_libs.testing.chaos.proxy import FaultProxy

from .example import behind_a_proxy

pytestmark = pytest.mark.integration

OUTAGE_S = float(os.environ.get("HULEEDU_TEST_REDIS_OUTAGE_S", "6"))
"""Longer than redis-py's own subscription lives; 20 shows it for as long as the longest promise."""

ESSAYS = 30
TEXT = "Yesterday I recieved a letter from my freind, number {}, who lives in a small village by the sea."

Connect = Callable[[], Awaitable[User]]
Submit = Callable[..., Awaitable[httpx.Response]]


async def _submit_all(pipeline: PipelineProcesses, user: User, proxy: FaultProxy) -> list[str]:
    """Essays, one after the other; a third before the outage, a third in it, a third after it."""
    ids = []
    async with httpx.AsyncClient(base_url=pipeline.intake_url, timeout=20, trust_env=False) as intake:
        for number in range(ESSAYS):
            if number == ESSAYS // 3:
                proxy.refuse()
                asyncio.get_running_loop().call_later(OUTAGE_S, proxy.heal)
            elif number == 2 * ESSAYS // 3:
                await asyncio.sleep(OUTAGE_S)
            body = {"title": "A letter", "language": "en", "text": TEXT.format(number)}
            answer = await intake.post("/v1/essays", json=body, headers={"X-User-Token": user.token})
            ids.append(answer.raise_for_status().json()["essay_id"])
    return ids


@pytest.mark.timeout(240)
async def test_sixty_of_sixty_notifications_arrive_across_an_outage_of_redis(servers: Servers, tmp_path: Path) -> None:
    """Thirty essays are sent before, in and after an outage of Redis: the open page gets all sixty notifications, once.

    All three services reach Redis through a proxy that refuses every connection for 6 seconds
    (HULEEDU_TEST_REDIS_OUTAGE_S=20 makes it 20). The page's own WebSocket stays open.
    """
    async with behind_a_proxy(servers, tmp_path) as (pipeline, proxy), User.connected(pipeline.notify_url) as user:
        began = time.monotonic()
        ids = await _submit_all(pipeline, user, proxy)
        for essay_id in ids:
            await user.wait_for("essay.checked", essay_id, limit=90)
        assert time.monotonic() - began >= OUTAGE_S
        await send_fences(servers.redis.address, pipeline.namespace, [user])
        await asyncio.wait_for(user.fenced.wait(), 30)
        told = [(arrival.event, arrival.essay_id) for arrival in user.arrivals]

    assert Counter(told) == Counter((event, each) for each in ids for event in ("essay.accepted", "essay.checked"))
    assert len(told) == 2 * ESSAYS
    assert all(told.index(("essay.accepted", each)) < told.index(("essay.checked", each)) for each in ids)


async def _until_checked(socket: ClientConnection, essay_id: str) -> list[dict[str, str]]:
    messages = []
    async with asyncio.timeout(30):
        while True:
            messages.append(json.loads(await socket.recv()))
            if messages[-1]["event"] == "essay.checked" and messages[-1]["data"]["essay_id"] == essay_id:
                return messages


async def test_a_browser_that_comes_back_gets_what_it_missed(
    pipeline: PipelineProcesses, connect: Connect, submit: Submit
) -> None:
    """With the id of the last message it saw, even of "ready", a client gets all that followed and nothing again."""
    user = await connect()  # stays, to know when the notifications have been sent
    url = f"{pipeline.notify_url.replace('http', 'ws', 1)}/ws?token={user.token}"
    async with open_websocket(url, proxy=None) as socket:
        ready = json.loads(await socket.recv())
    first = (await submit(user)).json()["essay_id"]
    await user.wait_for("essay.checked", first)

    async with open_websocket(f"{url}&last_id={ready['id']}", proxy=None) as socket:
        messages = await _until_checked(socket, first)
    assert [each["event"] for each in messages] == ["ready", "essay.accepted", "essay.checked"]

    second = (await submit(user)).json()["essay_id"]
    async with open_websocket(f"{url}&last_id={messages[-1]['id']}", proxy=None) as socket:
        messages = await _until_checked(socket, second)
    assert [each["event"] for each in messages] == ["ready", "essay.accepted", "essay.checked"]


async def test_an_id_of_nothing_has_its_own_close_code(pipeline: PipelineProcesses, connect: Connect) -> None:
    """A last id that no message ever had closes the socket with 4400, upon which the page begins anew."""
    user = await connect()
    url = f"{pipeline.notify_url.replace('http', 'ws', 1)}/ws?token={user.token}&last_id=nonsense"
    async with open_websocket(url, proxy=None) as socket:
        with pytest.raises(ConnectionClosed) as caught:
            await asyncio.wait_for(socket.recv(), 10)
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 4400
