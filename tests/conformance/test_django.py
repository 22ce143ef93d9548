"""Core Django's own tests of tasks, with our backends in the places of its own.

Each test runs on SQLite, on PostgreSQL, on Celery, and on our two doubles. What it says of Django's dummy or immediate
backend (its path in the settings, its class) is said of ours; the rest is Django's, word for word.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Iterator
from types import FunctionType, ModuleType
from typing import Any, Final
from unittest import mock

import pytest
from django.db import connections
from django.tasks.backends import dummy, immediate
from django.test import SimpleTestCase, TransactionTestCase, override_settings

from tests.conformance import source
from tests.conformance.backends import PLACES

IMMEDIATE_CANNOT = "says what Django's immediate backend cannot do, and ours can"
DUMMY_KEEPS = "changes an object that Django's dummy backend holds in memory, and expects to see it again"

EXPECTED_TO_FAIL: Final = {
    ("ImmediateBackendTestCase", "test_cannot_get_result"): IMMEDIATE_CANNOT,
    ("ImmediateBackendTestCase", "test_cannot_refresh_result"): IMMEDIATE_CANNOT,
    ("ImmediateBackendTestCase", "test_cannot_pass_run_after"): IMMEDIATE_CANNOT,
    ("DummyBackendTestCase", "test_refresh_result"): DUMMY_KEEPS,
    ("DummyBackendTestCase", "test_refresh_result_async"): DUMMY_KEEPS,
}
"""What is about Django's own backends. Nothing else is left out, and one of these that passed would fail the run."""

NOT_ON_REDIS: Final = {
    (f"{case}BackendTransactionTestCase", "test_doesnt_wait_until_transaction_commit_by_default"): (
        "looks for the task before the commit, and Redis takes nothing back after a rollback"
    )
    for case in ("Immediate", "Dummy")
}
"""What else is left out there."""

NAMING_OURS: Final = ("test_immediate_backend", "test_dummy_backend", "test_tasks")
NAMING_THEIR_OWN: Final = ("test_custom_backend",)
"""These bring backends of their own; they run as they are, with tasks of our class."""

try:
    SUITE = source.load()
except source.SourceMissing as missing:
    SUITE, REASON = {}, str(missing)


def test_djangos_own_tests_are_at_hand():
    if not SUITE:
        pytest.fail(REASON, pytrace=False)
    assert {*NAMING_OURS, *NAMING_THEIR_OWN} == SUITE.keys()


@pytest.mark.skipif(not SUITE, reason="the test above fails and says why")
@pytest.mark.parametrize(("case", "test"), [*EXPECTED_TO_FAIL, *NOT_ON_REDIS])
def test_what_is_expected_to_fail_exists(case, test):
    assert any(hasattr(getattr(module, case, None), test) for module in SUITE.values())


def cases_of(module: ModuleType) -> Iterator[type[SimpleTestCase]]:
    """Yield the test cases that a module defines."""
    for value in vars(module).values():
        if inspect.isclass(value) and issubclass(value, SimpleTestCase) and value.__module__ == module.__name__:
            yield value


def clone(case: type[SimpleTestCase], target: str) -> Any:
    """Return a test case with the same tests, for our backends of this target."""
    members: dict[str, Any] = {
        name: rebound(case, function, target)
        for name, function in vars(case).items()
        if name == "setUp" or name.startswith("test_")
    }
    base: type[SimpleTestCase] = SimpleTestCase
    if target != "doubles" or issubclass(case, TransactionTestCase):
        base = TransactionTestCase
        members |= {
            "databases": {"default", target} - {"doubles", "celery", "redis"},
            "available_apps": ["backroom.tasks"],
        }
    made: Any = type(f"{case.__name__}_{target}", (base,), members | {"__module__": __name__})
    if settings := getattr(case, "_overridden_settings", None):
        made = override_settings(**translated(settings, target))(made)
    if target == "redis":
        made = pytest.mark.usefixtures("redis_server")(made)
    return pytest.mark.django_db(databases=sorted(made.databases))(made) if made.databases else made


def rebound(case: type[SimpleTestCase], function: Any, target: str) -> Any:
    """Return the same test, in which the names of Django's backends mean ours."""
    plain = inspect.unwrap(function)
    kept, drained = PLACES[target]
    ours = {
        "DummyBackend": kept,
        "ImmediateBackend": drained,
        "override_settings": lambda **values: override_settings(**translated(values, target)),
    }
    test: Any = FunctionType(plain.__code__, plain.__globals__ | ours, plain.__name__, None, plain.__closure__)
    if inspect.iscoroutinefunction(test):
        test = asking_directly(test)
    if settings := settings_of(function):
        test = override_settings(**translated(settings, target))(test)
    place = (case.__name__, plain.__name__)
    if reason := EXPECTED_TO_FAIL.get(place) or (NOT_ON_REDIS.get(place) if target == "redis" else None):
        test = pytest.mark.xfail(reason=reason)(test)
    return test


def settings_of(function: Any) -> dict[str, Any]:
    """Return what `@override_settings` sets for a test that it decorates."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return next((each.options for each in cells if isinstance(each, override_settings)), {})


def translated(settings: dict[str, Any], target: str) -> dict[str, Any]:
    """Return settings in which Django's backends are replaced by ours of this target."""
    kept, drained = PLACES[target]
    paths = {path_of(dummy.DummyBackend): path_of(kept), path_of(immediate.ImmediateBackend): path_of(drained)}
    tasks = {
        alias: params | {"BACKEND": paths.get(params["BACKEND"], params["BACKEND"])}
        for alias, params in settings.get("TASKS", {}).items()
    }
    return settings | {"TASKS": tasks}


def path_of(kind: type[Any]) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def asking_directly(test: Any) -> Any:
    """Let a coroutine make calls that block, as these tests do; Django forbids it to whatever uses a database."""

    @functools.wraps(test)
    async def asked(self: Any) -> None:
        with mock.patch.dict(os.environ, {"DJANGO_ALLOW_ASYNC_UNSAFE": "1"}):
            try:
                await test(self)
            finally:
                # The loop ran in a thread of its own, with connections of its own.
                connections.close_all()

    return asked


for _name in NAMING_OURS:
    for _case in cases_of(SUITE[_name]) if SUITE else ():
        for _target in PLACES:
            _clone = clone(_case, _target)
            globals()[_clone.__name__] = _clone

for _name in NAMING_THEIR_OWN:
    for _case in cases_of(SUITE[_name]) if SUITE else ():
        globals()[_case.__name__] = _case
