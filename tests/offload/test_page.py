"""The progress page in a real browser: with JavaScript and without, by events and by polling, for eyes and ears."""

from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpResponse

from backroom.offload import Refused
from backroom.tasks.records import Cancelled, Raised
from tests.offload.conftest import Running
from tests.services.browser import Browser
from tests.services.project import wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.urls("tests.offload.site")]


def attribute(name: str, part: str = "bar") -> Callable[[Browser], Any]:
    return lambda browser: browser.attribute(f'[data-part="{part}"]', name)


def shows(browser: Browser, percent: int) -> None:
    browser.wait_until(lambda page: attribute("aria-valuenow")(page) == str(percent), what=f"{percent}%")


def fits(browser: Browser) -> bool:
    return bool(browser.script("return document.documentElement.scrollWidth <= window.innerWidth"))


@pytest.fixture
def no_streams(monkeypatch):
    """Be a server that streams nothing."""
    monkeypatch.setattr("backroom.offload.resources.event_stream", lambda *_args: HttpResponse(status=204))


@pytest.fixture(params=["events", "polling"])
def way(request) -> str:
    if request.param == "polling":
        request.getfixturevalue("no_streams")
    return str(request.param)


def test_a_visitor_watches_the_work_and_sees_the_result_at_the_same_address(browser, live_server, way):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("Waiting for its turn")
    assert attribute("aria-valuenow")(browser) is None
    running = Running()
    browser.wait_for_text("Working")
    running.report(1, 4, "Reading the first quarter")
    shows(browser, 25)
    browser.wait_for_text("Reading the first quarter")
    assert browser.title == "25% · Preparing your result"
    assert attribute("aria-valuetext")(browser) == "25%"
    assert attribute("width", "fill")(browser) == "25%"
    running.finish()
    browser.wait_for_text("Here is your result")
    assert browser.url == f"{live_server.url}/report/2024/"
    # Nothing was refused by the page's own strict policy, and nothing failed.
    assert browser.errors() == []


def test_a_form_leads_to_the_progress_and_on_to_the_result(browser, live_server):
    browser.goto(f"{live_server.url}/form/")
    browser.fill("[name=year]", "2024")
    browser.follow("[type=submit]")
    browser.wait_for_text("Waiting for its turn")
    Running().finish()
    browser.wait_for_text("Here is your result")
    assert browser.url.endswith("/result/")
    assert browser.errors() == []


def test_cancelling_by_keyboard_ends_the_work_and_offers_to_start_again(browser, live_server):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for("button")
    press(browser, "Tab")
    assert browser.script("return document.activeElement.textContent") == "Cancel"
    press(browser, "Enter")
    browser.wait_for_text("Start again")
    browser.follow("a.is-primary")
    browser.wait_for_text("Waiting for its turn")


def test_a_developer_who_forgot_the_worker_is_told_until_one_begins(browser, live_server, settings):
    settings.DEBUG = True
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("No worker is running. Start one: manage.py backroom worker")
    Running()
    browser.wait_for_text("Working")
    assert "No worker" not in browser.text


def test_work_that_was_asked_to_stop_does_not_go_on_either_way(browser, live_server):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("The work goes on either way.")
    running = Running()
    browser.wait_for_text("Working")
    browser.click("form button")
    browser.wait_for_text("The work was asked to stop. It stops within 12 seconds at the latest.")
    assert "either way" not in browser.text
    # The page says it when it is loaded, too.
    browser.goto(browser.url)
    browser.wait_for_text("It stops within 12 seconds at the latest.")
    running.end(Cancelled())
    browser.wait_for_text("Cancelled")


@pytest.mark.parametrize("color_scheme", ["light", "dark"])
def test_everybody_can_read_tap_and_hear_the_pages(open_browser, live_server, color_scheme):
    browser = open_browser(width=360, height=740, color_scheme=color_scheme)
    found = {}

    def look(name: str) -> None:
        found[name] = [*browser.faults(), *browser.tab_through()]

    browser.goto(f"{live_server.url}/everything/")
    look("form")
    browser.follow("[type=submit]")
    browser.wait_for(".errorlist")
    look("form that is filled in wrongly")
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("Waiting for its turn")
    look("waiting")
    running = Running()
    running.report(1, 4, "Reading the first quarter")
    shows(browser, 25)
    look("working")
    running.finish()
    browser.wait_for_text("Here is your result")
    look("result")
    browser.goto(f"{live_server.url}/report/2025/")
    Running().end(Raised(Refused("x"), "backroom.offload.exceptions.Refused", REFUSED))
    browser.wait_for_text("no header row")
    look("refusal")
    assert found == {name: [] for name in found}


def press(browser: Browser, key: str) -> None:
    codes = {"Tab": 9, "Enter": 13}
    event = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
    text = {"text": "\r"} if key == "Enter" else {}
    browser.devtools("Input.dispatchKeyEvent", type="keyDown", **event, **text)
    browser.devtools("Input.dispatchKeyEvent", type="keyUp", **event)


def test_a_visitor_without_javascript_gets_there_by_reloading(open_browser, live_server):
    browser = open_browser(javascript=False)
    browser.goto(f"{live_server.url}/report/2024/")
    assert "This page reloads every 2 seconds." in browser.text
    running = Running()
    running.report(3, 4, "Nearly there")
    shows(browser, 75)
    assert attribute("width", "fill")(browser) == "75%"
    assert browser.title == "75% · Preparing your result"
    running.finish()
    browser.wait_for_text("Here is your result")
    assert browser.url == f"{live_server.url}/report/2024/"


def test_a_visitor_without_javascript_can_cancel(open_browser, live_server):
    browser = open_browser(javascript=False)
    browser.goto(f"{live_server.url}/report/2024/")
    browser.follow("form button")
    browser.wait_for_text("The work was cancelled")


def test_the_page_fits_a_small_phone_and_keeps_still_for_who_wants_that(open_browser, live_server):
    browser = open_browser(width=320, height=640, reduced_motion=True, color_scheme="dark")
    browser.goto(f"{live_server.url}/report/2024/")
    running = Running()
    running.report(1, 4, "Reading/a/very/long/path/without/any/place/to/break/the/line/at/all.csv")
    browser.wait_for_text("without/any/place")
    assert fits(browser)
    moving = "return document.getAnimations().filter(each => each.playState === 'running').length"
    assert browser.script(moving) == 0
    running.end(Raised(Refused("x"), "backroom.offload.exceptions.Refused", REFUSED))
    browser.wait_for_text("no header row")
    assert fits(browser)


REFUSED = "Traceback …\nbackroom.offload.exceptions.Refused: The file has no header row.\n"


def test_a_screen_reader_hears_of_the_state_and_not_of_every_step(browser, live_server):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("Waiting for its turn")
    assert attribute("role", "live")(browser) == "status"
    heard = "return document.querySelector('[data-part=live]').textContent"
    assert browser.script(heard) == ""
    running = Running()
    browser.wait_for_text("Working")
    said = browser.script(heard)
    assert said == "Working"
    for step in range(1, 4):
        running.report(step, 100)
        shows(browser, step)
    assert browser.script(heard) == said


def test_a_connection_that_comes_and_goes_is_told_and_got_over(browser, live_server, no_streams):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("Waiting for its turn")
    browser.devtools("Network.enable")
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.devtools("Network.emulateNetworkConditions", offline=True, **offline)
    browser.wait_for_text("The connection is interrupted")
    browser.devtools("Network.emulateNetworkConditions", offline=False, **offline)
    Running().finish()
    browser.wait_for_text("Here is your result")


def test_who_signed_out_elsewhere_is_shown_what_the_address_says_now(browser, live_server, no_streams):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("Waiting for its turn")
    before = browser.attribute("[data-offload]", "data-status-url")
    browser.driver.delete_all_cookies()
    browser.wait_until(lambda page: page.attribute("[data-offload]", "data-status-url") != before)


def test_a_tab_that_nobody_looks_at_holds_no_connection_and_still_gets_there(browser, live_server):
    browser.goto(f"{live_server.url}/report/2024/")
    browser.wait_for_text("Waiting for its turn")
    hide(browser, is_hidden=True)
    running = Running()
    hide(browser, is_hidden=False)
    browser.wait_for_text("Working")
    hide(browser, is_hidden=True)
    streams = "return performance.getEntriesByType('resource').filter(each => each.name.endsWith('/events/')).length"
    before = browser.script(streams)
    running.finish()
    browser.wait_for_text("Here is your result")
    assert before == 2


def hide(browser: Browser, *, is_hidden: bool) -> None:
    browser.script(
        "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))",
        is_hidden,
    )


def test_streams_end_with_their_pages(live_server):
    """The last test of this module: no thread of the live server may be left with a stream."""
    from backroom.offload import events

    wait_until(lambda: events._places._value == events.WSGI_STREAMS, seconds=40, what="the streams to end")
