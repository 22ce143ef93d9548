"""Core Django's own tests of sessions, with our engines in the places of its own, word for word.

The database engine runs on SQLite and on PostgreSQL, under our middleware and under Django's.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final

import pytest
from django.contrib.sessions.middleware import SessionMiddleware as DjangosMiddleware
from django.test import SimpleTestCase, TestCase, override_settings

from backroom.sessions.backends.database import SessionStore as DatabaseStore
from backroom.sessions.backends.redis import SessionStore as RedisStore
from backroom.sessions.middleware import SessionMiddleware as OurMiddleware
from tests.conformance import source
from tests.conformance.accounts import models as accounts

DATABASE: Final = "backroom.sessions.backends.database"
REDIS: Final = "backroom.sessions.backends.redis"
NO_KEY: Final = "prints the id out of the store, which has only its hash"
NO_TABLE: Final = "looks the session up in a table, and Redis has none"

EXPECTED_TO_FAIL: Final = {
    ("DatabaseSessionTests", "test_session_str"): NO_KEY,
    ("DatabaseSessionWithTimeZoneTests", "test_session_str"): NO_KEY,
    ("CustomDatabaseSessionTests", "test_session_str"): NO_KEY,
    ("SessionMiddlewareTests on Redis", "test_empty_session_saved"): NO_TABLE,
}
"""What a store that keeps hashes cannot do. Nothing else is left out, and one of these that passed would fail the run."""


class ToPostgreSQL:
    """Keeps the sessions in the other database."""

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        return "postgres" if model._meta.app_label in {"backroom_sessions", "accounts"} else None

    db_for_write = db_for_read


ROUTERS: Final = {"default": [], "postgres": ["tests.conformance.test_sessions.ToPostgreSQL"]}


def load() -> ModuleType:
    source.prepare()
    # Django's module of that name has a model of an app that is not installed here.
    sys.modules["sessions_tests.models"] = accounts
    return importlib.import_module("sessions_tests.tests")


try:
    SUITE: Any = load()
except source.SourceMissing as missing:
    SUITE, REASON = None, str(missing)


def test_djangos_own_tests_are_at_hand():
    if SUITE is None:
        pytest.fail(REASON, pytrace=False)
    assert len(list(djangos_tests(SUITE.SessionTestsMixin))) >= 65


@pytest.mark.skipif(SUITE is None, reason="the test above fails and says why")
@pytest.mark.parametrize(("case", "test"), EXPECTED_TO_FAIL)
def test_what_is_expected_to_fail_exists(case, test):
    assert hasattr(getattr(SUITE, case.partition(" ")[0]), test)


@pytest.fixture
def on_redis(redis_server):
    import redis

    client = redis.Redis.from_url(redis_server.url)
    client.flushall()
    client.close()
    with override_settings(BACKROOM={"REDIS_URL": redis_server.url}, SESSION_ENGINE=REDIS):
        yield


def djangos_tests(case: type[Any]) -> Iterator[tuple[str, Any]]:
    yield from ((name, test) for name, test in inspect.getmembers(case, callable) if name.startswith("test_"))


def clone(
    case: str, name: str, *, alias: str | None = None, base: type[SimpleTestCase] = TestCase, **members: Any
) -> Any:
    """Return Django's test case with our engine in the place of its own."""
    theirs = getattr(SUITE, case)
    failing = {
        test: pytest.mark.xfail(reason=reason)(rebound(getattr(theirs, test), {}))
        for (of, test), reason in EXPECTED_TO_FAIL.items()
        if of == case
    }
    settings: dict[str, Any] = {"SESSION_ENGINE": DATABASE}
    bases = (theirs,) if issubclass(theirs, base) else (theirs, base)
    if alias is not None:
        settings["DATABASE_ROUTERS"] = ROUTERS[alias]
        members["databases"] = {"default", alias}
    made = type(f"{name}_{alias or 'shared'}", bases, {**failing, **members, "__module__": __name__})
    made = override_settings(**settings)(made)
    return pytest.mark.django_db(databases=sorted(members["databases"]))(made) if alias is not None else made


def rebound(test: Any, names: dict[str, Any]) -> Any:
    """Return the same test, in which some global names mean ours."""
    plain = inspect.unwrap(test)
    made = FunctionType(
        plain.__code__, plain.__globals__ | names, plain.__name__, plain.__defaults__, plain.__closure__
    )
    for each in settings_of(test):
        made = override_settings(**each)(made)
    return made


def settings_of(test: Any) -> list[dict[str, Any]]:
    """Return what `@override_settings` sets for a test that it decorates."""
    cells = [cell.cell_contents for cell in getattr(test, "__closure__", None) or ()]
    return [each.options for each in cells if isinstance(each, override_settings)]


def on_middleware(case: str, middleware: type[Any], store: type[Any]) -> dict[str, Any]:
    model = DatabaseStore.get_model_class()
    names = {"SessionMiddleware": middleware, "DatabaseSession": store, "Session": model}
    return {test: rebound(function, names) for test, function in djangos_tests(getattr(SUITE, case))}


def clone_on_redis(case: str, name: str, base: type[SimpleTestCase], **members: Any) -> Any:
    """Return Django's test case with our engine on Redis in the place of its own."""
    for (of, test), reason in EXPECTED_TO_FAIL.items():
        if of == f"{case} on Redis":
            members[test] = pytest.mark.xfail(reason=reason)(members[test])
    made = type(f"{name}_redis", (getattr(SUITE, case), base), {**members, "__module__": __name__})
    return pytest.mark.usefixtures("on_redis")(made)


if SUITE is not None:
    _middlewares: dict[str, type[Any]] = {
        "OurMiddlewareTests": OurMiddleware,
        "DjangosMiddlewareTests": DjangosMiddleware,
    }
    for _alias in ROUTERS:
        _engine: dict[str, Any] = {"backend": DatabaseStore, "session_engine": DATABASE}
        _custom: dict[str, Any] = {"backend": accounts.SessionStore, "session_engine": accounts.__name__}
        for _made in (
            clone("DatabaseSessionTests", "DatabaseSessionTests", alias=_alias, **_engine),
            clone("DatabaseSessionWithTimeZoneTests", "WithTimeZoneTests", alias=_alias, **_engine),
            clone("CustomDatabaseSessionTests", "CustomDatabaseSessionTests", alias=_alias, **_custom),
            *(
                clone(
                    "SessionMiddlewareTests",
                    _name,
                    alias=_alias,
                    **on_middleware("SessionMiddlewareTests", _each, DatabaseStore),
                )
                for _name, _each in _middlewares.items()
            ),
        ):
            globals()[_made.__name__] = _made
    for _made in (
        clone_on_redis("SessionTestsMixin", "SessionTests", SimpleTestCase, backend=RedisStore),
        *(
            clone_on_redis(
                "SessionMiddlewareTests", _name, TestCase, **on_middleware("SessionMiddlewareTests", _each, RedisStore)
            )
            for _name, _each in _middlewares.items()
        ),
    ):
        globals()[_made.__name__] = _made
    del _made
