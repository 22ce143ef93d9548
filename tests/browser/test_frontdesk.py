"""The example site in a real browser: order, watch, see the result; the same without scripts; change one's mind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.examples.frontdesk import Frontdesk, opened
from tests.services.browser import Browser

REPORT_SECONDS = 120
PAGES = ("/", "/slow/", "/programs/", "/almanac/", "/notepad/", "/session/", "/devices/", "/sign-in/", "/sign-up/")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontdesk]:
    with opened(tmp_path_factory.mktemp("frontdesk")) as running:
        yield running


def percent(browser: Browser) -> int:
    """Return how far the progress bar says that the work has come."""
    return int(browser.attribute('[role="progressbar"]', "aria-valuenow") or 0)


def wait_for_more(browser: Browser, than: int) -> int:
    """Wait until the work has come further, and return how far."""

    def further(page: Browser) -> int | None:
        come = percent(page)
        return come if come > than else None

    reached: int = browser.wait_until(further, seconds=60, what=f"more than {than} percent")
    return reached


def is_wider_than_its_window(browser: Browser) -> bool:
    wider: bool = browser.script("return document.documentElement.scrollWidth > window.innerWidth")
    return wider


def test_a_visitor_orders_watches_and_sees_the_report(site: Frontdesk, browser: Browser):
    browser.goto(site.address)
    browser.follow('button[value="airports"]')
    first = wait_for_more(browser, than=0)
    assert "/operations/" in browser.url
    # Nothing is loaded anew while the bar moves: a mark that is put on the page stays.
    browser.script("window.isStillThisPage = true")
    second = wait_for_more(browser, than=first)
    wait_for_more(browser, than=second)
    assert browser.script("return window.isStillThisPage") is True
    assert "of" in browser.read('[data-part="message"]')
    browser.wait_for(".tiles", seconds=REPORT_SECONDS)
    assert "28," in browser.read(".tiles")
    assert "Mataveri Airport" in browser.read(".lonely")
    assert browser.find(".world").size["width"] > 800
    assert len(browser.find_all(".histogram .bar")) > 20
    assert browser.errors() == []
    # The report stays at its address.
    browser.goto(browser.url)
    assert browser.read("h1") == "airports.csv"
    browser.goto(site.address)
    assert "done" in browser.read(".mine")


def test_a_visitor_without_scripts_sees_the_same(site: Frontdesk, open_browser: Callable[..., Browser]):
    browser = open_browser(javascript=False)
    browser.goto(site.address)
    browser.follow('button[value="airports"]')
    first = wait_for_more(browser, than=0)
    assert "This page reloads" in browser.text
    wait_for_more(browser, than=first)
    browser.wait_for(".tiles", seconds=REPORT_SECONDS)
    assert "28," in browser.read(".tiles")
    assert browser.find(".world").is_displayed()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_visitor_changes_their_mind(site: Frontdesk, open_browser: Callable[..., Browser], javascript: bool):
    browser = open_browser(javascript=javascript)
    browser.goto(site.address)
    browser.follow('button[value="airports"]')
    wait_for_more(browser, than=0)
    browser.click('[data-part="cancel"] button')
    browser.wait_for_text("cancelled", seconds=30)
    browser.follow(".offload-actions a")
    browser.wait_for("button[value=airports]")


def test_a_visitor_reports_on_a_file_of_their_own_from_a_phone(
    site: Frontdesk, open_browser: Callable[..., Browser], tmp_path: Path
):
    browser = open_browser(width=320, height=640, color_scheme="dark")
    browser.goto(site.address)
    (tmp_path / "wrong.csv").write_bytes(b'name,size\n"Ada,1\n')
    browser.fill("#file", str(tmp_path / "wrong.csv"))
    browser.follow("form[enctype] button")
    browser.wait_for_text("No report was ordered")
    assert not is_wider_than_its_window(browser)
    browser.errors()  # the browser tells of the 422
    rows = "".join(f"{'<i>Ada</i>' if row % 3 else 'Grace'},{row * 1.5}\n" for row in range(200))
    (tmp_path / "right.csv").write_text(f"name,size\n{rows}")
    browser.fill("#file", str(tmp_path / "right.csv"))
    browser.follow("form[enctype] button")
    browser.wait_for(".tiles", seconds=REPORT_SECONDS)
    assert "<i>Ada</i>" in browser.read(".values")
    assert not is_wider_than_its_window(browser)
    assert browser.errors() == []


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_every_page_suits_a_phone_whatever_its_colours(
    site: Frontdesk, open_browser: Callable[..., Browser], color_scheme: str
):
    browser = open_browser(width=360, height=740, color_scheme=color_scheme)
    browser.goto(f"{site.address}/sign-up/")
    browser.fill("[name=username]", f"ann-{color_scheme}")
    browser.fill("[name=password1]", "correct horse battery")
    browser.fill("[name=password2]", "correct horse battery")
    browser.follow("main button")
    browser.wait_for_text("Signed in as")
    browser.fill("[name=text]", "A note" * 30)
    browser.follow("[name=add]")
    browser.wait_for_text("Your notes")
    cut_off = "return [...document.querySelectorAll('pre')].filter(each => each.scrollWidth > each.clientWidth).length"
    found = {}
    for path in PAGES:
        browser.goto(f"{site.address}{path}")
        found[path] = [*browser.faults(), *browser.errors(), *(["code is cut off"] if browser.script(cut_off) else [])]
    assert found == {path: [] for path in PAGES}


def test_tab_reaches_all_of_a_page_in_order_and_shows_where_it_is(site: Frontdesk, browser: Browser):
    found = {}
    for path in PAGES:
        browser.goto(f"{site.address}{path}")
        found[path] = browser.tab_through()
    assert found == {path: [] for path in PAGES}


def test_a_wrong_address_is_explained_in_the_sites_own_look(site: Frontdesk, browser: Browser):
    browser.goto(f"{site.address}/nothing/")
    assert "There is nothing here" in browser.text
    assert browser.faults() == []


def test_a_keyboard_is_enough(site: Frontdesk, browser: Browser):
    from selenium.webdriver.common.keys import Keys

    browser.goto(site.address)
    focused = "return document.activeElement.textContent.trim()"
    reached = []
    for _ in range(12):
        browser.find("body").send_keys(Keys.TAB)
        reached.append(browser.script(focused))
        if reached[-1] == "Order the report":
            break
    assert reached[0] == "Skip to the content"
    assert reached[-1] == "Order the report"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.wait_for("[data-offload]")
    browser.click('[data-part="cancel"] button')
    browser.wait_for_text("cancelled", seconds=30)
