"""The Django app of the tasks."""

from django.apps import AppConfig


class TasksConfig(AppConfig):
    """Label `backroom_tasks`: plain `tasks` would collide with many a project's own."""

    name = "backroom.tasks"
    label = "backroom_tasks"
    verbose_name = "Backroom tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks."""
        from backroom.tasks import checks, devserver  # noqa: F401 - models are loaded now
