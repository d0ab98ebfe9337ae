"""The endpoints and the drain, the same in both frameworks."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from huleedu_service_libs.health import DrainConfig, HealthConfig, Impact, Probe, ServiceHealth
from huleedu_service_libs.health.answers import ENDPOINTS, HEALTH_JSON
from huleedu_service_libs.health.drain import Drain

from .applications import Work, make_fastapi, make_quart

Make = Callable[[ServiceHealth, Work], Any]
both = pytest.mark.parametrize("make", [make_fastapi, make_quart], ids=["fastapi", "quart"])


def client_of(app: Any) -> httpx.AsyncClient:
    """A client of the application, without a server between."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")


def health_of(service: str, **drain: float) -> ServiceHealth:
    """A service's health that drains quickly."""
    config = DrainConfig(**{"notice_s": 0.0, "limit_s": 20.0, **drain})
    return ServiceHealth(service, config=HealthConfig(drain=config))


class Checker:
    """A database checker that answers as the contract has it."""

    status = "healthy"

    async def comprehensive_health_check(self) -> dict[str, Any]:
        """All of it."""
        return {"service": "svc", "overall_status": self.status, "checks": {}, "warnings": ["slow"], "timestamp": 1.0}

    async def get_health_summary(self) -> dict[str, Any]:
        """The summary."""
        return {"service": "svc", "status": self.status, "connectivity": self.status == "healthy"}


@both
async def test_the_family_of_endpoints(make: Make, unique_name: str) -> None:
    """Every endpoint answers from what is known, with its own content type and without caching, and 405 for a POST."""
    health = health_of(unique_name)
    health.database = Checker()
    app = make(health, Work())
    async with health, client_of(app) as http:
        answers = {endpoint: await http.get(f"/healthz{endpoint}") for endpoint in ENDPOINTS}
        posted = await http.post("/healthz/ready")
        head = await http.head("/healthz/ready")

    assert {answer.status_code for answer in answers.values()} == {200}
    for endpoint in ("/live", "/ready", "/startup", "/details"):
        assert answers[endpoint].headers["Content-Type"] == HEALTH_JSON
        assert answers[endpoint].headers["Cache-Control"] == "no-store"
        assert answers[endpoint].json()["status"] == "pass"
    assert answers[""].headers["Content-Type"] == "application/json"
    assert answers[""].json() == {"service": unique_name, "status": "healthy", "checks": {"event_loop": "ok"}}
    assert posted.status_code == 405
    assert (head.status_code, head.content) == (200, b"")  # load balancers ask so


@both
@pytest.mark.parametrize(
    ("status", "whole", "summary"),
    [("healthy", 200, 200), ("warning", 200, 200), ("unhealthy", 503, 503), ("error", 503, 503)],
)
async def test_the_database_endpoints(make: Make, unique_name: str, status: str, whole: int, summary: int) -> None:
    """They hand the checker's reports on, and are 503 for what the services count as down."""
    health = health_of(unique_name)
    health.database = checker = Checker()
    checker.status = status
    async with client_of(make(health, Work())) as http:
        report = await http.get("/healthz/database")
        short = await http.get("/healthz/database/summary")

    assert (report.status_code, report.json()["overall_status"]) == (whole, status)
    assert (short.status_code, short.json()["status"]) == (summary, status)


@both
async def test_a_dead_dependency_is_two_hundred_and_degraded(make: Make, unique_name: str) -> None:
    """Readiness and the short form are 200 and say that the service is degraded, and why; set so, they are 503."""

    async def look() -> None:
        raise ConnectionError("nobody listens")

    outcomes = {}
    for impact in (Impact.DEGRADES, Impact.UNREADY):
        health = health_of(unique_name)
        health.watch(Probe(name="redis", look=look, impact=impact))
        async with health, client_of(make(health, Work())) as http:
            outcomes[impact] = (await http.get("/healthz/ready"), await http.get("/healthz"))

    ready, short = outcomes[Impact.DEGRADES]
    assert (ready.status_code, short.status_code) == (200, 200)
    assert ready.json()["output"] == "redis: ConnectionError: nobody listens"
    assert short.json()["status"] == "degraded"
    assert short.json()["checks"]["redis"].startswith("ConnectionError: nobody listens (since ")
    assert [answer.status_code for answer in outcomes[Impact.UNREADY]] == [503, 503]


@both
async def test_the_drain_in_its_order(make: Make, unique_name: str) -> None:
    """Readiness fails while requests are still taken; then new ones are refused while the one in flight finishes."""
    health = health_of(unique_name, notice_s=0.3)
    work, consumer_stopped = Work(), asyncio.Event()

    async def stop_consumer() -> None:
        consumer_stopped.set()

    health.drain.finish_with("consumer", stop_consumer)
    app = make(health, work)
    async with health, client_of(app) as http:
        in_flight = asyncio.create_task(http.get("/work"))
        await work.entered.wait()
        stopping = asyncio.create_task(health.stop_traffic())
        while not health.drain.begun:
            await asyncio.sleep(0)
        assert (await http.get("/healthz/ready")).status_code == 503
        late = asyncio.create_task(http.get("/work"))
        while health.drain.in_flight < 2:
            await asyncio.sleep(0.001)
        while not health.drain.refusing:
            await asyncio.sleep(0.005)
        refused = await http.get("/work")
        alive = await http.get("/healthz/live")
        assert consumer_stopped.is_set()
        assert not stopping.done()
        work.let_go.set()
        finished, taken = await in_flight, await late
        report = await asyncio.wait_for(stopping, 20)

    assert (finished.status_code, finished.json()) == (200, {"work": "done"})
    assert "connection" not in finished.headers
    assert (taken.status_code, taken.headers["connection"]) == (200, "close")
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert refused.headers["Connection"] == "close"
    assert "stopping" in refused.json()["error"]
    assert alive.status_code == 200
    assert (report.unfinished_requests, report.unfinished_work, report.refused_requests) == (0, (), 1)


@both
async def test_a_websocket_is_refused_and_not_waited_for(make: Make, unique_name: str) -> None:
    """While it stops, a new WebSocket is closed before it is accepted."""
    health = health_of(unique_name)
    app = make(health, Work())
    async with health:
        await health.stop_traffic()
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": "/ws", "headers": [], "query_string": b"", "subprotocols": []}
        called = app.asgi_app if hasattr(app, "asgi_app") else app
        await called(
            {**scope, "asgi": {"version": "3.0"}, "client": None, "server": None, "scheme": "ws"}, receive, send
        )

    assert [(each["type"], each["code"]) for each in sent] == [("websocket.close", 1012)]


async def test_a_drain_has_an_end() -> None:
    """What does not finish in time, or fails, is named in the report, and the drain is over."""
    drain = Drain(DrainConfig(notice_s=0, limit_s=0.1))

    async def hang() -> None:
        await asyncio.Event().wait()

    async def fail() -> None:
        raise RuntimeError("no")

    drain.finish_with("hanging", hang)
    drain.finish_with("failing", fail)
    drain.finish_with("wrong", lambda: int("no number"))  # type: ignore[arg-type, return-value]  # the fault
    drain.in_flight = 2
    first, second = await asyncio.gather(drain.run(), drain.run())

    assert first is second
    assert first.unfinished_work == ("failing", "hanging", "wrong")
    assert first.unfinished_requests == 2
    with pytest.raises(ValueError, match="'hanging' is drained already"):
        drain.finish_with("hanging", hang)
    with pytest.raises(ValueError, match="notice_s must not be negative, got -1"):
        DrainConfig(notice_s=-1)


async def test_nobody_s_cancellation_ends_the_drain() -> None:
    """Who waits for the drain may be cancelled; the drain goes on."""
    drain = Drain(DrainConfig(notice_s=0.05, limit_s=1))
    waiting = asyncio.create_task(drain.run())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert (await drain.run()).unfinished_requests == 0
    assert drain.refusing


@pytest.mark.parametrize("error", [OSError("gone"), ValueError("the server says so")])
async def test_a_websocket_that_cannot_be_closed_does_not_end_the_drain(unique_name: str, error: Exception) -> None:
    """Whatever the server raises, the others are closed and the rest of the drain is finished and told."""
    health = health_of(unique_name, notice_s=0.0, limit_s=0.0)
    closed: list[Any] = []
    opened = asyncio.Event()

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await opened.wait()

    async def refuses(message: Any) -> None:
        raise error

    async def closes(message: Any) -> None:
        closed.append(message["code"])

    async def receive() -> Any: ...

    sockets = health.drain.sockets
    tasks = [asyncio.create_task(sockets.serve(handler, {}, receive, send)) for send in (refuses, closes)]
    while len(sockets) < 2:
        await asyncio.sleep(0)
    report = await health.drain.run()
    assert (report.closed_websockets, closed) == (2, [1012])
    opened.set()
    await asyncio.gather(*tasks)
