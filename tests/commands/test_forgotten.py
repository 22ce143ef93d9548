"""What a project is told that forgot a step: the setting TASKS, or `migrate`."""

import pytest
from django.db import OperationalError, ProgrammingError

from backroom.errors import BackroomError
from backroom.sql.dialect import TablesMissing

VIEW = """\
from django.urls import include, path
from backroom.offload import OffloadView
from mysite.work import succeed

urlpatterns = [
    path("report/", OffloadView.as_view(task=succeed)),
    path("operations/", include("backroom.offload.urls")),
]
"""
WORK = """\
from django.tasks import task


@task
def succeed():
    return "done"
"""
TELL = """
from backroom.tasks import enqueue_many
from django.test import Client
from mysite.work import succeed

for ask in (
    lambda: succeed.enqueue(),
    lambda: enqueue_many(succeed, [((), {}), ((), {})]),
    lambda: succeed.get_result("x"),
    lambda: Client().get("/report/"),
    lambda: Client().get("/operations/x/"),
):
    try:
        ask()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_the_error_is_what_both_databases_raise():
    assert issubclass(TablesMissing, BackroomError)
    assert issubclass(TablesMissing, OperationalError)
    assert issubclass(TablesMissing, ProgrammingError)


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_who_forgot_to_migrate_is_told_so(make_project, database):
    project = make_project(database, migrate=False)
    project.write("mysite/urls.py", VIEW)
    project.write("mysite/work.py", WORK)
    said = project.python(TELL).splitlines()
    told = [line for line in said if line.startswith("TablesMissing ")]
    assert len(told) == 5, said
    assert all("Database 'default' lacks tables" in line and "Run manage.py migrate (" in line for line in told)
    for arguments in (["worker", "--burst"], ["status"], ["list"]):
        finished = project.run("backroom", *arguments, check=False)
        assert finished.returncode == 1
        assert "manage.py migrate" in finished.stderr
        assert "Traceback" not in finished.stderr


def test_who_forgot_the_app_is_told_so(make_project):
    project = make_project(
        migrate=False, settings="INSTALLED_APPS = [app for app in INSTALLED_APPS if app != 'backroom.tasks']"
    )
    project.write("mysite/work.py", WORK)
    said = project.python(
        "from mysite.work import succeed\ntry:\n    succeed.enqueue()\nexcept Exception as e:\n    print(e)"
    )
    assert "Add 'backroom.tasks' to INSTALLED_APPS, then run manage.py migrate (" in said


def test_who_forgot_the_setting_is_told_so(make_project):
    project = make_project(settings="TASKS = {}; del TASKS")
    project.write("mysite/urls.py", VIEW)
    project.write("mysite/work.py", WORK)
    said = project.python(TELL)
    advice = "Set TASKS = {'default': {'BACKEND': 'backroom.tasks.backends.database.DatabaseBackend'}}"
    assert said.count("NotOurs TASKS['default'] is django.tasks.backends.immediate.ImmediateBackend. ") == 2
    assert said.count(advice) == 2
    for arguments in (["worker", "--burst"], ["status"], ["list"], ["retry", "--failed"], ["doctor"]):
        finished = project.run("backroom", *arguments, check=False)
        assert finished.returncode == 1
        assert advice in finished.stderr
        assert "Traceback" not in finished.stderr
