"""What a person does with the page, and how long they wait for it.

Screenshots are kept under ``artifacts/`` at the root of the repository.
"""

import re
from pathlib import Path
from typing import Protocol

import pytest
from playwright.async_api import Browser, BrowserContext, Page, expect

DURATION = re.compile(r"^(<1|\d+(\.\d)?) (ms|s)$")
PATIENCE_MS = 20_000
DESKTOP = (1280, 1000)
PHONE = (390, 844)


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


def artifacts() -> Path:
    """Where screenshots are kept: beside the workspace's pyproject.toml."""
    for folder in Path(__file__).resolve().parents:
        project = folder / "pyproject.toml"
        if project.is_file() and "[tool.uv.workspace]" in project.read_text(encoding="utf-8"):
            kept = folder / "artifacts"
            kept.mkdir(exist_ok=True)
            return kept
    pytest.fail("No pyproject.toml with [tool.uv.workspace] above this file")


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
