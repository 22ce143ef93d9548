"""Core Django's own tests of cache backends on ours, through its functions and through their asynchronous twins.

Then those of its cache middlewares, Django's own and all, with our backend underneath.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
from django.conf import settings
from django.test import SimpleTestCase, TestCase, override_settings
from django.test.signals import setting_changed

from backroom.cache.backends.sqlite import SQLiteCache
from tests.cache.files import forget_files
from tests.conformance import polls, source

A_LITTLE: Final = "asks that a full cache forgets everything at once, and ours forgets a little at a time"

EXPECTED_TO_FAIL: Final = {"test_zero_cull": A_LITTLE}
"""Of what Django says of every backend. Nothing else is left out, and one of these that passed would fail the run."""

OF_THE_CLASS: Final = (
    "test_get_or_set_racing",
    *(
        f"test_{name}_async_uses_specialized_implementation"
        for name in ("close", "delete_many", "get_many", "get_or_set", "has_key", "incr", "incr_version", "set_many")
    ),
)
"""These look at the class or put a mock into it. It has passed them, and no twin of a function comes into it."""

MIDDLEWARE_CASES: Final = ("CacheHEADTest", "CacheI18nTest", "PrefixedCacheI18nTest", "CacheMiddlewareTest")
SQLITE: Final = f"{SQLiteCache.__module__}.{SQLiteCache.__qualname__}"


class InLoops:
    """A backend whose every function is its asynchronous twin, each call in an event loop of its own."""

    kind: type[Any] = SQLiteCache
    inner: Any

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        self.__dict__["inner"] = self.kind(location, params)

    def __getattr__(self, name: str) -> Any:
        twin = getattr(self.inner, f"a{name}", None)
        if not inspect.iscoroutinefunction(twin):
            return getattr(self.inner, name)

        def run(*args: Any, **kwargs: Any) -> Any:
            return asyncio.run(twin(*args, **kwargs))

        return run

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)

    def __contains__(self, key: str) -> bool:
        return bool(self.has_key(key))


def load() -> Any:
    source.prepare()
    # Its models belong to an app that is not installed here.
    sys.modules["cache.models"] = polls
    return importlib.import_module("cache.tests")


try:
    SUITE: Any = load()
except source.SourceMissing as missing:
    SUITE, REASON = None, str(missing)


def test_djangos_own_tests_are_at_hand():
    if SUITE is None:
        pytest.fail(REASON, pytrace=False)
    assert len([name for name in dir(SUITE.BaseCacheTests) if name.startswith("test_")]) >= 60
    assert all(hasattr(SUITE.BaseCacheTests, name) for name in EXPECTED_TO_FAIL)


class Skipping:
    """The wall clock, for Django's tests and for all who tell the time by it here: to sleep is to put it forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def sleep(self, seconds: float) -> None:
        self.ahead += seconds

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            wall, wall_ns = time.time, time.time_ns
            patch.setattr(time, "time", lambda: wall() + self.ahead)
            patch.setattr(time, "time_ns", lambda: wall_ns() + int(self.ahead * 10**9))
            patch.setattr(SUITE, "time", SimpleNamespace(sleep=self.sleep, time=time.time))
            yield


class InAFile(SimpleTestCase):
    """Puts the aliases of a test's settings into one file, which goes with the test."""

    def setUp(self) -> None:
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        self.addCleanup(forget_files)
        for params in settings.CACHES.values():
            name = Path(params.get("LOCATION", "cache")).stem
            params["LOCATION"] = str(Path(folder) / f"{name}.sqlite3")
        # As Django's own tests do, whose decorator has set CACHES for the whole class.
        setting_changed.send(type(self), setting="CACHES", enter=False)
        super().setUp()


class Hurried(SimpleTestCase):
    """Lets no test sleep."""

    def setUp(self) -> None:
        self.enterContext(Skipping().installed())
        super().setUp()


def on_backend(name: str, path: str, *, without: tuple[str, ...] = ()) -> Any:
    members: dict[str, Any] = {"__module__": __name__, **dict.fromkeys(without)}
    for test, reason in EXPECTED_TO_FAIL.items():
        members[test] = pytest.mark.xfail(reason=reason)(again(test))
    made: Any = type(name, (InAFile, Hurried, SUITE.BaseCacheTests, TestCase), members)
    return override_settings(CACHES=SUITE.caches_setting_for_tests(BACKEND=path))(made)


def again(test: str) -> Any:
    def same(self: Any) -> None:
        getattr(SUITE.BaseCacheTests, test)(self)

    return same


def under_middleware(case: str) -> Any:
    theirs = getattr(SUITE, case)
    ours = {alias: {**params, "BACKEND": SQLITE} for alias, params in theirs._overridden_settings["CACHES"].items()}
    made: Any = type(f"{case}_on_sqlite", (InAFile, theirs), {"__module__": __name__})
    # What Django's own runner has in its settings, and these tests count on.
    return override_settings(CACHES=ours, LANGUAGE_CODE="en", USE_TZ=False)(made)


if SUITE is not None:
    for _made in (
        on_backend("SQLiteCacheTests", SQLITE),
        on_backend("SQLiteCacheInLoopsTests", f"{__name__}.{InLoops.__qualname__}", without=OF_THE_CLASS),
        *map(under_middleware, MIDDLEWARE_CASES),
    ):
        globals()[_made.__name__] = _made
    del _made
