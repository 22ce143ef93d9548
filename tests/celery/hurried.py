"""A Django app for sites whose deferred tasks are sent by the workers' upkeep without ten seconds' notice."""

from django.apps import AppConfig


class Hurried(AppConfig):
    name = "tests.celery.hurried"

    def ready(self) -> None:
        from backroom.celery import upkeep
        from backroom.tasks.backends import celery

        celery.SOON, upkeep.AHEAD = 2.0, 1.0  # type: ignore[misc] # in this process alone
