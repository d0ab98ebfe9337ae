"""The page on notifying users is as true as the code: its snippets run on a real server."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import uvicorn
from fastapi import FastAPI, WebSocket
from prometheus_client import REGISTRY
from websockets.asyncio.client import connect

from huleedu_service_libs.redis_pubsub import Gap, Loss
from huleedu_service_libs.testing.devstack import free_ports
from tests.snippets import DOCS, names_of

PAGE = DOCS / "how-to/notify-users.md"
SOURCES = Path(__file__).resolve().parent.parent / "libs" / "huleedu_service_libs" / "src" / "huleedu_service_libs"


@pytest.mark.integration
async def test_a_browser_of_the_page_misses_nothing(redis_url: str, unique_name: str) -> None:
    """What was sent while it was away arrives when it comes back with the last id; a repeated event is sent once."""
    names = names_of(PAGE)
    sent: list[dict[str, Any]] = []
    arrived = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        arrived.set()

    async def browse(last_id: str | None, count: int) -> None:
        pushing = asyncio.create_task(names["push"](client, unique_name, last_id, send))
        async with asyncio.timeout(10):
            while len(sent) < count:
                arrived.clear()
                await arrived.wait()
        pushing.cancel()
        await asyncio.gather(pushing, return_exceptions=True)

    events, essays = [uuid4(), uuid4()], [uuid4(), uuid4()]
    async with names["make_client"](redis_url) as client:
        await browse(None, 1)
        for number in (0, 1, 1):
            await names["essay_checked"](client, events[number], unique_name, essays[number])
        await browse(sent[0]["id"], 4)
        assert sent[1]["id"] == sent[0]["id"]
    assert [each["event"] for each in sent] == ["ready", "ready", "essay.checked", "essay.checked"]
    assert [each["data"]["essay_id"] for each in sent[2:]] == [str(essay) for essay in essays]


def _subscribers() -> float:
    return REGISTRY.get_sample_value("huleedu_redis_pubsub_subscribers", {"client_id": "notify-service"}) or 0


@pytest.mark.integration
async def test_the_websocket_of_the_page(redis_url: str, unique_name: str) -> None:
    """A browser gets what is sent, comes back with its last id, and leaves nothing running when it goes."""
    names = names_of(PAGE)
    app = FastAPI()
    (port,) = free_ports(1)
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None, ws="websockets-sansio"))
    async with names["make_client"](redis_url) as client:

        @app.websocket("/ws")
        async def ws(socket: WebSocket) -> None:
            await names["serve"](socket, client, unique_name)

        serving = asyncio.create_task(server.serve())
        async with asyncio.timeout(30):
            while not server.started:
                await asyncio.sleep(0.01)
            async with connect(f"ws://127.0.0.1:{port}/ws") as browser:
                ready = json.loads(await browser.recv())
                assert _subscribers() == 1
            while _subscribers():  # it has left, though nothing was sent
                await asyncio.sleep(0.01)
            await names["essay_checked"](client, uuid4(), unique_name, uuid4())
            async with connect(f"ws://127.0.0.1:{port}/ws?after={ready['id']}") as browser:
                assert json.loads(await browser.recv())["id"] == ready["id"]
                assert json.loads(await browser.recv())["event"] == "essay.checked"
        server.should_exit = True
        await serving


@pytest.mark.integration
async def test_the_plain_subscription_of_the_page(redis_url: str, unique_name: str) -> None:
    """It reads until it has what it wants, and was told of no gap."""
    names = names_of(PAGE)
    gaps: list[Gap] = []
    async with names["make_client"](redis_url) as client:
        watching = asyncio.create_task(names["watch"](client, unique_name, gaps.append, lambda text: text == "x"))
        async with asyncio.timeout(10):
            while await client.publish(unique_name, "x") == 0:
                await asyncio.sleep(0.01)
            await watching
    assert gaps == []


def test_the_page_names_what_exists() -> None:
    """Every loss has its row, and every metric of the table is in the code."""
    page = PAGE.read_text(encoding="utf-8")
    for loss in Loss:
        assert f"| `{loss}` |" in page
    code = (SOURCES / "_redis_pubsub" / "metrics.py").read_text(encoding="utf-8")
    named = set(re.findall(r'"(huleedu_redis_[a-z_]+)"', code))
    assert named
    shown = set(re.findall(r"huleedu_redis_[a-z_]+", page))
    shown |= {f"huleedu_redis_pubsub{tail}" for tail in re.findall(r"…(_[a-z_]+)", page)}
    assert shown == named
