"""A Django app for sites whose deferred tasks are sent by the workers' upkeep without ten seconds' notice, in quick rounds."""

from django.apps import AppConfig


class Hurried(AppConfig):
    name = "tests.celery.hurried"

    def ready(self) -> None:
        from backroom.celery import upkeep
        from backroom.tasks.backends import celery

        celery.SOON, upkeep.AHEAD, upkeep.ROUND = 0.5, 0.4, 0.1  # type: ignore[misc] # in this process alone
