"""The system checks of a backend on Celery: what is wrong is told before anything runs."""

import sys
from typing import Any

import pytest
from celery import Celery
from django.core.management import call_command
from django.db import OperationalError
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTaskBackend
from kombu.entity import Queue

from backroom.sql.dialect import TablesMissing
from backroom.tasks import queries, readiness
from backroom.tasks.devserver import aliases_to_work_on
from backroom.tasks.doctor import work
from backroom.tasks.doctor.findings import OK
from backroom.tasks.records import Worker
from backroom.tasks.stores.sql import SQLStore

KEPT = "backroom.tasks.backends.database.DatabaseBackend"
ON_CELERY = "backroom.tasks.backends.celery.CeleryBackend"

app = Celery("checked", broker="redis://nobody", set_as_current=False)
nothing = "no app"


def make_app(**conf: Any) -> Celery:
    made = Celery("checked", broker=conf.pop("broker", "redis://nobody"), set_as_current=False)
    made.conf.update(conf)
    return made


@pytest.fixture
def check(settings, monkeypatch):
    """Return a function that gives the ids of what the checks find, and what they say."""
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "backroom.celery"]

    def found(*, celery=None, queues=("default",), **options):
        if celery is not None:
            monkeypatch.setattr(f"{__name__}.app", celery)
        options = {"app": f"{__name__}.app", "store": "records"} | options
        settings.TASKS = {
            "records": {"BACKEND": KEPT},
            "django": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
            "default": {"BACKEND": ON_CELERY, "QUEUES": queues, "OPTIONS": options},
        }
        messages: Any = task_backends["default"]
        return {message.id: f"{message.msg} {message.hint}" for message in messages.check()}

    return found


def test_what_is_said_of_tables_names_the_keepers_database(settings, monkeypatch):
    settings.TASKS = {
        "records": {"BACKEND": KEPT, "OPTIONS": {"database": "postgres"}},
        "default": {"BACKEND": ON_CELERY, "OPTIONS": {"app": f"{__name__}.app", "store": "records"}},
    }

    def lacks_tables(*_asked: Any) -> None:
        raise OperationalError("no such table: backroom_tasks_taskrecord")

    monkeypatch.setattr(SQLStore, "get", lacks_tables)
    with pytest.raises(TablesMissing, match=r"Database 'postgres' lacks .* --database=postgres"):
        task_backends["default"].get_result("an id")
    assert readiness.cure_of(queries.backend_of("default").database) == "Start it, or correct DATABASES['postgres']."


def test_sound_settings_are_silent(check):
    assert check() == {}


@pytest.mark.parametrize("store", ["", "nowhere", "default", "django"])
def test_a_store_that_cannot_keep_records(check, store):
    assert list(check(store=store)) == ["backroom.E020"]


@pytest.mark.parametrize("store", ["", "nowhere"])
def test_a_store_that_is_no_alias_is_told_to_who_enqueues_too(check, store):
    check(store=store)
    with pytest.raises(InvalidTaskBackend, match=rf"\['store'\] is '{store}', which is no alias in TASKS"):
        task_backends["default"].get_result("an id")


def test_celery_is_not_installed(check, monkeypatch):
    monkeypatch.setitem(sys.modules, "celery", None)
    monkeypatch.setattr("backroom.tasks.backends.celerychecks.find_spec", lambda _name: None)
    assert "pip install './backroom[celery]'" in check()["backroom.E021"]


def test_the_app_of_ours_is_not_installed(check, settings):
    settings.INSTALLED_APPS = [name for name in settings.INSTALLED_APPS if name != "backroom.celery"]
    assert "Add 'backroom.celery' to INSTALLED_APPS" in check()["backroom.E022"]


@pytest.mark.parametrize("path", ["", "nowhere", "no.such.module.app", f"{__name__}.missing", f"{__name__}.nothing"])
def test_a_path_that_leads_to_no_app(check, path):
    assert list(check(app=path)) == ["backroom.E023"]


def test_an_app_that_is_not_named(check):
    assert "TASKS['default']['OPTIONS']['app'] is not set." in check(app="")["backroom.E023"]


def test_an_app_whose_settings_cannot_be_read(check):
    made = Celery("checked", set_as_current=False)
    made.config_from_object("no.such.module")
    assert "settings of the Celery app" in check(celery=made)["backroom.E023"]


@pytest.mark.parametrize(
    ("broker", "told"),
    [
        ("rediz://somebody:secret@nobody", "No such transport: rediz. Did you mean redis?"),
        ("redis://somebody:sec/ret@nobody", "cannot be read (ValueError)"),
    ],
)
def test_a_broker_that_cannot_be_read_is_told_without_its_password(check, broker, told):
    found = check(celery=make_app(broker=broker))
    assert list(found) == ["backroom.E026"]
    assert told in found["backroom.E026"]
    assert "sec" not in found["backroom.E026"]


@pytest.mark.parametrize(
    ("broker", "extra"),
    [
        *[("redis://nobody", "redis"), ("rediss://nobody", "redis"), (["sqs://", "redis://"], "sqs")],
        # Celery takes it where broker_transport says the rest.
        ("user:secret@nobody/0", "amqp"),
    ],
)
def test_a_broker_whose_package_is_missing(check, monkeypatch, broker, extra):
    def resolve(*_asked: Any) -> None:
        raise ModuleNotFoundError("No module named 'packaging'")

    monkeypatch.setattr("kombu.connection.get_transport_cls", resolve)
    told = check(celery=make_app(broker=broker))["backroom.E026"]
    assert "No module named 'packaging'" in told
    assert f"pip install 'celery[{extra}]'" in told


def test_a_key_of_queue_map_that_is_no_queue(check):
    told = check(queues=["default", "mail"], queue_map={"mial": "letters"})["backroom.E027"]
    assert "has a queue 'mial'" in told
    assert "Did you mean 'mail'?" in told
    assert check(queues=[], queue_map={"mial": "letters"}) == {}


@pytest.mark.django_db
def test_what_keeps_records_and_has_no_tasks_of_its_own_is_not_told_to_start_a_worker(check, capsys):
    check()
    call_command("backroom", "status")
    assert [line for line in capsys.readouterr().out.splitlines() if "Start one" in line] == [
        f"No worker is running now. Start one: celery -A {__name__} worker"
    ]
    [found] = work.workers(queries.backend_of("records"))
    assert found.level == OK


@pytest.mark.django_db
def test_queues_that_nobody_serves_go_by_the_names_that_celery_has_for_them(check):
    check(queues=["default", "mail"], queue_map={"mail": "letters"})
    backend = queries.backend_of("default")
    now = backend.clock.now()
    beat = Worker(id="w", host="h", pid=1, queues=("default",), threads=4, started_at=now, seen_at=now, running=0)
    backend.store.beat([beat])
    [advice] = [each.advice for each in work.workers(backend) if each.subject == "queues"]
    assert advice == f"Start a worker for them: celery -A {__name__} worker --queues letters"


@pytest.mark.parametrize(
    ("conf", "ids"),
    [
        ({"accept_content": ["yaml"]}, ["backroom.E024"]),
        ({"accept_content": ["application/json"]}, []),
        ({"accept_content": ["json", "pickle"]}, ["backroom.W020"]),
        ({"task_always_eager": True}, ["backroom.W021"]),
        ({"task_time_limit": 300}, ["backroom.W022"]),
        ({"task_soft_time_limit": 300}, ["backroom.W022"]),
        ({"broker": "amqp://nobody"}, []),
        ({"broker": "amqp://nobody", "task_queue_max_priority": 10}, []),
        ({"broker": "amqp://nobody", "task_default_queue_type": "quorum"}, []),
        (
            {"broker": "amqp://nobody", "task_default_queue_type": "quorum", "task_queue_max_priority": 10},
            ["backroom.E025"],
        ),
        ({"broker": "redis://nobody", "task_default_queue_type": "quorum", "task_queue_max_priority": 10}, []),
    ],
)
def test_the_apps_configuration(check, conf, ids):
    assert list(check(celery=make_app(**conf))) == ids


@pytest.mark.parametrize(
    ("conf", "queues"),
    [
        ({}, []),
        ({"broker": "amqp://nobody"}, ["celery", "letters"]),
        ({"broker": "amqp://nobody", "task_queue_max_priority": 10}, []),
        ({"broker": "amqp://nobody", "task_queues": [Queue("letters", max_priority=10), Queue("celery")]}, ["celery"]),
    ],
)
def test_the_doctor_alone_says_where_priorities_have_no_effect(check, conf, queues):
    assert check(celery=make_app(**conf), queue_map={"mail": "letters"}, queues=["default", "mail"]) == {}
    found = [each.text for each in work.priorities(queries.backend_of("default"))]
    assert found == ([f"have no effect in {', '.join(queues)}: declared without x-max-priority"] if queues else [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"queue_map": ["mail"]}, "queue_map"),
        ({"resend_after": 0}, "resend_after"),
        ({"queues_map": {}}, "Did you mean 'queue_map'?"),
    ],
)
def test_options_that_do_not_fit(check, options, words):
    assert words in check(**options)["backroom.E001"]


def test_runserver_starts_no_worker_of_ours_for_celery(check, settings):
    check()
    assert aliases_to_work_on(settings) == ["records"]
