"""The example's almanac: kept, forgotten, asked for by fifty at once, on each cache that the demo can start."""

from __future__ import annotations

import os
import re
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from frontdesk.caches import KINDS as EVERY_KIND
from frontdesk.caches import caches_for
from tests.examples.frontdesk import SITE, Frontdesk
from tests.services.browser import Browser

KINDS = (
    *("database", "pymemcache", "tiered"),
    # The others differ in a line of the settings; starting them all takes a minute.
    *(
        pytest.param(kind, marks=pytest.mark.soak)
        for kind in ("locmem", "file", "pylibmc", "redis", "redis-django", "sqlite")
    ),
)


class OnCache(Frontdesk):
    """The example with another cache."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind

    @property
    def env(self) -> dict[str, str]:
        return super().env | {"CACHE": self.kind}


def statuses(site: Frontdesk) -> list[str]:
    told = []
    for _ in range(2):
        with urllib.request.urlopen(f"{site.address}/almanac/figures/", timeout=30) as answer:
            told.append(re.sub(r"ttl=\d+", "ttl=…", answer.headers["Cache-Status"]))
    return told


@pytest.mark.parametrize("kind", KINDS)
def test_the_almanac_is_kept_on_each_cache(kind, tmp_path):
    site = OnCache(tmp_path, kind)
    site.start()
    try:
        assert statuses(site) == ["Backroom; fwd=uri-miss; stored; ttl=…", "Backroom; hit; ttl=…"]
    finally:
        site.stop()
    assert site.process is not None
    assert site.process.poll() == 0, site.process.output()


def test_each_of_djangos_ways_and_of_ours_can_be_chosen_and_is_named_in_the_readme(tmp_path):
    chosen = {kind: caches_for(kind, tmp_path)["default"]["BACKEND"].rpartition(".")[2] for kind in EVERY_KIND}
    assert chosen == {
        "dummy": "DummyCache",
        "locmem": "LocMemCache",
        "file": "FileBasedCache",
        "database": "DatabaseCache",
        "pymemcache": "PyMemcacheCache",
        "pylibmc": "PyLibMCCache",
        "redis-django": "RedisCache",
        "redis": "RedisCache",
        "sqlite": "SQLiteCache",
        "tiered": "TieredCache",
    }
    backends = {kind: caches_for(kind, tmp_path)["default"]["BACKEND"] for kind in ("redis-django", "redis")}
    assert [path.partition(".")[0] for path in backends.values()] == ["django", "backroom"]
    text = (SITE / "README.md").read_text()
    assert [kind for kind in EVERY_KIND if f"`{kind}`" not in text] == []


def test_nothing_is_kept_on_a_dummy(tmp_path):
    site = OnCache(tmp_path, "dummy")
    site.start()
    try:
        assert statuses(site) == ["Backroom; fwd=uri-miss; detail=not-stored"] * 2
        with urllib.request.urlopen(f"{site.address}/almanac/", timeout=30) as answer:
            assert "keeps nothing" in answer.read().decode()
    finally:
        site.stop()


@pytest.mark.parametrize("kind", ["pymemcache", "pylibmc"])
def test_a_client_of_memcached_is_made_without_a_traceback(kind, tmp_path, monkeypatch):
    """Those of pylibmc are raised to nobody: Python writes them, over the address of the site."""
    told: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    with override_settings(CACHES=caches_for(kind, tmp_path)), suppress(Exception):
        # Nothing listens there.
        caches["default"].get("almanac")
    assert [trouble.err_msg for trouble in told] == []


def test_a_cache_that_does_not_exist_is_told(tmp_path):
    site = OnCache(tmp_path, "paper")
    process = site.manage("demo", log=site.log)
    assert process.wait(60) == 1
    assert "CACHE is 'paper'. Use one of dummy, locmem, file," in process.output()


def test_a_visitor_without_scripts_sees_it_kept_forgets_it_and_sends_fifty(site, open_browser):
    browser: Browser = open_browser(javascript=False)
    address = f"{site.address}/almanac/"
    browser.goto(address)
    assert "Made for you" in browser.text
    browser.goto(address)
    assert "From the cache" in browser.text
    press(browser, "Forget it")
    assert "Made for you" in browser.text
    press(browser, "Send 50 visitors at once")
    heading = browser.read("#crowd-title")
    assert heading == "50 visitors, 1 computation", browser.text
    assert browser.read("#told-title") == "From the cache"
    pictured(site, open_browser)


def press(browser: Browser, label: str) -> None:
    (button,) = [each for each in browser.find_all("button") if each.text == label]
    browser.follow(button)


def pictured(site: Frontdesk, open_browser) -> None:
    """See that nothing is cut off on a phone, and keep pictures where ALMANAC_PICTURES says."""
    for width, height, scheme in ((1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")):
        window = open_browser(width=width, height=height, color_scheme=scheme)
        window.goto(f"{site.address}/almanac/")
        assert window.script("return document.documentElement.scrollWidth <= window.innerWidth")
        if folder := os.environ.get("ALMANAC_PICTURES"):
            window.screenshot(f"{folder}/almanac-{width}-{scheme}.png", whole_page=True)
