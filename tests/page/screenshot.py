"""Writes docs/page.png, the picture of the page in the README: `make screenshot`."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Page, expect

from tests.support.browser import CHROMIUM, ask, chromium, opened
from tests.support.repository import ROOT
from tests.support.servers import stack

PICTURE = ROOT / "docs" / "page.png"
SIZE = (1280, 1275)
GOAL = "x y z : Nat\nh : x ≤ y\n⊢ x + z ≤ z + y"
NEW = "theorem add_le_comm (a b c : Nat) (h : a ≤ b) : a + c ≤ c + b"


def show_example(page: Page) -> None:
    """A goal, a module and a declaration of the user's own."""
    page.get_by_role("combobox", name="Modules").focus()
    expect(page.locator("#module-hint")).to_contain_text("all ")
    page.keyboard.type("nat basic")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Add one").click()
    page.keyboard.type(NEW)
    # Another goal first: what is measured then is a goal that is new to a server that is not.
    for goal in ("⊢ True", GOAL):
        ask(page, goal)
        page.locator("#ranking .kind").first.wait_for()
    page.locator("#legend .list").wait_for()
    page.locator(":focus").blur()
    # A worker is called by the name of its machine.
    page.locator("#workers").evaluate("element => { element.style.display = 'none'; }")


def main() -> None:
    if CHROMIUM is None:
        sys.exit("chromium is not installed.")
    with (
        TemporaryDirectory() as directory,
        stack(Path(directory)) as running,
        chromium() as browser,
        opened(browser, running.base_url, SIZE) as page,
    ):
        show_example(page)
        page.screenshot(path=PICTURE)
    print(f"{PICTURE}: {PICTURE.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
