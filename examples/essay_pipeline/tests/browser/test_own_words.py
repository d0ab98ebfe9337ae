"""What people write or take from the shelf: whose words they are, what cannot be taken, and what intake refuses."""

import re

import pytest
from playwright.async_api import Browser, Route, expect

from .pages import PATIENCE_MS, Pipeline, artifacts, check, new_user, open_page

pytestmark = [pytest.mark.browser, pytest.mark.integration]


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
