"""A real Chromium without a window, and the page in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
DESKTOP = (1280, 960)
PHONE = (360, 740)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's; its processes end with the block."""
    with sync_playwright() as playwright:
        # Without a sandbox, because Chromium refuses to have one as root; it opens nothing but our own page.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: Browser, url: str, size: tuple[int, int] = DESKTOP, **options: Any) -> Iterator[Page]:
    """The page at a URL; fails if the browser complained of anything but an answer that is an error."""
    width, height = size
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    complaints: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and "Failed to load resource" not in message.text:
            complaints.append(message.text)

    page = context.new_page()
    page.on("console", heard)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        page.goto(url)
        yield page
        assert complaints == []
    finally:
        context.close()


def ask(page: Page, goal: str) -> None:
    """Type a goal, press Ctrl+Enter and wait until the answer and what it names are shown."""
    page.get_by_label("Goal", exact=True).fill(goal)
    page.keyboard.press("Control+Enter")
    page.locator("#premises[aria-busy=false]").wait_for()
