"""Core Django's own tests of its cache middlewares, `cache_page()` and `{% cache %}`, with ours in their places.

All of them pass; none is left out of a case that is here.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final
from unittest import mock

import pytest
from django.test import override_settings

from backroom.cache import cache_page
from backroom.cache.middleware import CacheMiddleware, FetchFromCacheMiddleware, UpdateCacheMiddleware
from tests.conformance import source

TAG: Final = "backroom.cache.templatetags.backroom_cache"
OURS: Final[dict[str, Any]] = {
    "CacheMiddleware": CacheMiddleware,
    "UpdateCacheMiddleware": UpdateCacheMiddleware,
    "FetchFromCacheMiddleware": FetchFromCacheMiddleware,
    "cache_page": cache_page,
}
MIDDLEWARE_CASES: Final = ("CacheHEADTest", "CacheI18nTest", "PrefixedCacheI18nTest", "CacheMiddlewareTest")
DECORATOR_CASES: Final = ("CachePageDecoratorTest",)
TAG_CASES: Final = ("CacheTagTests", "CacheTests")
"""What is left out says nothing of a cache: the helpers of django.utils.cache, `cache_control()` and `never_cache()`."""


def load() -> dict[str, type[Any]]:
    """Return Django's test cases, in modules of our own, so that others' copies keep Django's middlewares."""
    source.prepare()
    cases = {
        **_cases(_package("cache"), MIDDLEWARE_CASES, "tests"),
        **_cases(_package("decorators"), DECORATOR_CASES, "test_cache"),
    }
    return cases | _cases(importlib.import_module("template_tests.syntax_tests"), TAG_CASES, "test_cache")


def _package(suite: str) -> ModuleType:
    name = f"pages_{suite}"
    package = ModuleType(name)
    package.__path__ = [str(source.FOLDER / suite)]
    sys.modules[name] = package
    # Its models belong to an app that is not installed here, and to tests that are not run here.
    sys.modules[f"{name}.models"] = mock.MagicMock()
    return package


def _cases(package: ModuleType, names: tuple[str, ...], module: str) -> dict[str, type[Any]]:
    loaded = importlib.import_module(f"{package.__name__}.{module}")
    if package.__name__.startswith("pages_"):
        vars(loaded).update({name: ours for name, ours in OURS.items() if hasattr(loaded, name)})
    return {name: getattr(loaded, name) for name in names}


def _clone(case: type[Any], name: str) -> Any:
    """Return a test case of this module whose templates load our tag."""
    members: dict[str, Any] = {"__module__": __name__}
    if libraries := getattr(case, "libraries", None):
        members["libraries"] = libraries | {"cache": TAG}
    made: Any = type(f"{name}_ours", (case,), members)
    # What Django's own runner has in its settings, and these tests count on.
    made = override_settings(LANGUAGE_CODE="en", USE_TZ=False)(made)
    # Closing a response closes the connections that tests before have opened.
    made.databases = {"default"}
    return pytest.mark.django_db(made)


try:
    CASES, REASON = load(), ""
except source.SourceMissing as missing:
    CASES, REASON = {}, str(missing)


def test_djangos_own_tests_are_at_hand():
    if not CASES:
        pytest.fail(REASON, pytrace=False)
    tests = [test for case in CASES.values() for test in dir(case) if test.startswith("test_")]
    assert len(tests) >= 53


for _name, _case in CASES.items():
    globals()[f"{_name}_ours"] = _clone(_case, _name)
