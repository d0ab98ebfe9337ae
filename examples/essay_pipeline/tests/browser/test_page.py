"""The page, driven in headless Chromium against the real services.

Screenshots are kept under ``artifacts/`` at the root of the repository.
"""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
from playwright.async_api import (
    Browser,
    BrowserContext,
    Page,
    Route,
    WebSocket,
    WebSocketRoute,
    async_playwright,
    expect,
)

pytestmark = [pytest.mark.browser, pytest.mark.integration]

STAGES = ("received", "stored", "relayed", "checked", "result-stored", "notified", "browser")
DURATION = re.compile(r"^(<1|\d+(\.\d)?) (ms|s)$")
PATIENCE_MS = 20_000
DESKTOP = (1280, 1000)
PHONE = (390, 844)
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Emoji before the slips: the services count code points, JavaScript counts UTF-16 units.
SWEDISH = (
    "Sommaren hos mormor 🏡🙂 var lång. Vi kunde oppna fönstret mot sjön, och på kvällarna badade vi. "
    "Min kusin är jätttesnäll och plockar blåbär i skogen. Min karlek till naturen är stor."
)
TEXT_BEFORE = """(mark) => {
  const range = document.createRange();
  range.setStart(mark.parentNode, 0);
  range.setEndBefore(mark);
  return range.toString();
}"""
SWEDISH_SLIPS = {"oppna": "öppna", "jätttesnäll": "jättesnäll", "karlek": "kärlek"}


class Pipeline(Protocol):
    """What this module needs of the running services."""

    @property
    def notify_url(self) -> str:
        """Where the page is."""
        ...

    @property
    def intake_url(self) -> str:
        """Where essays go."""
        ...


def chromium() -> str:
    """Chromium's path; without one the test is skipped, in CI it fails."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        path = shutil.which(name)
        if path is not None:
            return path
    reason = "Chromium is not installed (Debian: apt-get install chromium)"
    if os.environ.get("CI", "").lower() in {"1", "true"}:
        pytest.fail(reason)
    pytest.skip(reason)


def artifacts() -> Path:
    """Where screenshots are kept: beside the workspace's pyproject.toml."""
    for folder in Path(__file__).resolve().parents:
        project = folder / "pyproject.toml"
        if project.is_file() and "[tool.uv.workspace]" in project.read_text(encoding="utf-8"):
            kept = folder / "artifacts"
            kept.mkdir(exist_ok=True)
            return kept
    pytest.fail("No pyproject.toml with [tool.uv.workspace] above this file")


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A headless Chromium of this test's own."""
    path = chromium()
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGS)
        yield launched
        await launched.close()


async def new_user(browser: Browser, size: tuple[int, int] = DESKTOP, *, dark: bool = False) -> BrowserContext:
    """A browser context: storage of its own, hence a user of its own."""
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MS)
    return context


async def open_page(context: BrowserContext, pipeline: Pipeline) -> Page:
    """The page, once its WebSocket is connected."""
    page = await context.new_page()
    await page.goto(pipeline.notify_url)
    await expect_connected(page)
    return page


async def expect_connected(page: Page) -> None:
    """Wait until the page says that it is connected."""
    await expect(page.locator("#connection")).to_have_attribute("data-state", "connected", timeout=PATIENCE_MS)


async def check(page: Page, text: str, language: str) -> str:
    """Submit ``text`` and wait for its result; the essay's id."""
    await page.select_option("#language", language)
    await page.fill("#essay-text", text)
    await page.click("#submit")
    await expect(page.locator("#result-text")).to_have_text(text, timeout=PATIENCE_MS)
    essay_id = await page.locator("#result").get_attribute("data-essay-id")
    assert essay_id
    return essay_id


async def test_a_swedish_essay_travels_and_its_slips_are_marked(browser: Browser, pipeline: Pipeline) -> None:
    """The right words are marked with the right suggestions, and every stage shows what it took."""
    context = await new_user(browser)
    page = await context.new_page()
    complaints: list[str] = []
    requested: set[str] = set()
    page.on(
        "console", lambda message: complaints.append(message.text) if message.type in {"error", "warning"} else None
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requested.add(request.url))
    await page.goto(pipeline.notify_url)
    await expect_connected(page)

    await check(page, SWEDISH, "sv")

    marks = page.locator("mark.misspelling")
    assert await marks.all_text_contents() == list(SWEDISH_SLIPS)
    for index, (slip, meant) in enumerate(SWEDISH_SLIPS.items()):
        await marks.nth(index).hover()
        await expect(page.locator("#tooltip .best")).to_have_text(meant)
        before = await marks.nth(index).evaluate(TEXT_BEFORE)
        assert before == SWEDISH[: SWEDISH.index(slip)]
    await marks.first.focus()
    await expect(page.locator("#tooltip")).to_contain_text("öppna")
    for stage in STAGES:
        row = page.locator(f"[data-stage={stage}]")
        await expect(row.locator(".duration")).to_have_text(DURATION)
        await expect(row).to_have_attribute("data-state", "done")
    await expect(page.locator("#total")).to_have_text(DURATION)
    await expect(page.locator("#status")).to_contain_text("3 misspellings")
    await expect(page.locator("#trace-id")).to_have_text(re.compile(r"^[0-9a-f]{32}$"))
    await expect(page.locator("#correlation-id")).to_have_text(re.compile(r"^[0-9a-f-]{36}$"))
    await page.screenshot(path=artifacts() / "page-desktop-light.png", full_page=True)
    assert complaints == []
    own = (pipeline.notify_url, pipeline.intake_url, "data:")
    assert all(address.startswith(own) for address in requested), requested


async def test_a_user_never_gets_anothers_notification(browser: Browser, pipeline: Pipeline) -> None:
    """With two users connected, each browser receives its own essay's messages and none of the other's."""
    frames: list[list[str]] = [[], []]

    async def join(received: list[str]) -> Page:
        context = await new_user(browser)
        page = await context.new_page()

        def listen(socket: WebSocket) -> None:
            socket.on("framereceived", lambda frame: received.append(str(frame)))

        page.on("websocket", listen)
        await page.goto(pipeline.notify_url)
        await expect_connected(page)
        return page

    first, second = await join(frames[0]), await join(frames[1])
    first_id = await check(first, "I recieve nothing of yours.", "en")
    # The second's own result proves that it was listening while the first's was sent.
    second_id = await check(second, "And I recieve nothing of yours, either.", "en")

    users = {json.loads(received[0])["data"]["user_id"] for received in frames}
    assert len(users) == 2
    for received, own, other in ((frames[0], first_id, second_id), (frames[1], second_id, first_id)):
        assert {message["data"].get("essay_id", own) for message in map(json.loads, received)} == {own}
        assert other not in "".join(received)


async def test_a_text_from_the_shelf_on_a_phone_in_the_dark(browser: Browser, pipeline: Pipeline) -> None:
    """Picking a text fills in words and language; the page fits a phone and keeps what was checked."""
    page = await open_page(await new_user(browser, PHONE, dark=True), pipeline)
    await page.select_option("#text-picker", "soderberg-palsen")
    await expect(page.locator("#essay-text")).to_have_value(re.compile("^Det var en kall vinter"))
    await expect(page.locator("#language")).to_have_value("sv")
    await page.click("#submit")
    await expect(page.locator("#result-text")).to_contain_text("julafton", timeout=PATIENCE_MS)
    await expect(page.locator("mark.misspelling")).to_have_text(["blevo"])
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    await page.screenshot(path=artifacts() / "page-phone-dark.png", full_page=True)

    await page.reload()
    await expect(page.locator("#earlier .earlier-title")).to_have_text(["Pälsen"])
    await expect(page.locator("mark.misspelling")).to_have_text(["blevo"])


async def test_markup_in_an_essay_stays_text(browser: Browser, pipeline: Pipeline) -> None:
    """What looks like HTML in an essay is shown as it was written and never becomes part of the page."""
    page = await open_page(await new_user(browser), pipeline)
    await check(page, 'I recieve <img src="x" onerror="document.title = 1"> and <b>bold</b> words.', "en")
    assert await page.locator("#result-text img, #result-text b").count() == 0
    assert await page.title() == "Essay pipeline"


async def test_what_cannot_be_taken_is_told_before_it_is_sent(browser: Browser, pipeline: Pipeline) -> None:
    """Texts that intake would refuse are not sent: plain words say why, and a counter shows how far it is."""
    page = await open_page(await new_user(browser), pipeline)
    sent: list[str] = []
    page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
    for text, counter, problem in (
        ("", "", "There is nothing to check yet"),
        ("Hi", "2 of at least 20 characters", "Write at least 20 characters; this has 2."),
        ("word " * 3_700, "18,499 of at most 20,000 characters", ""),
        ("word " * 30_000, "149,999 of at most 20,000 characters", "At most 20,000 characters can be checked at once"),
        ("🙂" * 20_000, "20,000 of at most 20,000 characters", "The text takes 79 kB to send; 64 kB can be sent"),
    ):
        await page.fill("#essay-text", text)
        await expect(page.locator("#word-count")).to_contain_text(counter)
        if problem:
            await page.click("#submit")
            await expect(page.locator("#error-message")).to_contain_text(problem)
    assert sent == []
    await expect(page.locator("#earlier li")).to_have_count(0)


async def test_what_intake_refuses_is_told_in_plain_words(browser: Browser, pipeline: Pipeline) -> None:
    """What intake refuses all the same is told for people, with the particulars below, and is no earlier essay."""
    page = await open_page(await new_user(browser), pipeline)
    earlier = await check(page, "And first I recieve what is mine.", "en")

    async def refuse(route: Route) -> None:
        body = {"error": {"code": "VALIDATION_ERROR", "message": "The body is larger than 9 bytes"}}
        await route.fulfill(status=413, json=body, headers={"Access-Control-Allow-Origin": "*"})

    await page.route("**/v1/essays", refuse)
    await page.fill("#essay-text", "A text that a smaller service refuses.")
    await page.click("#submit")
    await expect(page.locator("#error-message")).to_have_text(
        "The text is too large to send. Shorten it, or check it in parts."
    )
    await expect(page.locator("#error-detail")).to_have_text(
        re.compile(r"HTTP 413 · VALIDATION_ERROR · The body is larger than 9 bytes · correlation id [0-9a-f-]{36}")
    )
    await expect(page.locator("#earlier li")).to_have_count(1)
    await expect(page.locator("#result")).to_have_attribute("data-essay-id", earlier)


async def test_nobodys_words_are_put_down_to_an_author(browser: Browser, pipeline: Pipeline) -> None:
    """A text from the shelf has its author's name until it is changed or replaced."""
    page = await open_page(await new_user(browser), pipeline)
    source = page.locator("#text-source")
    await page.select_option("#text-picker", "austen-pride")
    await expect(source).to_have_text("after Jane Austen, Pride and Prejudice, chapter 1 (1813)")
    await expect(page.locator("#text-picker option:checked")).to_contain_text("after Jane Austen")
    whole = await page.locator("#essay-text").input_value()

    await page.fill("#essay-text", f"{whole} And this is mine.")
    await expect(source).to_have_text("Your own words (from Jane Austen, Pride and Prejudice, chapter 1 (1813))")

    own = "My dog is called Pudding and sleeps all day long."
    await page.fill("#essay-text", own)
    await expect(source).to_have_text("Your own words")
    await expect(page.locator("#text-picker")).to_have_value("")
    await check(page, own, "en")
    await expect(page.locator("#earlier .earlier-title")).to_have_text(["My dog is called Pudding and"])

    await page.fill("#essay-text", whole)
    await expect(source).to_have_text(re.compile("^after Jane Austen"))


async def test_slips_are_made_on_request(browser: Browser, pipeline: Pipeline) -> None:
    """The button misspells words of a text from the shelf; without one it cannot be pressed."""
    page = await open_page(await new_user(browser), pipeline)
    button, text = page.locator("#slips"), page.locator("#essay-text")
    await expect(button).to_be_disabled()
    await page.select_option("#text-picker", "austen-pride")
    await expect(button).to_be_enabled()
    whole = await text.input_value()
    await button.click()
    await expect(page.locator("#text-source")).to_have_text(
        re.compile(r"^after Jane Austen, .*, with [2-6] slips made for you$")
    )
    assert await text.input_value() != whole
    await page.click("#submit")
    await expect(page.locator("mark.misspelling").first).to_be_visible(timeout=PATIENCE_MS)
    await page.screenshot(path=artifacts() / "page-slips.png", full_page=True)


async def test_suggestions_leave_the_heading_free(browser: Browser, pipeline: Pipeline) -> None:
    """Those for a word of the first line stand below it."""
    page = await open_page(await new_user(browser), pipeline)
    await check(page, "Thiss is the first line of a text, and it is misspelt.", "en")
    mark = page.locator("mark.misspelling").first
    await mark.hover()
    tooltip, word = await page.locator("#tooltip").bounding_box(), await mark.bounding_box()
    assert tooltip is not None
    assert word is not None
    assert tooltip["y"] >= word["y"] + word["height"]
    await page.screenshot(path=artifacts() / "page-tooltip.png")


async def test_an_essay_that_was_under_way_at_a_reload_does_not_stay_so(browser: Browser, pipeline: Pipeline) -> None:
    """After a while without a result the list says that none came; it is still to come."""
    context = await new_user(browser)
    lost = {"correlation_id": "c", "title": "Lost", "language": "en", "text": "x", "moments": {"sent_at": 1}}
    await context.add_init_script(f"sessionStorage.setItem('essays', {json.dumps(json.dumps([lost]))})")
    page = await open_page(context, pipeline)
    await expect(page.locator("#earlier .earlier-note")).to_have_text(["English · no result yet"])
    await expect(page.locator("#error-message")).to_contain_text("its result will appear here")


async def test_the_track_shows_how_far_an_essay_has_come(browser: Browser, pipeline: Pipeline) -> None:
    """Before the result arrives, stages that are over have their time; after 20 s the page says that it is late."""
    context = await new_user(browser)
    page = await context.new_page()

    def hold_results_back(route: WebSocketRoute) -> None:
        server = route.connect_to_server()
        server.on_message(lambda message: None if "essay.checked" in str(message) else route.send(message))

    await page.route_web_socket(re.compile(r"/ws\?"), hold_results_back)
    await page.clock.install()
    await page.goto(pipeline.notify_url)
    await expect_connected(page)
    await page.fill("#essay-text", "I recieve what is mine, but late.")
    await page.click("#submit")

    for stage in ("received", "stored", "relayed"):
        await expect(page.locator(f"[data-stage={stage}] .duration")).to_have_text(DURATION, timeout=PATIENCE_MS)
    await expect(page.locator("[data-stage=checked]")).to_have_attribute("data-state", "active")
    for stage in ("checked", "result-stored", "notified", "browser"):
        await expect(page.locator(f"[data-stage={stage}] .duration")).to_be_empty()
    await expect(page.locator("#status")).to_contain_text("Waiting")

    # The page was connected all along: it must not blame the connection.
    await page.clock.fast_forward(PATIENCE_MS + 1_000)
    await expect(page.locator("#error-message")).to_have_text(
        "No result has arrived yet; that takes longer than usual. "
        "The essay is stored, and its result will appear here when it has been checked."
    )
    await expect(page.locator("#earlier .earlier-note")).to_have_text(["English · no result yet"])


async def test_a_lost_connection_comes_back(browser: Browser, pipeline: Pipeline) -> None:
    """When the WebSocket closes, the page says so, connects again as the same user and receives results."""
    context = await new_user(browser)
    page = await context.new_page()
    routes: list[WebSocketRoute] = []

    def through(route: WebSocketRoute) -> None:
        routes.append(route)
        route.connect_to_server()

    await page.route_web_socket(re.compile(r"/ws\?"), through)
    await page.goto(pipeline.notify_url)
    await expect_connected(page)
    user = await page.locator("#user-id").text_content()

    await routes[0].close(code=1001)

    await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    await expect_connected(page)
    assert await page.locator("#user-id").text_content() == user
    await check(page, "And still I recieve what is mine.", "en")


async def test_a_result_that_came_while_the_page_was_away_is_shown(browser: Browser, pipeline: Pipeline) -> None:
    """The page sends the id of the last message that it saw, and gets what was announced in the meantime."""
    context = await new_user(browser)
    page = await context.new_page()
    away, asked = False, list[str]()

    async def through(route: WebSocketRoute) -> None:
        asked.append(route.url)
        if away:
            await route.close(code=1013)
        else:
            routes.append(route)
            route.connect_to_server()

    routes: list[WebSocketRoute] = []
    await page.route_web_socket(re.compile(r"/ws\?"), through)
    await page.goto(pipeline.notify_url)
    await expect_connected(page)
    away = True
    await routes[0].close(code=1001)
    await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    await page.fill("#essay-text", "I recieve what is mine, though I was away.")
    await page.click("#submit")
    await asyncio.sleep(3)  # the services do their work meanwhile; if they take longer, the test shows less
    away = False

    await expect(page.locator("#status")).to_contain_text("Done", timeout=PATIENCE_MS)
    assert "last_id=" not in asked[0]
    assert all("last_id=" in url for url in asked[1:])


async def test_an_outdated_token_makes_a_new_user(browser: Browser, pipeline: Pipeline) -> None:
    """A tab whose token was signed with a secret that is gone does not retry for ever: it becomes a new user."""
    context = await new_user(browser)
    await context.add_init_script(
        """if (!sessionStorage.getItem("user")) """
        """sessionStorage.setItem("user", JSON.stringify({ user_id: "user-old", token: "user-old.wrong" }));""",
    )
    page = await open_page(context, pipeline)
    await expect(page.locator("#user-id")).not_to_have_text("user-old")
    await check(page, "And now I recieve what is mine.", "en")
