"""The page as a person uses it, in a real Chromium: typing, keys, what is read, colours, a phone's width."""

import re
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from api.corpus.reader import ReadCorpus
from shared.commands.redis_server import free_port
from tests.support.browser import CHROMIUM, PHONE, ask, chromium, opened
from tests.support.demo_data import demo_declarations, demo_modules, demo_rows
from tests.support.lean_client import GOAL, new_premise, retrieve
from tests.support.servers import Stack, running, wait_for, wait_until_ready

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

SHOWN = 16
KEY = "s3cret-key"
MODULE = "Init.Data.Nat.Gcd"
MARKUP = '<img src=x onerror="document.title=1"><b>bold</b>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, served: Stack) -> Iterator[Page]:
    with opened(browser, served.base_url) as page:
        yield page


def shown_names(page: Page) -> list[str]:
    return page.locator("#ranking .name").all_inner_texts()


def expected_names(client: httpx.Client, **fields: Any) -> list[str]:
    return [hit["name"] for hit in retrieve(client, k=SHOWN, **fields).json()]


def search_modules(page: Page, text: str) -> None:
    page.get_by_role("combobox", name="Modules").focus()
    expect(page.locator("#module-hint")).to_contain_text(f"all {len(demo_modules())} modules")
    page.keyboard.type(text)


def test_a_goal_typed_in_gets_the_premises_that_retrieve_answers(page: Page, client: httpx.Client) -> None:
    ask(page, GOAL)
    hits = retrieve(client, k=SHOWN).json()
    assert shown_names(page) == [hit["name"] for hit in hits]
    assert page.locator("#ranking .score .number").all_inner_texts() == [f"{hit['score']:.3f}" for hit in hits]
    widths = page.locator("#ranking .bar").evaluate_all("bars => bars.map(bar => parseFloat(bar.style.width))")
    assert widths == pytest.approx([100 * hit["score"] for hit in hits], abs=0.01)
    expect(page.locator("#summary")).to_contain_text(f"{SHOWN} premises in ")


def test_each_premise_comes_with_kind_module_signature_and_doc(page: Page) -> None:
    ask(page, GOAL)
    expect(page.locator("#ranking .kind")).to_have_count(SHOWN)
    for item, name in zip(page.locator("#ranking > li").all(), shown_names(page), strict=True):
        declared = demo_declarations()[name]
        assert item.locator(".kind").inner_text() == declared["kind"]
        assert item.locator(".module").inner_text() == declared["module"]
        signature = item.locator(".signature").inner_text()
        assert signature.split() == [*" ".join(declared["args"]).split(), ":", *declared["type"].split()]
        assert item.locator(".doc").all_inner_texts() == ([declared["doc"].replace("`", "")] if declared["doc"] else [])


def test_the_time_of_each_stage_is_a_bar(page: Page) -> None:
    with page.expect_response("**/retrieve") as answered:
        ask(page, GOAL)
    stages = (answered.value.header_value("server-timing") or "").split(", ")
    rows = page.locator("#timing-rows dd")
    expect(rows).to_have_count(len(stages) + 1)
    page.get_by_role("heading", name="Where the time went").wait_for()
    labels = page.locator("#timing-rows dt").all_inner_texts()
    assert {"embed goal", "search"} <= set(labels)
    assert labels[-1] == "round trip"
    assert all(text.endswith(" ms") for text in rows.all_inner_texts())
    ends = page.locator("#timing-rows .bar").evaluate_all(
        "bars => bars.map(bar => parseFloat(bar.style.marginInlineStart) + parseFloat(bar.style.width))"
    )
    assert max(ends) <= 100.01


def test_modules_found_with_the_keyboard_are_all_that_is_searched(page: Page, client: httpx.Client) -> None:
    search_modules(page, "nat gcd")
    expect(page.get_by_role("option")).to_have_text([MODULE])
    page.keyboard.press("Enter")
    expect(page.get_by_role("option", selected=True)).to_have_text([MODULE])
    expect(page.locator("#chips li")).to_contain_text([MODULE])
    page.keyboard.press("Escape")
    expect(page.get_by_role("listbox", name="Modules that match")).to_be_hidden()
    ask(page, GOAL)
    assert shown_names(page) == expected_names(client, imported_modules=[MODULE])
    assert set(shown_names(page)) <= {row.name for row in demo_rows() if row.module == MODULE}


def test_a_module_is_given_up_with_backspace_or_its_button(page: Page) -> None:
    search_modules(page, "")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.keyboard.press("ArrowDown")
    chips = page.locator("#chips li")
    expect(chips).to_have_count(2)
    active = page.get_by_role("combobox", name="Modules").get_attribute("aria-activedescendant")
    assert active
    assert page.locator(f"#{active}").get_attribute("role") == "option"
    page.keyboard.press("Backspace")
    expect(chips).to_have_count(1)
    page.get_by_role("button", name="Remove Init").click()
    expect(chips).to_have_count(0)


def test_pasted_imports_are_chosen(page: Page) -> None:
    search_modules(page, "")
    page.get_by_role("combobox", name="Modules").evaluate(
        """(input, text) => {
          const clipboardData = new DataTransfer();
          clipboardData.setData("text", text);
          input.dispatchEvent(new ClipboardEvent("paste", { clipboardData, cancelable: true, bubbles: true }));
        }""",
        f"import Init.Core\nimport {MODULE}\nimport No.Such.Module\n",
    )
    expect(page.locator("#chips li")).to_contain_text(["Init.Core", MODULE])


def test_a_new_declaration_is_ranked_and_marked(page: Page, client: httpx.Client) -> None:
    declaration = "theorem my_comm (a b : Nat) : a + b = b + a"
    page.get_by_role("button", name="Add one").click()
    page.keyboard.type(declaration)
    expect(page.get_by_label("Name", exact=True)).to_have_value("my_comm")
    ask(page, GOAL)
    assert shown_names(page) == expected_names(client, new_premises=[new_premise("my_comm", declaration)])
    own = page.locator("#ranking > li", has=page.locator(".new"))
    expect(own.locator(".name")).to_have_text("my_comm")
    expect(own.locator(".signature")).to_have_text(declaration)
    page.get_by_role("button", name="Remove this declaration").click()
    ask(page, GOAL)
    assert shown_names(page) == expected_names(client)


def test_several_declarations_are_pasted_at_once(page: Page) -> None:
    page.get_by_role("button", name="Paste several…").click()
    dialog = page.get_by_role("dialog", name="Paste declarations")
    dialog.get_by_role("textbox").fill("theorem first : True\n\n\n@[simp] lemma second.x {n : Nat} :\n  n = n\n")
    dialog.get_by_role("button", name="Add").click()
    expect(dialog).to_be_hidden()
    names = page.get_by_label("Name", exact=True)
    assert [name.input_value() for name in names.all()] == ["first", "second.x"]


def test_text_that_looks_like_markup_stays_text(page: Page) -> None:
    page.get_by_role("button", name="Add one").click()
    page.keyboard.type(f"{MARKUP} {GOAL}")
    page.get_by_label("Name", exact=True).fill(MARKUP)
    ask(page, MARKUP)
    expect(page.locator(".name", has_text=MARKUP)).to_have_count(1)
    expect(page.locator("#ranking img, #ranking b")).to_have_count(0)
    expect(page).to_have_title("Lean premise server")


def test_an_error_is_read_as_the_servers_sentence(page: Page) -> None:
    ask(page, GOAL)
    page.get_by_label("How many").fill("1.5")
    page.keyboard.press("Control+Enter")
    expect(page.get_by_role("alert")).to_have_text("Expected a whole number - at `$.k`.")
    expect(page.locator("#ranking > li")).to_have_count(0)
    page.get_by_label("How many").fill("2")
    page.get_by_role("button", name="Find premises").click()
    expect(page.locator("#ranking > li")).to_have_count(2)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_a_server_that_is_gone_is_said_so(page: Page) -> None:
    page.context.set_offline(True)
    ask(page, GOAL)
    expect(page.get_by_role("alert")).to_contain_text("does not answer")
    expect(page.locator("#readiness")).to_have_text("No answer")
    page.context.set_offline(False)
    expect(page.locator("#readiness")).to_have_text("Ready")


def test_an_example_is_asked_with_one_click(page: Page) -> None:
    page.get_by_role("button", name="logic").click()
    expect(page.locator("#ranking > li")).to_have_count(SHOWN)
    expect(page.get_by_label("Goal", exact=True)).to_have_value("p q r : Prop\n⊢ p ∧ (q ∨ r) ↔ p ∧ q ∨ p ∧ r")


def test_the_status_panel_follows_the_server(page: Page, client: httpx.Client, demo_corpus: ReadCorpus) -> None:
    expect(page.locator("#readiness")).to_have_text("Ready")
    status = client.get("/status").json()
    figures = {"Premises": len(demo_corpus), "Modules": len(demo_modules()), "Workers": 1, "Data": "demo-1"}
    for name, value in {**figures, "Model": status["model"], "Version": status["version"]}.items():
        shown = page.locator("#figures div", has=page.get_by_text(name, exact=True)).locator("dd")
        expect(shown).to_have_text(str(value))
    expect(page.locator("#worker-rows li")).to_contain_text([status["workers"][0]["id"]])


def test_the_share_of_hits_is_that_of_the_texts_asked_for_last(page: Page) -> None:
    expect(page.locator("#readiness")).to_have_text("Ready")
    ask(page, f"{GOAL} -- {time.time()}")
    expect(page.locator("#hits-title")).to_have_text("Embeddings from a cache: 0 %")
    expect(page.locator("#legend li")).to_have_text([re.compile("computed")])
    page.keyboard.press("Control+Enter")
    expect(page.locator("#hits-title")).to_have_text("Embeddings from a cache: 100 %")
    expect(page.locator("#legend li")).to_have_text([re.compile("in process")])


def test_the_status_is_asked_for_again_and_again_but_not_while_nobody_looks(browser: Browser, served: Stack) -> None:
    with opened(browser, served.base_url) as page:
        expect(page.locator("#readiness")).to_have_text("Ready")
        page.clock.install()
        page.reload()
        expect(page.locator("#readiness")).to_have_text("Ready")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        show(page, False)
        page.clock.run_for(20_000)
        assert asked == []
        with page.expect_response(lambda answer: answer.ok):
            show(page, True)
        for _ in range(3):
            with page.expect_response(lambda answer: answer.ok):
                page.clock.run_for(2_000)


def show(page: Page, visible: bool) -> None:
    """As if another tab were chosen, or this one again."""
    page.evaluate(
        """hidden => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        not visible,
    )


def test_everything_can_be_reached_with_the_tab_key_and_the_focus_is_seen(page: Page) -> None:
    reached = set()
    for _ in range(10):
        page.keyboard.press("Tab")
        focused = page.locator(":focus-visible")
        expect(focused).to_have_count(1)
        reached.add(focused.get_attribute("id"))
        outline = focused.evaluate("e => getComputedStyle(e.closest('.picker') ?? e).outlineStyle")
        assert outline == "solid"
    assert {"goal", "module-search", "add-premise", "paste-premises", "k", "find"} <= reached


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_needs_no_scrolling_sideways_in_either_colour_scheme(
    browser: Browser, served: Stack, scheme: str
) -> None:
    with opened(browser, served.base_url, PHONE, color_scheme=scheme) as page:
        page.get_by_role("button", name="Add one").click()
        page.keyboard.type(f"theorem {'very_' * 30}long : {'x' * 200}")
        ask(page, GOAL)
        expect(page.locator("#ranking > li")).to_have_count(SHOWN)
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE[0]
        paper, ink = page.locator("body").evaluate(
            "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color].map(c => +c.match(/\\d+/)[0])"
        )
        assert (ink > paper) == (scheme == "dark")


@pytest.fixture(scope="module")
def limited(served: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL, with the key in it and no slash behind, of an API process that lets a client ask once a minute."""
    port, log = free_port(), tmp_path_factory.mktemp("limited") / "api.log"
    env = {**served.env, "PORT": str(port), "API_KEY": KEY, "RATE_LIMIT": "1"}
    with running([sys.executable, "-P", "-m", "api"], env, log) as process:
        wait_until_ready(f"http://127.0.0.1:{port}", process, log)
        yield f"http://127.0.0.1:{port}/{KEY}"


@pytest.mark.parametrize("suffix", ["", "/", "/demo-1"])
def test_under_a_key_the_page_works_and_a_refusal_says_when_to_try_again(
    browser: Browser, limited: str, client: httpx.Client, suffix: str
) -> None:
    wait_for(lambda: time.time() % 60 < 50, "a minute with time left", 15)
    address = f"192.0.2.{len(suffix)}"
    with opened(browser, limited + suffix, extra_http_headers={"X-Forwarded-For": address}) as page:
        expect(page.locator("#readiness")).to_have_text("Ready")
        search_modules(page, "")
        ask(page, GOAL)
        assert shown_names(page) == expected_names(client)
        expect(page.locator("#ranking .kind")).to_have_count(SHOWN)
        page.keyboard.press("Control+Enter")
        expect(page.get_by_role("alert")).to_contain_text(re.compile("ry again in [0-9]+ s"))
