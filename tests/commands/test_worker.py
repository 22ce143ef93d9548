import json
import logging
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command, load_command_class

from backroom.tasks.management.subcommands import worker as subcommand
from backroom.tasks.worker import WorkerSettings

DATABASE = "backroom.tasks.backends.database.DatabaseBackend"


@pytest.fixture
def started(monkeypatch, settings):
    """Give the settings of the workers that were started; none really is."""
    settings.TASKS = {"default": {"BACKEND": DATABASE, "QUEUES": ["default", "mail"]}}
    workers = []

    def run(asked):
        workers.append(asked)
        return 0

    monkeypatch.setattr(subcommand, "run", run)
    return workers


@pytest.fixture(autouse=True)
def _log_as_before():
    logger = logging.getLogger("backroom")
    handlers, level = list(logger.handlers), logger.level
    yield
    logger.handlers[:], logger.level = handlers, level


pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ([], {}),
        (["--queues", "mail, default,mail,"], {"queues": ("mail", "default")}),
        (["--processes=2", "--threads", "8", "--coroutines", "5"], {"processes": 2, "threads": 8, "coroutines": 5}),
        (["--backend", "default", "--grace", "1.5"], {"grace": 1.5}),
        (["--burst", "--in-process"], {"burst": True, "in_process": True}),
        (["--max-tasks", "9", "--max-memory-growth", "100M"], {"max_tasks": 9, "max_memory_growth": 104_857_600}),
        (["--max-memory-growth", "2GiB"], {"max_memory_growth": 2 << 30}),
        (["--reload"], {"reload": True}),
        (["--with-parent", "4"], {"with_parent": 4}),
    ],
)
def test_options_become_the_settings_of_a_worker(started, backroom, arguments, asked):
    assert backroom("worker", *arguments).status == 0
    assert started == [replace(WorkerSettings(), **asked)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--queues", "mial"], "has no queue 'mial'. It has: default, mail."),
        (["--backend", "nowhere"], "TASKS has no alias 'nowhere'. It has: default."),
        (["--threads", "0"], "'0' is no whole number from 1 upwards"),
        (["--processes=-1"], "'-1' is no whole number from 1 upwards"),
        (["--grace=-1"], "'-1' is no number of seconds from 0 upwards"),
        (["--grace", "soon"], "'soon' is no number of seconds"),
        (["--max-tasks", "0"], "'0' is no whole number from 1 upwards"),
        (["--max-memory-growth", "much"], "'much' is no size; write 500000, 512K, 100M or 2G"),
        (["--burst", "--reload"], "--burst and --reload exclude each other"),
        (["--in-process", "--processes", "2"], "--in-process means this process alone"),
        (["--relo"], "unrecognized arguments: --relo"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(started, arguments, words):
    with pytest.raises(CommandError, match="(?s)" + words.replace("[", r"\[").replace("(", r"\(")):
        call_command("backroom", "worker", *arguments)
    assert started == []


def test_an_option_that_is_unknown_is_answered_with_the_usage_of_its_own_subcommand(capsys):
    command: Any = load_command_class("backroom.tasks", "backroom")
    command._called_from_command_line = True
    parser = command.create_parser("manage.py", "backroom")
    with pytest.raises(SystemExit):
        parser.parse_args(["worker", "--thread", "4"])
    printed = capsys.readouterr().err
    assert "--threads N" in printed
    assert printed.endswith("backroom worker: error: unrecognized arguments: --thread 4\n")


def test_any_queue_may_be_named_where_the_backend_names_none(started, backroom, settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "QUEUES": []}}
    backroom("worker", "--queues", "whatever")
    assert started == [WorkerSettings(queues=("whatever",))]


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ({"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}, "TASKS has no backend of Backroom's"),
        ({"default": {"BACKEND": "backroom.tasks.backends.dummy.DummyBackend"}}, "TASKS has no backend of Backroom's"),
        ({"default": {"BACKEND": "no.such.Backend"}}, "Could not find backend 'no.such.Backend'"),
        ({"a": {"BACKEND": DATABASE}, "b": {"BACKEND": DATABASE}}, "several backends of Backroom's: a, b"),
    ],
)
def test_a_project_without_one_backend_for_workers_is_told_so(started, settings, tasks, words):
    settings.TASKS = tasks
    with pytest.raises(CommandError, match=words):
        call_command("backroom", "worker")


@pytest.mark.parametrize(
    ("backend", "words"),
    [
        ("backroom.tasks.backends.immediate.ImmediateBackend", "in the memory of one process.*Others: default"),
        ("django.tasks.backends.immediate.ImmediateBackend", "Use a backend of backroom.tasks.backends there"),
    ],
)
def test_a_backend_that_no_worker_can_serve_is_refused(started, settings, backend, words):
    settings.TASKS = {"default": {"BACKEND": DATABASE}, "double": {"BACKEND": backend}}
    with pytest.raises(CommandError, match=words):
        call_command("backroom", "worker", "--backend=double")


def test_the_only_backend_need_not_be_named(started, backroom, settings):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}, "mail": {"BACKEND": DATABASE}}
    backroom("worker")
    assert started == [WorkerSettings(backend="mail")]


def test_wrong_settings_keep_a_worker_from_starting(started, settings):
    settings.BACKROOM = {"RUNSERVER_WORKR": True}
    with pytest.raises(CommandError, match=r"backroom\.E008"):
        call_command("backroom", "worker", skip_checks=False)
    call_command("backroom", "worker", "--skip-checks", skip_checks=True)
    assert len(started) == 1


def test_a_warning_is_told_and_does_not_keep_it_from_starting(started, backroom, settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "OPTIONS": {"lease": 1}}}
    out = StringIO()
    call_command("backroom", "worker", skip_checks=False, stderr=out)
    assert "backroom.W002" in out.getvalue()
    assert len(started) == 1


def test_a_worker_says_what_it_works_on(started, backroom):
    assert backroom("worker").out == (
        "Working on queues default, mail of TASKS['default'] in 1 process, 4 threads and 100 coroutines each. "
        "Ctrl-C stops it.\n"
    )
    assert "in this process" in backroom("worker", "--in-process").out
    assert "queue mail of" in backroom("worker", "--queues=mail").out
    assert backroom("worker", "-v0").out == ""


def test_the_status_is_that_of_the_worker(started, backroom, monkeypatch):
    monkeypatch.setattr(subcommand, "run", lambda _asked: 75)
    assert backroom("worker").status == 75


def test_missing_tables_keep_a_worker_from_starting(make_project):
    project = make_project(migrate=False)
    refused = project.run("backroom", "worker", check=False)
    assert refused.returncode == 1
    assert refused.stderr == (
        "CommandError: Database 'default' lacks 2 migrations of backroom_tasks (0001_initial, 0002_outbox). "
        "Run manage.py migrate --database=default\n"
    )


def test_beside_runserver_a_worker_waits_for_the_tables(make_project):
    project = make_project(migrate=False)
    project.write("parent.py", PARENT)
    parent = project.start("python", "parent.py")
    parent.wait_for_output("The worker waits. Database 'default' lacks ")
    project.run("migrate", "--verbosity=0")
    parent.wait_for_output("burst is over: 0")


PARENT = """
import os, subprocess, sys
worker = [sys.executable, "manage.py", "backroom", "worker", "--burst", "--with-parent", str(os.getpid())]
print("burst is over:", subprocess.run(worker).returncode, flush=True)
"""

TASKS = """
from django.tasks import task

@task
def double(number):
    return 2 * number
"""


@pytest.mark.parametrize(
    ("database", "more"), [("sqlite", []), ("sqlite", ["--in-process"]), ("postgres", ["--processes=2", "--threads=1"])]
)
def test_a_burst_does_what_is_due_and_ends(make_project, database, more):
    project = make_project(database)
    project.write("shop.py", TASKS)
    project.python("from shop import double\nfor number in range(20): double.enqueue(number)")
    worker = project.run("backroom", "worker", "--burst", *more)
    assert "action=" not in worker.stderr
    [status] = json.loads(project.run("backroom", "status", "--json").stdout)["backends"]
    assert [(queue["queue"], queue["successful"]) for queue in status["queues"]] == [("default", 20)]
    assert status["workers"] == []


def test_moves_are_logged_to_the_terminal_when_asked(make_project):
    project = make_project()
    project.write("shop.py", TASKS)
    project.python("from shop import double\ndouble.enqueue(2)")
    told = project.run("backroom", "worker", "--burst", "-v2").stderr
    assert "INFO action=succeeded task_id=" in told


def test_a_log_that_the_project_set_up_is_left_alone(make_project):
    project = make_project()
    project.add_settings(
        "LOGGING = {'version': 1, 'handlers': {'null': {'class': 'logging.NullHandler'}}, "
        "'loggers': {'backroom': {'handlers': ['null'], 'level': 'DEBUG'}}}"
    )
    project.write("shop.py", TASKS)
    project.python("from shop import double\ndouble.enqueue(2)")
    assert "action=" not in project.run("backroom", "worker", "--burst", "-v2").stderr


def test_a_worker_starts_while_its_database_is_away(make_project, own_postgres_server):
    project = make_project("postgres", postgres=own_postgres_server)
    own_postgres_server.stop()
    worker = project.manage("backroom", "worker")
    worker.wait_for_output("action=store_away")
    own_postgres_server.start()
    worker.wait_for_output("action=store_back")
    worker.terminate()
    assert worker.wait(timeout=60) == 0
