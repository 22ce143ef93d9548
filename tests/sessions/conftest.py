"""The session engines, each on each of its stores.

`engine` runs a test on all of them; its value is the SessionStore class, and SESSION_ENGINE names it. A test that needs
real commits asks for `committed_engine`.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from django.test import override_settings

from backroom.sessions.guessing import guesses
from backroom.testing.clock import FakeClock

DATABASE = "backroom.sessions.backends.database"
REDIS = "backroom.sessions.backends.redis"
ENGINES = {"sqlite": DATABASE, "postgres": DATABASE, "redis": REDIS}
ROUTERS = {"postgres": ["tests.sessions.conftest.SessionsOnPostgreSQL"]}


class SessionsOnPostgreSQL:
    """Keeps sessions in the other database."""

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        return "postgres" if model._meta.app_label == "backroom_sessions" else None

    db_for_write = db_for_read


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give a test the database of its engine."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        place = callspec.params.get("place") if callspec else None
        if place in ENGINES:
            asked = item.get_closest_marker("django_db")
            arguments = dict(asked.kwargs) if asked else {}
            arguments["databases"] = ["default", "postgres"] if place == "postgres" else ["default"]
            item.add_marker(pytest.mark.django_db(**arguments), append=False)


@pytest.fixture(params=ENGINES)
def place(request: pytest.FixtureRequest) -> str:
    """Run the test on each store; the value names it."""
    return str(request.param)


@pytest.fixture
def backroom_settings(place: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Give what BACKROOM has to say so that the engine finds its store."""
    if place != "redis":
        return {}
    server = request.getfixturevalue("redis_server")
    import redis

    client = redis.Redis.from_url(server.url)
    client.flushall()
    client.close()
    return {"REDIS_URL": server.url}


@pytest.fixture
def engine(place: str, backroom_settings: dict[str, Any]) -> Iterator[Any]:
    """Run the test on each engine and store; the value is the SessionStore class."""
    guesses.forget()
    with override_settings(
        SESSION_ENGINE=ENGINES[place], BACKROOM=backroom_settings, DATABASE_ROUTERS=ROUTERS.get(place, [])
    ):
        yield import_module(ENGINES[place]).SessionStore


@pytest.fixture
def law(engine: Any, backroom_settings: dict[str, Any], settings: Any) -> Any:
    """Give a function that sets BACKROOM["SESSIONS"] for the rest of the test."""

    def set_rules(**options: Any) -> None:
        settings.BACKROOM = {**backroom_settings, "SESSIONS": options}

    return set_rules


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Stand still until the test moves it."""
    with FakeClock().installed() as fake:
        yield fake


MIDDLEWARE = "backroom.sessions.middleware.SessionMiddleware"
FIREFOX = "Mozilla/5.0 (Android 14; Mobile; rv:128.0) Gecko/128.0 Firefox/128.0"
SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.4 Safari/605.1.15"
)


@pytest.fixture
def site(engine: Any, settings: Any) -> None:
    """Serve `tests.sessions.site` with our middleware."""
    settings.ROOT_URLCONF = "tests.sessions.site"
    settings.MIDDLEWARE = [MIDDLEWARE, *settings.MIDDLEWARE[1:]]


@pytest.fixture
def ann(db: None) -> Any:
    """Give a user."""
    from django.contrib.auth.models import User

    return User.objects.create_user("ann", password="secret")


@pytest.fixture
def statements(place: str, request: pytest.FixtureRequest) -> Any:
    """Give a function that runs another and returns what it sent to the store of the sessions."""

    if place == "redis":
        load_scripts(request.getfixturevalue("redis_server"))

    def sent_by(action: Any) -> list[str]:
        if place == "redis":
            return list(commands_of(request.getfixturevalue("redis_server"), action))
        from django.db import connections
        from django.test.utils import CaptureQueriesContext

        with CaptureQueriesContext(connections["postgres" if place == "postgres" else "default"]) as queries:
            action()
        return [each["sql"] for each in queries]

    return sent_by


def load_scripts(server: Any) -> None:
    """Have a Redis server know the scripts, so that none of them is sent twice."""
    import redis

    from backroom.sessions.stores.redis import LUA, _script

    client = redis.Redis.from_url(server.url)
    for path in LUA.glob("*.lua"):
        if path.stem != "common":
            client.script_load(_script(path.stem).text)
    client.close()


def commands_of(server: Any, action: Any) -> Iterator[str]:
    """Yield the commands that reach a Redis server while something is done, those inside scripts left out."""
    import redis

    client = redis.Redis.from_url(server.url)
    with client.monitor() as monitor:
        action()
        client.echo("the end")
        for told in monitor.listen():
            if "the end" in told["command"]:
                break
            # A cache that an earlier test put memory before may still listen on this server, and ask whether it is there.
            if told["client_type"] != "lua" and not told["command"].startswith(
                ("CLIENT", "HELLO", "PING", "SUBSCRIBE")
            ):
                yield told["command"]
    client.close()
