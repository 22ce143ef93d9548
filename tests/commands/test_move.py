"""The page for those who come from django-tasks-db, on a stand-in with the same model as its 0.13.0."""

import pytest

from tests.services.markdown import blocks_for

MODELS = """
import uuid
from django.db import models

class DBTaskResult(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    status = models.CharField(default="READY", max_length=10)
    enqueued_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    args_kwargs = models.JSONField()
    priority = models.IntegerField(default=0)
    task_path = models.TextField()
    worker_ids = models.JSONField(default=list)
    queue_name = models.CharField(default="default", max_length=32)
    backend_name = models.CharField(max_length=32)
    run_after = models.DateTimeField()
    return_value = models.JSONField(default=None, null=True)
    exception_class_path = models.TextField()
    traceback = models.TextField()

    class Meta:
        app_label = "django_tasks_database"
"""
APPS = """
from django.apps import AppConfig

class Stand(AppConfig):
    name = "django_tasks_db"
    label = "django_tasks_database"
"""
TASKS = """
from django.tasks import task

@task
def greet(name, *, loudly=False):
    return name.upper() if loudly else name
"""
FILL = """
from datetime import UTC, datetime, timedelta
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

never = datetime(9999, 1, 1, tzinfo=UTC)
old = {"task_path": "shop.tasks.greet", "backend_name": "default"}
DBTaskResult.objects.create(args_kwargs={"args": ["ann"], "kwargs": {}}, run_after=never, **old)
DBTaskResult.objects.create(
    args_kwargs={"args": ["bob"], "kwargs": {"loudly": True}}, priority=7, queue_name="mail", run_after=never, **old
)
tomorrow = timezone.now() + timedelta(days=1)
DBTaskResult.objects.create(args_kwargs={"args": ["cleo"], "kwargs": {}}, run_after=tomorrow, **old)
DBTaskResult.objects.create(args_kwargs={"args": ["dan"], "kwargs": {}}, status="SUCCESSFUL", run_after=never, **old)
"""


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_what_waits_in_the_other_table_moves_once(make_project, database):
    [script] = blocks_for("tests/commands/test_move.py::test_what_waits_in_the_other_table_moves_once")
    project = make_project(database)
    project.write("django_tasks_db/__init__.py", "")
    project.write("django_tasks_db/apps.py", APPS)
    project.write("django_tasks_db/models.py", MODELS)
    project.write("shop/__init__.py", "")
    project.write("shop/tasks.py", TASKS)
    project.add_settings("INSTALLED_APPS.append('django_tasks_db'); TASKS['default']['QUEUES'] = []")
    project.run("migrate", "--run-syncdb", "--verbosity=0")
    project.python(FILL)
    project.write("move_tasks.py", script.text)
    assert "Moved 3 tasks." in project.call("bash", "-c", "python manage.py shell < move_tasks.py").stdout
    assert "Moved 0 tasks." in project.call("bash", "-c", "python manage.py shell < move_tasks.py").stdout
    project.run("backroom", "worker", "--burst")
    moved = project.query("SELECT queue_name, priority, state, result FROM backroom_tasks_taskrecord ORDER BY id")
    assert moved == [
        ("default", 0, "successful", '"ann"'),
        ("mail", 7, "successful", '"BOB"'),
        ("default", 0, "deferred", None),
    ]
    assert project.query("SELECT status FROM django_tasks_database_dbtaskresult") == [("SUCCESSFUL",)]
