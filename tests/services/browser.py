"""Headless Chromium, driven through Debian's chromedriver."""

from __future__ import annotations

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException, WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from tests.services.servers import die_with_parent, find_program

FLAGS = [
    "--headless=new",
    "--no-sandbox",  # Chromium's sandbox cannot be set up by root
    "--disable-gpu",
    "--disable-dev-shm-usage",  # /dev/shm is small where tests run in a container
    "--hide-scrollbars",
    "--remote-debugging-pipe",  # a pipe that breaks when the driver is killed takes Chromium with it
    # Without these, Chromium asks its maker's servers for updates at every start.
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


FAULTS = Path(__file__).with_name("faults.js")

# One radio button of a group takes the focus: the checked one, or the first.
TABBED = """
const tabbed = [...document.querySelectorAll("a[href], button, summary, input, select, textarea, [tabindex='0']")].filter(
  (each) => each.checkVisibility() && !each.disabled && each.type !== "hidden" && (each.type !== "radio" || each.checked));
"""
REACHABLE = f"{TABBED} return tabbed.length"
FOCUSED = f"""{TABBED}
const focused = document.activeElement;
if (!tabbed.includes(focused)) return null;
const box = focused.getBoundingClientRect();
const isInside = box.bottom > 0 && box.top < window.innerHeight && box.right > 0 && box.left < window.innerWidth;
const hasOutline = getComputedStyle(focused).outlineStyle !== "none";
return [tabbed.indexOf(focused), focused.textContent.trim() || focused.name, isInside && hasOutline];
"""


def is_of_another_page(error: WebDriverException) -> bool:
    """Return whether the element that was found belonged to the page before: WebDriver says so in two ways."""
    return isinstance(error, StaleElementReferenceException) or "does not belong to the document" in str(error)


class Browser:
    """One window of a Chromium of its own, with its own cookies."""

    def __init__(
        self,
        profile: Path,
        *,
        width: int = 1280,
        height: int = 800,
        javascript: bool = True,
        color_scheme: Literal["light", "dark"] = "light",
        reduced_motion: bool = False,
    ) -> None:
        self.width, self.height = width, height
        chromium = find_program("chromium", service="Chromium", package="chromium")
        chromedriver = find_program("chromedriver", service="Chromium's driver", package="chromium-driver")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium
        for flag in [*FLAGS, f"--user-data-dir={profile}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        if not javascript:
            refused = {"profile.managed_default_content_settings.javascript": 2}
            options.add_experimental_option("prefs", refused)
        service = webdriver.ChromeService(chromedriver, popen_kw={"preexec_fn": die_with_parent})
        self.driver = webdriver.Chrome(options, service)
        self.driver.set_page_load_timeout(30)
        self._emulate(color_scheme=color_scheme, reduced_motion=reduced_motion)

    def goto(self, url: str) -> None:
        """Open a page and wait until it has loaded."""
        self.driver.get(url)

    @property
    def url(self) -> str:
        """Return the address of the page."""
        return self.driver.current_url

    @property
    def title(self) -> str:
        """Return the page's title."""
        return self.driver.title

    @property
    def text(self) -> str:
        """Return the text that a visitor sees."""
        return self.read("body")

    def read(self, css: str) -> str:
        """Return the text that a visitor sees of the first element that matches, or fail."""
        # WebDriver's own idea of visible text leaves out <noscript>, which a visitor without scripts sees.
        shown: str = self._steady(lambda: self.find(css).get_property("innerText"))
        return shown

    def attribute(self, css: str, name: str) -> str | None:
        """Return an attribute of the first element that matches, or fail."""
        found: str | None = self._steady(lambda: self.find(css).get_attribute(name))
        return found

    def find(self, css: str) -> WebElement:
        """Return the first element that matches, or fail."""
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def find_all(self, css: str) -> list[WebElement]:
        """Return every element that matches."""
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def click(self, css: str) -> None:
        """Click the first element that matches, which leads to no other page: see :meth:`follow`."""
        self._steady(lambda: self.find(css).click())

    def follow(self, link: str | WebElement) -> None:
        """Click the first element that matches, or this one, and wait until the page is another."""
        before = self.find("html")
        if isinstance(link, str):
            self.click(link)
        else:
            link.click()
        self.wait_until(lambda _: self._has_gone(before), seconds=30, what="another page")

    def fill(self, css: str, value: str) -> None:
        """Type into a field, or give a file field the path of a file."""
        field = self.find(css)
        if field.get_attribute("type") != "file":
            field.clear()
        field.send_keys(value)

    def wait_until(self, is_true: Callable[[Browser], Any], *, seconds: float = 20, what: str = "") -> Any:
        """Wait until the function of this browser returns something true, and return that."""

        def is_true_of_one_page(_driver: Any) -> Any:
            try:
                return is_true(self)
            except NoSuchElementException:  # a page that is being replaced has none
                return None
            except WebDriverException as error:
                if not is_of_another_page(error):
                    raise
                return None

        wait = WebDriverWait(self.driver, seconds, poll_frequency=0.05)
        return wait.until(is_true_of_one_page, message=what or "the page to change")

    def wait_for(self, css: str, *, seconds: float = 20) -> WebElement:
        """Wait until an element matches and is visible, and return it."""
        element: WebElement = self.wait_until(
            lambda browser: next((each for each in browser.find_all(css) if each.is_displayed()), None),
            seconds=seconds,
            what=f"{css} to appear",
        )
        return element

    def wait_for_text(self, text: str, *, seconds: float = 20) -> None:
        """Wait until the page shows this text."""
        self.wait_until(lambda browser: text in browser.text, seconds=seconds, what=f"{text!r} to appear")

    def errors(self) -> list[str]:
        """Return what the console complained of since the last call: errors, refused content, failed loads."""
        entries = self.driver.get_log("browser")
        return [entry["message"] for entry in entries if entry["level"] in {"SEVERE", "WARNING"}]

    def script(self, code: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return its value. Not possible where JavaScript is off."""
        return self.driver.execute_script(code, *arguments)

    def faults(self) -> list[str]:
        """Return what keeps people from reading, tapping or hearing this page: contrast, size, width, labels."""
        found: list[str] = self.script(FAULTS.read_text())
        return found

    def tab_through(self) -> list[str]:
        """Press Tab until it leaves the page; return what was focused out of order, unseen, or without an outline."""
        self.script("document.activeElement.blur(); window.scrollTo(0, 0)")
        wrong: list[str] = []
        last = -1
        while (found := self._tab()) is not None:
            place, name, is_seen = found
            if place < last:
                break
            if place == last or not is_seen:
                wrong.append(name)
            last = place
        reachable = self.script(REACHABLE)
        return wrong if last == reachable - 1 else [*wrong, f"{last + 1} of {reachable} were reached"]

    def _tab(self) -> list[Any] | None:
        key = {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
        self.devtools("Input.dispatchKeyEvent", type="keyDown", **key)
        self.devtools("Input.dispatchKeyEvent", type="keyUp", **key)
        found: list[Any] | None = self.script(FOCUSED)
        return found

    def devtools(self, command: str, **parameters: Any) -> Any:
        """Send a command of the Chrome DevTools Protocol."""
        return self.driver.execute_cdp_cmd(command, parameters)

    def screenshot(self, path: str | Path, *, whole_page: bool = False) -> Path:
        """Save a PNG of the window, or of the whole page."""
        taken = self.devtools("Page.captureScreenshot", format="png", captureBeyondViewport=whole_page)
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    def close(self) -> None:
        """End the browser; the folder of its profile is the caller's."""
        self.driver.quit()

    def _steady(self, act: Callable[[], Any]) -> Any:
        """Find an element and do something with it in one go: again if the page was replaced in between."""
        for _ in range(5):
            try:
                return act()
            except WebDriverException as error:
                if not is_of_another_page(error):
                    raise
        return act()

    def _has_gone(self, element: WebElement) -> bool:
        try:
            element.is_enabled()
        except WebDriverException as error:
            if not is_of_another_page(error):
                raise
            return True
        return False

    def _emulate(self, *, color_scheme: str, reduced_motion: bool) -> None:
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            width=self.width,
            height=self.height,
            deviceScaleFactor=1,
            mobile=self.width < 600,
        )
        motion = "reduce" if reduced_motion else "no-preference"
        self.devtools(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": color_scheme},
                {"name": "prefers-reduced-motion", "value": motion},
            ],
        )
