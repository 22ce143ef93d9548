from contextlib import contextmanager

import pytest
from django.core import checks
from django.db import connections
from django.tasks import task_backends

from backroom.sql import dialect
from backroom.tasks.checks import check_settings, check_version, check_versions

DATABASE = "backroom.tasks.backends.database.DatabaseBackend"
DUMMY = "backroom.tasks.backends.dummy.DummyBackend"


@contextmanager
def layer(_execution):
    yield


not_a_function = 3


def found(settings, backend=DATABASE, **options):
    settings.TASKS = {"default": {"BACKEND": backend, "OPTIONS": options}}
    return task_backends["default"].check()


def ids(messages):
    return [message.id for message in messages]


def test_sound_settings_have_no_problem(settings):
    middleware = [f"{__name__}.layer"]
    assert found(settings, lease=60, poll=0.05, middleware=middleware, database="default", notify=False) == []


def test_two_aliases_may_share_a_database(settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE}, "mail": {"BACKEND": DATABASE}}
    assert [message for backend in task_backends.all() for message in backend.check()] == []


@pytest.mark.parametrize("use_tz", [True, False])
def test_time_zones_may_be_on_or_off(settings, use_tz):
    settings.USE_TZ = use_tz
    assert found(settings) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"laese": 1}, "Did you mean 'lease'?"),
        ({"lease": 0}, "above 0"),
        ({"retention": -1}, "of at least 0"),
        ({"crash_budget": 0}, "of at least 1"),
        ({"notify": "yes"}, "True or False"),
    ],
)
def test_an_option_that_does_not_fit_is_an_error_that_says_where(settings, options, words):
    [message] = found(settings, **options)
    assert (message.id, message.level) == ("backroom.E001", checks.ERROR)
    assert words in message.msg
    assert "TASKS['default']['OPTIONS']" in message.hint


@pytest.mark.parametrize("key", ["RETENTION", "retention", "database"])
def test_an_option_beside_options_is_an_error_that_says_where_it_belongs(settings, key):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "QUEUES": ["default"], "OPTIONS": {}, key: 60}}
    [message] = task_backends["default"].check()
    assert (message.id, message.level) == ("backroom.E001", checks.ERROR)
    assert f"{key!r} has no effect beside OPTIONS. Put it into OPTIONS, as {key.lower()!r}." in message.msg


def test_the_doubles_check_their_options_too(settings):
    assert ids(found(settings, DUMMY, max_payload_bytes=-1)) == ["backroom.E001"]
    assert found(settings, DUMMY, lease=1) == []


def test_an_alias_that_databases_lack(settings):
    [message] = found(settings, database="nowhere")
    assert message.id == "backroom.E002"
    assert "'nowhere'" in message.msg


def test_a_vendor_that_is_not_supported(settings, monkeypatch):
    monkeypatch.setattr(type(connections["default"]), "vendor", "oracle")
    [message] = found(settings)
    assert message.id == "backroom.E003"
    assert "SQLite ≥ 3.37 and PostgreSQL ≥ 15" in message.hint


def test_a_server_that_is_too_old_is_told_only_when_databases_are_named(settings, monkeypatch):
    settings.TASKS = {"default": {"BACKEND": DATABASE}}
    monkeypatch.setitem(dialect.MINIMUM, "sqlite", (99, 0))
    assert ids(check_versions(databases=["default"])) == ["backroom.E004"]
    assert check_versions(databases=[]) == []
    assert "backroom.E004" not in ids(checks.run_checks())
    assert "backroom.E004" in ids(checks.run_checks(databases=["default"]))


def test_a_server_that_is_new_enough(store_database):
    assert check_version(store_database) == []


def test_version_checks_overlook_what_other_checks_tell_of(settings):
    settings.TASKS = {
        "default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
        "wrong": {"BACKEND": DATABASE, "OPTIONS": {"lease": 0}},
        "nowhere": {"BACKEND": DATABASE, "OPTIONS": {"database": "nowhere"}},
        "double": {"BACKEND": DUMMY},
    }
    assert check_versions(databases=["default"]) == []


def test_the_app_must_be_installed(settings):
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if not app.startswith("backroom")]
    [message] = found(settings)
    assert message.id == "backroom.E005"
    assert "INSTALLED_APPS" in message.hint


class NotHere:
    def allow_migrate(self, db, app_label, model_name=None, **hints):
        return app_label != "backroom_tasks"


def test_a_router_must_let_the_tables_in(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.NotHere"]
    [message] = found(settings)
    assert message.id == "backroom.E006"
    assert "TaskRecord, WorkerRecord" in message.msg


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("no.such.module", "cannot be imported: No module named 'no'"),
        (f"{__name__}.nothing", "cannot be imported"),
        (f"{__name__}.not_a_function", "not a function"),
        (7, "cannot be imported"),
    ],
)
def test_middleware_that_cannot_be_used_is_an_error(settings, path, words):
    [message] = found(settings, middleware=[path])
    assert message.id == "backroom.E007"
    assert words in message.msg


def test_unknown_keys_of_the_dict_are_an_error(settings):
    settings.BACKROOM = {"RUNSERVER_WORKR": False}
    assert [message for message in checks.run_checks(tags=["backroom"]) if "RUNSERVER_WORKER" in message.msg]
    settings.BACKROOM = {"RUNSERVER_WORKER": False}
    assert check_settings() == []


@pytest.mark.parametrize(
    ("options", "lacks"),
    [
        ({}, ["transaction_mode is DEFERRED", "journal_mode is not WAL"]),
        ({"transaction_mode": "immediate"}, ["journal_mode is not WAL"]),
        ({"transaction_mode": "EXCLUSIVE", "init_command": "PRAGMA synchronous=FULL"}, ["journal_mode is not WAL"]),
        ({"transaction_mode": "IMMEDIATE", "init_command": "pragma journal_mode = 'wal'; PRAGMA cache_size=9"}, []),
        ({"init_command": "PRAGMA journal_mode(WAL)"}, ["transaction_mode is DEFERRED"]),
    ],
)
def test_a_file_that_several_processes_cannot_share_well(make_project, options, lacks):
    project = make_project(migrate=False)
    project.add_settings(f"DATABASES['default']['OPTIONS'] = {options!r}")
    told = project.run("check").stderr
    assert [each for each in ("transaction_mode is DEFERRED", "journal_mode is not WAL") if each in told] == lacks
    assert ("backroom.W001" in told) == bool(lacks)


def test_the_advice_can_be_pasted_and_ends_the_warning(make_project):
    project = make_project(migrate=False)
    project.add_settings("DATABASES['default']['OPTIONS'] = {}")
    told = project.run("check").stderr
    advice = told.partition("HINT: Set ")[2].partition("}")[0] + "}"
    project.add_settings(advice)
    assert "backroom.W001" not in project.run("check").stderr


def test_a_file_that_was_switched_to_wal_needs_no_command(make_project):
    project = make_project()
    project.add_settings("DATABASES['default']['OPTIONS'] = {'transaction_mode': 'IMMEDIATE'}")
    assert "backroom.W001" not in project.run("check").stderr


def test_a_database_in_memory_is_left_alone(settings, monkeypatch):
    monkeypatch.setattr(connections["default"], "is_in_memory_db", lambda: True)
    monkeypatch.setitem(connections["default"].settings_dict, "OPTIONS", {})
    assert found(settings) == []


def test_a_short_lease_is_a_warning(settings):
    [message] = found(settings, lease=1)
    assert (message.id, message.level) == ("backroom.W002", checks.WARNING)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_project_set_up_as_advised_passes(make_project, database):
    project = make_project(database)
    project.run("check", "--database=default", "--fail-level=WARNING")
