"""The console over ASGI: what it shows, who may act, and where it can be mounted."""

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from quart import Quart

from common_core import CircuitBreakerState
from huleedu_service_libs.console import (
    BreakersSection,
    Cell,
    Console,
    ConsoleRequest,
    Mount,
    Reading,
    Row,
    Table,
    TokenGuard,
    Tone,
)
from huleedu_service_libs.resilience import CircuitBreaker, CircuitBreakerRegistry

TOKEN = "a-token-of-some-length"
BEARER = {"authorization": f"Bearer {TOKEN}"}
NAME = '<b>"llm"</b> & co/eu'
HOSTILE = "<script>alert(1)</script>\"'&"


class Probe:
    """A section that shows and does what the test says."""

    name = "probe"
    title = "Probe"

    def __init__(self, read: Callable[[], Awaitable[Reading]] | None = None) -> None:
        self._read = read
        self.acted: list[tuple[str, str]] = []

    async def read(self) -> Reading:
        if self._read is not None:
            return await self._read()
        row = Row(target=HOSTILE, cells=(HOSTILE, Cell(text=HOSTILE, hint=HOSTILE, tone=Tone.BAD)))
        table = Table(caption=HOSTILE, columns=("A", HOSTILE), rows=[row])
        return Reading(data={"hostile": HOSTILE}, summary=HOSTILE, tables=[table])


class ActingProbe(Probe):
    """One that also acts."""

    async def act(self, action: str, target: str) -> str:
        self.acted.append((action, target))
        if action == "break":
            raise ConnectionRefusedError("postgresql://app:hunter2@db is away")
        return "done"


@pytest.fixture
def registry() -> CircuitBreakerRegistry:
    """One open breaker with an odd name, one closed."""
    registry = CircuitBreakerRegistry()
    registry.register(NAME, CircuitBreaker(recovery_timeout=timedelta(hours=1), name="inner"))
    registry.register("kafka_producer", CircuitBreaker())
    breaker = registry.get(NAME)
    assert breaker is not None
    for _ in range(5):
        era, _begun = breaker.begin()
        breaker.raised(era, OSError())
    return registry


@asynccontextmanager
async def _browser(app: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service", **options) as client:
        yield client


def _field(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return found.group(1)


async def test_the_page_shows_state_reason_and_counts(registry: CircuitBreakerRegistry) -> None:
    """Those in trouble come first, with why and what is next; nothing of a name becomes markup."""
    async with _browser(Console([BreakersSection(registry)], title="essays")) as client:
        page = (await client.get("/")).text
    assert "1 of 2 not closed" in page
    assert "too many failures; next trial in 3600 s" in page
    assert page.index("&lt;b&gt;") < page.index("kafka_producer")
    assert "<b>" not in page
    assert "<button" not in page, "without a guard there is nothing to press"


async def test_everything_from_a_section_is_escaped() -> None:
    """A section's texts stay texts, wherever they stand on the page."""
    async with _browser(Console([Probe()])) as client:
        answer = await client.get("/")
    assert "<script" not in answer.text
    assert answer.text.count("&lt;script&gt;") >= 5
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("method", ["form", "json"])
async def test_without_a_guard_nobody_can_act(registry: CircuitBreakerRegistry, method: str) -> None:
    """A console that was given no guard is read-only, whatever is sent to it."""
    fields = {"section": "breakers", "action": "reset", "target": NAME, "token": ""}
    async with _browser(Console([BreakersSection(registry)])) as client:
        if method == "form":
            answer = await client.post("/act", data=fields)
        else:
            answer = await client.post("/api/breakers", json=fields)
    assert answer.status_code == 403
    assert "read-only" in answer.text
    assert registry.get_all_states()[NAME]["state"] == "open"


async def test_the_buttons_reset_and_isolate(registry: CircuitBreakerRegistry) -> None:
    """With the token, the page's own form acts, and leads back to the page."""
    async with _browser(Console([BreakersSection(registry)], guard=TokenGuard(TOKEN)), auth=("", TOKEN)) as client:
        page = (await client.get("/")).text
        fields = {"token": _field(page, "token"), "section": "breakers", "target": NAME}
        for action, state in (("reset", "closed"), ("isolate", "open"), ("close", "closed")):
            answer = await client.post("/act", data={**fields, "action": action})
            assert (answer.status_code, answer.headers["location"]) == (303, "./")
            assert registry.get_all_states()[NAME]["state"] == state


@pytest.mark.parametrize(
    ("change", "headers"),
    [
        ({"token": ""}, {}),
        ({"token": "0" * 64}, {}),
        ({}, {"sec-fetch-site": "cross-site"}),
        ({}, {"sec-fetch-site": "same-site"}),
        ({}, {"cookie": "huleedu_console=somebody-else"}),
        ({}, {"content-type": "text/plain"}),
    ],
)
async def test_a_form_from_elsewhere_does_nothing(
    registry: CircuitBreakerRegistry, change: dict[str, str], headers: dict[str, str]
) -> None:
    """Though the browser sends the password along, a form of another site or visitor is refused."""
    async with _browser(Console([BreakersSection(registry)], guard=TokenGuard(TOKEN)), auth=("", TOKEN)) as client:
        token = _field((await client.get("/")).text, "token")
        if "cookie" in headers:
            client.cookies.clear()
        fields = {"token": token, "section": "breakers", "target": NAME, "action": "reset", **change}
        answer = await client.post("/act", data=fields, headers=headers)
    assert answer.status_code == 403
    assert registry.get_all_states()[NAME]["state"] == "open"


async def test_another_sites_script_cannot_use_the_json_side(registry: CircuitBreakerRegistry) -> None:
    """What a page of another site can send without being asked about it (no JSON) is refused, and JSON from there, too."""
    body = b'{"action": "reset", "target": "kafka_producer"}'
    async with _browser(Console([BreakersSection(registry)], guard=TokenGuard(TOKEN)), auth=("", TOKEN)) as client:
        plain = await client.post("/api/breakers", content=body, headers={"content-type": "text/plain"})
        json_headers = {"content-type": "application/json", "sec-fetch-site": "cross-site"}
        crossing = await client.post("/api/breakers", content=body, headers=json_headers)
    assert (plain.status_code, crossing.status_code) == (415, 415)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer nonsense", "Basic !!!", "Basic bm9uc2Vuc2U=", f"Digest {TOKEN}", "Bearer ü"]
)
async def test_a_wrong_token_sees_nothing(registry: CircuitBreakerRegistry, authorization: str) -> None:
    """Without the token every path answers 401, and asks for it."""
    async with _browser(Console([BreakersSection(registry)], guard=TokenGuard(TOKEN))) as client:
        for path in ("/", "/api", "/api/breakers", "/style.css", "/nonsense"):
            answer = await client.get(path, headers={b"authorization": authorization.encode("latin-1")})
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Basic")
            assert NAME not in answer.text


async def test_a_guard_may_wait_and_may_let_people_look(registry: CircuitBreakerRegistry) -> None:
    """A guard is any callable, sync or async; only True lets in, and it knows whether something is to be changed."""

    async def readers_only(request: ConsoleRequest) -> bool:
        return not request.writes

    async with _browser(Console([BreakersSection(registry)], guard=readers_only)) as client:
        assert (await client.get("/")).status_code == 200
        refused = await client.post("/api/breakers", json={"action": "reset", "target": NAME})
    assert refused.status_code == 403
    async with _browser(Console([], guard=lambda _request: "yes")) as client:  # type: ignore[arg-type,return-value]
        assert (await client.get("/")).status_code == 403


@pytest.mark.parametrize(
    "token", ["", "short", "x" * 15, "with spaces at the end  ", "with\nnewline-in-it-here", "ü" * 20]
)
def test_a_token_that_protects_nothing_is_refused(token: str) -> None:
    """An empty setting must not open the console."""
    with pytest.raises(ValueError, match="16 printable"):
        TokenGuard(token)


async def test_json_side(registry: CircuitBreakerRegistry) -> None:
    """Programs read sections, act on them, and get an error with a status and a sentence."""
    async with _browser(Console([BreakersSection(registry)], guard=TokenGuard(TOKEN)), headers=BEARER) as client:
        assert [each["name"] for each in (await client.get("/api")).json()["sections"]] == ["breakers"]
        first = (await client.get("/api/breakers")).json()[0]
        done = await client.post("/api/breakers", json={"action": "isolate", "target": "kafka_producer"})
        unknown = await client.post("/api/breakers", json={"action": "reset", "target": "nobody"})
        impossible = await client.post("/api/breakers", json={"action": "explode", "target": NAME})
        nowhere = await client.get("/api/nonsense")
        nonsense = await client.post("/api/breakers", content=b"[", headers={"content-type": "application/json"})
        huge = await client.post("/api/breakers", json={"action": "reset", "target": "x" * 20_000})
        wrong = await client.post("/api/breakers", json={"action": 1, "target": None})
    assert (first["name"], first["state"], first["reason"], first["failure_count"]) == (NAME, "open", "failures", 5)
    assert done.json()["message"] == "kafka_producer refuses every call until it is reset"
    codes = [answer.status_code for answer in (unknown, impossible, nowhere, nonsense, huge, wrong)]
    assert codes == [404, 409, 404, 400, 413, 400]
    assert "kafka_producer" in unknown.json()["error"]


async def test_a_section_that_fails_leaves_the_others(
    registry: CircuitBreakerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its place shows the error without its secret, or that it took too long; the rest of the page is there."""

    async def broken() -> Reading:
        raise ConnectionRefusedError("postgresql://app:hunter2@db is away")

    async with _browser(Console([Probe(broken), BreakersSection(registry)])) as client:
        page = await client.get("/")
        api = await client.get("/api/probe")
    assert page.status_code == 200
    assert "app:***@db is away" in page.text
    assert "kafka_producer" in page.text
    assert (api.status_code, "hunter2" in api.text + page.text) == (503, False)


async def test_an_action_that_fails_says_so() -> None:
    """What went wrong comes back as 503; a section that only shows cannot act."""
    async with _browser(Console([ActingProbe()], guard=TokenGuard(TOKEN)), headers=BEARER) as client:
        failed = await client.post("/api/probe", json={"action": "break", "target": "x"})
    async with _browser(Console([Probe()], guard=TokenGuard(TOKEN)), headers=BEARER) as client:
        shows = await client.post("/api/probe", json={"action": "go", "target": "x"})
    assert (failed.status_code, shows.status_code) == (503, 405)
    assert "hunter2" not in failed.text


def test_sections_need_names_of_their_own() -> None:
    """Two of one name, or a name that no address could hold, are a mistake at construction."""
    with pytest.raises(ValueError, match="one name"):
        Console([Probe(), Probe()])
    odd = Probe()
    odd.name = "a/b"
    with pytest.raises(ValueError, match="'a/b'"):
        Console([odd])


def _fastapi(console: Console) -> Any:
    app = FastAPI()
    app.mount("/ops/console", console)
    return app


def _quart(console: Console) -> Any:
    app = Quart(__name__)

    @app.get("/ops/console-of-others")
    async def others() -> str:
        return "mine"

    app.asgi_app = Mount(app.asgi_app, "/ops/console", console)  # type: ignore[method-assign,assignment]
    return app


@pytest.mark.parametrize("framework", [_fastapi, _quart])
async def test_it_works_below_a_path(registry: CircuitBreakerRegistry, framework: Callable[[Console], Any]) -> None:
    """In FastAPI and in Quart the page, its style, its forms and its JSON stand below the mount's path."""
    console = Console([BreakersSection(registry)], guard=TokenGuard(TOKEN))
    async with _browser(framework(console), auth=("", TOKEN), follow_redirects=True) as client:
        page = await client.get("/ops/console")
        assert (page.status_code, page.url.path) == (200, "/ops/console/")
        assert (await client.get(page.url.join("style.css"))).status_code == 200
        token = _field(page.text, "token")
        fields = {"token": token, "section": "breakers", "target": NAME, "action": "reset"}
        back = await client.post(page.url.join("act"), data=fields)
        assert (back.status_code, back.url.path) == (200, "/ops/console/")
        assert len((await client.get("/ops/console/api/breakers")).json()) == 2
    breaker = registry.get(NAME)
    assert breaker is not None
    assert breaker.state is CircuitBreakerState.CLOSED


async def test_the_mount_takes_only_its_own_path() -> None:
    """A path that merely begins with the same letters is the application's."""
    async with _browser(_quart(Console([]))) as client:
        assert (await client.get("/ops/console-of-others")).text == "mine"


async def test_head_sends_no_body(registry: CircuitBreakerRegistry) -> None:
    """HEAD gets the head that GET would get."""
    async with _browser(Console([BreakersSection(registry)])) as client:
        answer = await client.head("/")
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) > 500
