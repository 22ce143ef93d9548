"""Sessions in a real browser: closing it, reopening it, two of them at once, the colours, and the page without scripts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.examples.frontdesk import Frontdesk, opened
from tests.services.browser import Browser

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Frontdesk]:
    with opened(tmp_path_factory.mktemp("frontdesk-sessions")) as running:
        yield running


@pytest.fixture
def reopen(services_folder: Path, tmp_path: Path) -> Iterator[Callable[..., Browser]]:
    """Give a function that closes a browser, if there is one, and opens it again with what it kept on disk."""
    running: list[Browser] = []
    profile = tmp_path / "profile"

    def again(**options: Any) -> Browser:
        if running:
            running.pop().close()
        running.append(Browser(profile, javascript=False, **options))
        return running[0]

    yield again
    running.pop().close()


def sign_up(browser: Browser, site: Frontdesk, name: str) -> None:
    browser.goto(f"{site.address}/sign-up/")
    browser.fill("[name=username]", name)
    browser.fill("[name=password1]", PASSWORD)
    browser.fill("[name=password2]", PASSWORD)
    browser.follow("main button")
    browser.wait_for_text(f"Signed in as {name}")


def sign_in(browser: Browser, site: Frontdesk, name: str, *, remember: bool) -> None:
    browser.goto(f"{site.address}/sign-in/")
    browser.fill("[name=username]", name)
    browser.fill("[name=password]", PASSWORD)
    if remember:
        browser.click("[name=remember]")
    browser.follow("main button")
    browser.wait_for_text(f"Signed in as {name}")


def sign_out(browser: Browser) -> None:
    browser.follow(".leave button")
    browser.wait_for_text("Sign in")


def test_closing_the_browser_signs_out_unless_it_is_to_remember(site, reopen):
    browser = reopen()
    sign_up(browser, site, "ann")
    cookie = next(each for each in browser.driver.get_cookies() if each["name"] == "frontdesk-session")
    assert "expiry" not in cookie
    assert cookie["httpOnly"]

    browser = reopen()
    browser.goto(f"{site.address}/notepad/")
    assert "Sign in" in browser.text
    assert not [each for each in browser.driver.get_cookies() if each["name"] == "frontdesk-session"]

    sign_in(browser, site, "ann", remember=True)
    cookie = next(each for each in browser.driver.get_cookies() if each["name"] == "frontdesk-session")
    assert cookie["expiry"] > time.time() + 13 * 86_400

    browser = reopen()
    browser.goto(f"{site.address}/notepad/")
    assert "Signed in as ann" in browser.text
    sign_out(browser)


def test_notes_survive_signing_in_and_the_session_page_does_what_its_buttons_say(site, open_browser):
    browser = open_browser(javascript=False)
    browser.goto(f"{site.address}/notepad/")
    browser.fill("[name=text]", "Buy <b>string</b>")
    browser.follow("main form.entry button")
    browser.wait_for_text("Buy <b>string</b>")
    sign_up(browser, site, "bob")
    assert "Buy <b>string</b>" in browser.text

    browser.goto(f"{site.address}/session/")
    assert "until the browser is closed" in browser.text
    browser.fill("[name=name]", "basket")
    browser.fill("[name=value]", '{"apples": 3}')
    browser.follow("[name=set]")
    browser.wait_for_text("The name was set")
    assert '{"apples": 3}' in browser.text
    browser.fill("[name=name]", "_auth_user_id")
    browser.fill("[name=value]", "1")
    browser.follow("[name=set]")
    browser.wait_for_text("The site keeps that one itself")
    browser.goto(f"{site.address}/session/")
    browser.follow('[name=delete][value="basket"]')
    browser.wait_for_text("The name was deleted")
    assert "apples" not in browser.text
    browser.follow('[name=expiry][value="default"]')
    browser.wait_for_text("The end of the session was moved")
    assert "until the browser is closed" not in browser.text
    before = browser.read("dd code"), browser.text
    browser.follow("[name=renew]")
    browser.wait_for_text("new id and the same contents")
    assert "Buy <b>string</b>" in browser.text
    assert before[1] != browser.text
    browser.follow("[name=clear]")
    browser.wait_for_text("Everything in the session was deleted")
    assert "Nothing of yours" in browser.text
    browser.follow("[name=flush]")
    browser.wait_for_text("The session was ended")
    assert "No row" in browser.text
    assert browser.errors() == []


def test_a_session_that_is_to_end_now_has_ended(site, open_browser):
    browser = open_browser(javascript=False)
    browser.goto(f"{site.address}/session/")
    browser.fill("[name=name]", "here")
    browser.fill("[name=value]", "1")
    browser.follow("[name=set]")
    browser.wait_for_text("The name was set")
    browser.follow('[name=expiry][value="now"]')
    browser.wait_for_text("No row")
    assert not [each for each in browser.driver.get_cookies() if each["name"] == "frontdesk-session"]


def test_a_phone_is_signed_out_from_the_laptop(site, open_browser):
    laptop = open_browser(javascript=False)
    sign_up(laptop, site, "cleo")
    phone = open_browser(javascript=False, width=390, height=844)
    sign_in(phone, site, "cleo", remember=True)
    laptop.goto(f"{site.address}/devices/")
    assert laptop.text.count("Chrome on Linux") >= 2
    laptop.follow(".device:not(.is-current) .device-end button")
    laptop.wait_for_text("That device is signed out")
    phone.goto(f"{site.address}/notepad/")
    assert "Signed in as" not in phone.text
    assert laptop.errors() == []


@pytest.mark.parametrize(("system", "chosen", "dark"), [("light", "dark", True), ("dark", "light", False)])
def test_the_colours_are_the_visitors_choice_and_stay(site, open_browser, system, chosen, dark):
    browser = open_browser(javascript=True, color_scheme=system)
    browser.goto(f"{site.address}/notepad/")
    paper = "return getComputedStyle(document.body).backgroundColor"
    before = browser.script(paper)
    browser.follow(f'[name=theme][value="{chosen}"]')
    browser.wait_until(lambda each: each.script(paper) != before)
    assert browser.url == f"{site.address}/notepad/"
    brightness = sum(map(int, browser.script(paper).removeprefix("rgb(").removesuffix(")").split(",")))
    assert (brightness < 384) is dark
    browser.goto(f"{site.address}/session/")
    assert browser.attribute("html", "data-theme") == chosen
    browser.follow('[name=theme][value=""]')
    browser.wait_until(lambda each: each.script(paper) == before)
    assert browser.errors() == []
