"""The Django app of the tasks."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Label `backroom_tasks`: plain `tasks` would collide with many a project's own."""

    name = "backroom.tasks"
    label = "backroom_tasks"
    verbose_name = "Backroom tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks; beside `runserver`, start a worker."""
        from backroom.tasks import checks  # noqa: F401 - importing them registers them
        from backroom.tasks.devserver import start_beside_runserver

        start_beside_runserver()
