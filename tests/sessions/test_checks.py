"""System checks: each setting that cannot work, or leaves sessions unprotected, is told with its cure."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpResponse

from backroom.sessions.backends import database, redis
from backroom.sessions.checks import check_session_security, check_sessions
from backroom.sessions.middleware import SessionMiddleware

DATABASE = "backroom.sessions.backends.database"
REDIS = "backroom.sessions.backends.redis"
OURS = "backroom.sessions.middleware.SessionMiddleware"


@pytest.fixture(autouse=True)
def _a_sound_project(settings):
    settings.SESSION_ENGINE = DATABASE
    settings.MIDDLEWARE = [OURS, *settings.MIDDLEWARE[1:]]
    settings.BACKROOM = {"SESSIONS": {"IDLE": 1800, "ABSOLUTE": 43_200}}
    settings.SESSION_COOKIE_SECURE = True
    settings.SESSION_COOKIE_NAME = "__Host-id"


def ids(messages: list[CheckMessage]) -> list[Any]:
    for message in messages:
        assert message.hint, message
    return [message.id for message in messages]


def test_a_sound_project_hears_nothing():
    assert ids(check_sessions()) == ids(check_session_security()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"IDEL": 5}, "Did you mean 'IDLE'"),
        ({"IDLE": -1}, "above 0"),
        ({"ABSOLUTE": "an hour"}, "'an hour'"),
        ({"LIMIT": 0}, "at least 1"),
        ({"ENCRYPT": 1}, "'ENCRYPT' is 1. Use True or False."),
        ({"ABSOLUTE": "1"}, "Use a number above 0, a timedelta or None."),
    ],
)
def test_wrong_options_are_told(settings, options, problem):
    settings.BACKROOM = {"SESSIONS": options}
    (message,) = check_sessions()
    assert message.id == "backroom.E401"
    assert problem in message.msg


def test_options_that_are_no_dict_are_told(settings):
    settings.BACKROOM = {"SESSIONS": 5}
    assert ids(check_sessions()) == ["backroom.E401"]


@pytest.mark.parametrize("engine", [DATABASE, REDIS])
def test_an_app_that_is_not_installed_is_told(settings, engine):
    settings.SESSION_ENGINE = engine
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "backroom.sessions"]
    assert ids(check_sessions()) == ["backroom.E402"]


def test_without_any_app_of_ours_there_is_no_check_and_the_engine_tells(settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "backroom.sessions"]

    class OnDatabase(database.SessionStore):
        """One that was not used before the app went."""

    settings.BACKROOM = {"REDIS_URL": "redis://not.asked"}
    for engine in (OnDatabase, redis.SessionStore):
        with pytest.raises(ImproperlyConfigured, match=r"Add .backroom\.sessions. to INSTALLED_APPS"):
            engine().exists("a" * 32)


@pytest.mark.parametrize(
    ("backroom", "problem"),
    [({}, "No Redis server .* BACKROOM\\['SESSIONS'\\]"), ({"SESSIONS": {"REDIS": {"ulr": "redis://x"}}}, "'url'")],
)
def test_a_server_that_is_not_named_is_told_as_soon_as_the_site_starts(settings, backroom, problem):
    settings.SESSION_ENGINE = REDIS
    settings.BACKROOM = backroom
    with pytest.raises(ImproperlyConfigured, match=problem):
        SessionMiddleware(lambda _request: HttpResponse())


def test_a_database_of_another_vendor_is_told(monkeypatch):
    monkeypatch.setattr("backroom.sessions.checks.document_type", lambda _vendor: None)
    assert ids(check_sessions()) == ["backroom.E403"]


@pytest.mark.parametrize(
    ("backroom", "problem"),
    [
        ({}, "Set BACKROOM['SESSIONS']['REDIS']['url'], or BACKROOM['REDIS_URL']"),
        ({"SESSIONS": {"REDIS": {"url": "http://x"}}}, "'http'"),
        ({"SESSIONS": {"REDIS": {"ulr": "redis://x"}}}, "Did you mean 'url'"),
    ],
)
def test_a_server_that_cannot_be_reached_so_is_told(settings, backroom, problem):
    settings.SESSION_ENGINE = REDIS
    settings.BACKROOM = backroom
    (message,) = check_sessions()
    assert message.id == "backroom.E404"
    assert problem in message.msg


def test_a_package_that_is_missing_is_told(settings, monkeypatch):
    monkeypatch.setattr("backroom.sessions.checks.can_seal", lambda: False)
    monkeypatch.setattr("backroom.sessions.checks.can_parse", lambda: False)
    settings.BACKROOM = {"SESSIONS": {"ENCRYPT": True, "IDLE": 1800, "ABSOLUTE": 43_200}}
    assert ids(check_sessions()) == ["backroom.E405"]
    # What only makes the site less nice is no news for every command.
    assert ids(check_session_security()) == ["backroom.I401"]
    said = [message.hint for message in (*check_sessions(), *check_session_security())]
    assert ["pip install './backroom[" in str(hint) for hint in said] == [True, True]


@pytest.mark.parametrize("engine", [DATABASE, REDIS])
def test_one_wrong_option_hides_nothing_of_the_others(settings, engine):
    settings.SESSION_ENGINE = engine
    settings.BACKROOM = {
        "REDIS_URL": "redis://not.asked",
        "SESSIONS": {"IDEL": 5, "IDLE": -1, "READ_THROUGH": "no.such.engine", "REDIS": {"ulr": "redis://x"}},
    }
    of_redis = ["backroom.E404"] if engine == REDIS else []
    assert ids(check_sessions()) == ["backroom.E401", "backroom.E401", *of_redis, "backroom.E406"]


def test_an_engine_that_cannot_be_imported_is_told(settings):
    settings.SESSION_ENGINE = "backroom.sessions.backends.radish"
    (message,) = check_sessions()
    assert message.id == "backroom.E408"
    assert "No module named 'backroom.sessions.backends.radish'" in message.msg


def test_an_engine_without_its_library_is_told(settings, monkeypatch):
    settings.SESSION_ENGINE = REDIS
    settings.BACKROOM = {"REDIS_URL": "redis://not.asked"}
    monkeypatch.setitem(sys.modules, "backroom.sessions.stores.redis", None)
    (message,) = check_sessions()
    assert message.id == "backroom.E408"
    assert "backroom.sessions.stores.redis" in message.msg


@pytest.mark.parametrize(("path", "number"), [("no.such.engine", "E406"), (DATABASE, "E407")])
def test_an_engine_of_before_that_cannot_be_read_is_told(settings, path, number):
    settings.BACKROOM = {"SESSIONS": {"READ_THROUGH": path}}
    assert ids(check_sessions()) == [f"backroom.{number}"]


def test_djangos_middleware_is_told(settings):
    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware", *settings.MIDDLEWARE[1:]]
    assert ids(check_sessions()) == ["backroom.W401"]
    assert "backroom.W401" in [message.id for message in run_checks()]


@pytest.mark.parametrize(
    ("name", "value", "number"),
    [
        ("SESSION_COOKIE_SECURE", False, "W402"),
        ("SESSION_COOKIE_HTTPONLY", False, "W403"),
        ("SESSION_COOKIE_SAMESITE", None, "W404"),
        ("SESSION_COOKIE_SAMESITE", "None", "W404"),
        ("SESSION_COOKIE_DOMAIN", "example.org", "W405"),
        ("SESSION_COOKIE_NAME", "sessionid", "W406"),
        ("BACKROOM", {"SESSIONS": {"ABSOLUTE": 5}}, "W407"),
        ("BACKROOM", {"SESSIONS": {"IDLE": 5}}, "W408"),
    ],
)
def test_each_unsafe_setting_is_told_on_deployment(settings, name, value, number):
    setattr(settings, name, value)
    assert ids(check_session_security()) == [f"backroom.{number}"]
    told = [message.id for message in run_checks(include_deployment_checks=True)]
    assert f"backroom.{number}" in told
    assert f"backroom.{number}" not in [message.id for message in run_checks()]


def test_a_serializer_that_runs_code_is_told(settings):
    settings.SESSION_SERIALIZER = "tests.sessions.test_checks.PickleSerializer"
    assert ids(check_sessions()) == ["backroom.W409"]


class PickleSerializer:
    """Only its name is looked at."""


def test_another_engine_is_the_projects_choice(settings):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    assert ids(check_sessions()) == ids(check_session_security()) == []
