"""What the page makes of an essay, in headless Chromium against the real services: results, times and marks, on a desktop and a phone."""

import json
import re

import pytest
from playwright.async_api import Browser, Page, WebSocket, WebSocketRoute, expect

from .pages import DURATION, PATIENCE_MS, PHONE, Pipeline, artifacts, check, expect_connected, new_user, open_page

pytestmark = [pytest.mark.browser, pytest.mark.integration]

STAGES = ("received", "stored", "relayed", "checked", "result-stored", "notified", "browser")

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
