"""The Django app of what runs inside Celery's workers."""

from importlib.util import find_spec

from django.apps import AppConfig


class CeleryConfig(AppConfig):
    """Label `backroom_celery`: plain `celery` would collide with a project's own."""

    name = "backroom.celery"
    label = "backroom_celery"
    verbose_name = "Backroom on Celery"

    def ready(self) -> None:
        """Register the task that runs ours with every Celery app, and follow the workers' signals."""
        if find_spec("celery") is None:
            # A system check says so, where a backend needs it.
            return
        from backroom.celery import (
            existing,  # noqa: F401 - importing it teaches `resolve` to know Celery's tasks
            serving,
            tasks,  # noqa: F401 - importing it registers the task
        )

        serving.follow_signals()
