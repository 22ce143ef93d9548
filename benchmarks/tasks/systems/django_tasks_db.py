"""django-tasks-db: the reference database backend of `django.tasks`."""

from collections.abc import Sequence

from benchmarks.tasks.systems.base import Claimer
from benchmarks.tasks.systems.django import DjangoSystem

WORTH_IT = 20_000
"""Tasks from which on filling goes round enqueue()."""


class DjangoTasksDB(DjangoSystem):
    name = "django-tasks-db"
    packages = ("django-tasks-db",)
    apps = ("django_tasks_db",)
    backend = "django_tasks_db.DatabaseBackend"
    finished = "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'"
    returned = "SELECT return_value FROM django_tasks_database_dbtaskresult WHERE status = 'SUCCESSFUL'"

    def worker(self) -> list[str]:
        return self.manage("db_worker", "--no-startup-delay", "--verbosity", "0")

    def fill(self, count: int) -> None:
        # It has no bulk enqueue: the rows are those that enqueue() writes, through the model.
        if count < WORTH_IT:
            super().fill(count)
            return
        self.enqueuer()(0)
        from django.forms.models import model_to_dict
        from django_tasks_db.models import DBTaskResult

        first = model_to_dict(DBTaskResult.objects.get())
        shared = {name: value for name, value in first.items() if name != "args_kwargs"}
        for start in range(1, count, 10_000):
            numbers = range(start, min(start + 10_000, count))
            DBTaskResult.objects.bulk_create(
                [DBTaskResult(**shared, args_kwargs={"args": [number], "kwargs": {}}) for number in numbers],
                batch_size=500,
            )

    def claimers(self) -> dict[str, Claimer]:
        import django

        django.setup()
        from django_tasks_db.models import DBTaskResult
        from django_tasks_db.utils import exclusive_transaction

        def claim(_limit: int) -> Sequence[object]:
            ready = DBTaskResult.objects.ready().filter(backend_name="default", queue_name__in=["default"])
            with exclusive_transaction(ready.db):
                found = ready.get_locked()
                if found is None:
                    return []
                found.claim("claimer")
            return [found]

        return {"1": claim}
