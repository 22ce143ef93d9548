import os
import signal
import socket
from types import SimpleNamespace

import psutil
import pytest

from backroom.tasks.devserver import aliases_to_work_on, should_start
from tests.services.project import wait_until

DATABASE = {"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"}
THEIRS = {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}
DOUBLE = {"BACKEND": "backroom.tasks.backends.immediate.ImmediateBackend"}
RUNSERVER = ["manage.py", "runserver"]


def project(*, debug=True, tasks=None, backroom=None):
    described = {"DEBUG": debug, "TASKS": {"default": DATABASE} if tasks is None else tasks}
    return SimpleNamespace(**described) if backroom is None else SimpleNamespace(**described, BACKROOM=backroom)


@pytest.mark.parametrize(
    ("argv", "environ", "settings", "is_started"),
    [
        # Flavours of runserver, in the process that lives on
        (RUNSERVER, {}, project(), True),
        ([*RUNSERVER, "0.0.0.0:8080", "--noreload"], {}, project(), True),
        (["/usr/bin/django-admin", "runserver"], {}, project(), True),
        (["manage.py", "runserver_plus", "--cert-file", "x"], {}, project(), True),
        (["manage.py", "runsslserver"], {}, project(), True),
        # Not in the process that is started anew with each change
        (RUNSERVER, {"RUN_MAIN": "true"}, project(), False),
        (["manage.py", "runserver_plus"], {"WERKZEUG_RUN_MAIN": "true"}, project(), False),
        # Not when it is no server
        ([*RUNSERVER, "--help"], {}, project(), False),
        ([*RUNSERVER, "-h"], {}, project(), False),
        *(
            (["manage.py", command], {}, project(), False)
            for command in ("test", "migrate", "shell", "check", "testserver", "runscript", "backroom", "collectstatic")
        ),
        (["manage.py"], {}, project(), False),
        ([], {}, project(), False),
        (["/usr/bin/pytest", "tests"], {}, project(), False),
        (["/usr/bin/gunicorn", "mysite.wsgi"], {}, project(), False),
        (["/usr/bin/uvicorn", "mysite.asgi:application", "--reload"], {}, project(), False),
        (["manage.py", "backroom", "worker", "runserver"], {}, project(), False),
        # Not in production, and not when the project says no
        (RUNSERVER, {}, project(debug=False), False),
        (RUNSERVER, {}, project(backroom={"RUNSERVER_WORKER": False}), False),
        (RUNSERVER, {}, project(backroom={"RUNSERVER_WORKER": True}), True),
        (RUNSERVER, {}, project(backroom={"OTHER": 1}), True),
        (RUNSERVER, {}, project(backroom="not a dict"), True),
        # Not without a backend that a worker serves
        (RUNSERVER, {}, project(tasks={}), False),
        (RUNSERVER, {}, project(tasks={"default": THEIRS}), False),
        (RUNSERVER, {}, project(tasks={"default": DOUBLE}), False),
        (RUNSERVER, {}, project(tasks={"default": THEIRS, "mail": DATABASE}), True),
        (RUNSERVER, {}, project(tasks={"default": {"BACKEND": "no.such.Backend"}}), False),
        (RUNSERVER, {}, project(tasks={"default": {}}), False),
    ],
)
def test_a_worker_starts_beside_runserver_in_development_only(argv, environ, settings, is_started):
    assert should_start(argv, environ, settings) is is_started


def test_each_backend_that_needs_one_gets_a_worker():
    tasks = {"default": DATABASE, "double": DOUBLE, "mail": DATABASE, "theirs": THEIRS}
    assert aliases_to_work_on(project(tasks=tasks)) == ["default", "mail"]


# ── Real servers ────────────────────────────────────────────────────────────────────────────────

TASKS = """
from django.tasks import task

@task
def answer():
    return 42
"""
URLS = """
from django.http import JsonResponse
from django.urls import path
from shop.tasks import answer

def enqueue(request):
    return JsonResponse({"id": answer.enqueue().id})

urlpatterns = [path("", enqueue)]
"""


@pytest.fixture
def site(make_project):
    """Give a project in development whose only page enqueues a task."""
    project = make_project(settings="DEBUG = True")
    project.write("shop/__init__.py", "")
    project.write("shop/tasks.py", TASKS)
    project.write("mysite/urls.py", URLS)
    project.add_settings("INSTALLED_APPS.append('shop')")
    return project


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def results(project):
    return [result for (result,) in project.query("SELECT result FROM backroom_tasks_taskrecord ORDER BY id")]


def enqueue(project):
    project.python("from shop.tasks import answer\nanswer.enqueue()")


def family(process):
    return [process, *process.children(recursive=True)]


def serve(project, *options):
    """Start runserver, have its worker do one task, and return it with every process beside it."""
    server = project.manage("runserver", f"127.0.0.1:{free_port()}", *options)
    server.wait_for_output("Quit the server")
    enqueue(project)
    wait_until(lambda: "42" in results(project), what=server.output)
    return server, family(psutil.Process(server.pid))


def all_gone(processes):
    return not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("options", [(), ("--noreload",)])
def test_runserver_has_one_worker_which_ends_with_ctrl_c(site, options):
    server, processes = serve(site, *options)
    assert server.output().count("a worker for TASKS['default'] runs beside runserver") == 1
    assert sum(1 for each in processes if "--reload" in each.cmdline()) == 1
    server.interrupt()
    server.wait(timeout=60)
    wait_until(lambda: all_gone(processes), what=server.output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("options", [(), ("--noreload",)])
def test_the_worker_ends_however_runserver_does(site, options, number):
    server, processes = serve(site, *options)
    beside = [each for each in processes if "backroom" in each.cmdline()]
    assert beside
    os.kill(server.pid, number)
    server.wait(timeout=60)
    wait_until(lambda: all_gone(beside), what=server.output)


def test_the_worker_runs_the_code_as_it_is_now(site):
    server, _ = serve(site)
    site.write("shop/tasks.py", TASKS.replace("42", "4711"))
    wait_until(lambda: (enqueue(site), "4711" in results(site))[1], what=server.output)


def test_the_worker_gets_over_a_mistake_in_the_code(site):
    server, _ = serve(site)
    site.write("shop/tasks.py", "this is no Python")
    server.wait_for_output("SyntaxError")
    site.write("shop/tasks.py", TASKS.replace("42", "4711"))
    wait_until(lambda: (enqueue(site), "4711" in results(site))[1], what=server.output, seconds=60)


def test_a_fresh_project_may_migrate_after_runserver_was_started(make_project):
    project = make_project(settings="DEBUG = True\nINSTALLED_APPS.append('shop')", migrate=False)
    project.write("shop/__init__.py", "")
    project.write("shop/tasks.py", TASKS)
    server = project.manage("runserver", f"127.0.0.1:{free_port()}")
    server.wait_for_output("The worker waits. Database 'default' lacks 2 migrations")
    project.run("migrate", "--verbosity=0")
    enqueue(project)
    wait_until(lambda: results(project) == ["42"], what=server.output)


def test_the_setting_turns_it_off(site):
    site.add_settings("BACKROOM = {'RUNSERVER_WORKER': False}")
    server = site.manage("runserver", f"127.0.0.1:{free_port()}")
    server.wait_for_output("Quit the server")
    assert [each for each in family(psutil.Process(server.pid)) if "backroom" in each.cmdline()] == []
    assert "Backroom" not in server.output()


def test_a_port_that_is_taken_leaves_no_worker_behind(site):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        server = site.manage("runserver", f"127.0.0.1:{listener.getsockname()[1]}")
        server.wait_for_output("runs beside runserver (pid ")
        worker = psutil.Process(int(server.output().partition("(pid ")[2].partition(")")[0]))
        assert server.wait(timeout=60) == 1
    wait_until(lambda: all_gone([worker]), what=server.output)


def test_a_project_may_be_run_from_another_folder(site, tmp_path):
    server = site.start("bash", "-c", f"cd / && exec python {site.folder}/manage.py runserver 127.0.0.1:{free_port()}")
    server.wait_for_output("Quit the server")
    enqueue(site)
    wait_until(lambda: results(site) == ["42"], what=server.output)
