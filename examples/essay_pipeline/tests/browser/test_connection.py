"""The page and its connection: lost and found, away when a result came, reloaded, with a token that is outdated."""

import asyncio
import json
import re

import httpx
import pytest
from playwright.async_api import Browser, WebSocketRoute, expect

from .pages import PATIENCE_MS, Pipeline, check, expect_connected, new_user, open_page

pytestmark = [pytest.mark.browser, pytest.mark.integration]


async def test_an_essay_that_was_under_way_at_a_reload_does_not_stay_so(browser: Browser, pipeline: Pipeline) -> None:
    """After a while without a result the list says that none came; it is still to come."""
    context = await new_user(browser)
    lost = {"correlation_id": "c", "title": "Lost", "language": "en", "text": "x", "moments": {"sent_at": 1}}
    await context.add_init_script(f"sessionStorage.setItem('essays', {json.dumps(json.dumps([lost]))})")
    page = await open_page(context, pipeline)
    await expect(page.locator("#earlier .earlier-note")).to_have_text(["English · no result yet"])
    await expect(page.locator("#error-message")).to_contain_text("its result will appear here")


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


async def _notifications_kept(pipeline: Pipeline) -> float:
    """How many the services have kept for pages that are away."""
    async with httpx.AsyncClient(base_url=pipeline.notify_url, trust_env=False) as http:
        lines = (await http.get("/metrics")).text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines if line.startswith("huleedu_redis_notifications_stored_total{")
    )


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
    away, before = True, await _notifications_kept(pipeline)
    await routes[0].close(code=1001)
    await expect(page.locator("#connection")).to_have_attribute("data-state", "reconnecting")
    await page.fill("#essay-text", "I recieve what is mine, though I was away.")
    await page.click("#submit")
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while await _notifications_kept(pipeline) < before + 2:  # that it was accepted, and that it was checked
            await asyncio.sleep(0.1)
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
