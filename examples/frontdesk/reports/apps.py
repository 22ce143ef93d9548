"""The app that orders, makes and shows reports."""

from django.apps import AppConfig


class ReportsConfig(AppConfig):
    """Reports on tables."""

    name = "reports"

    def ready(self) -> None:
        """Have the upload of a finished order deleted."""
        from django.tasks.signals import task_finished

        from reports.spool import drop_finished

        task_finished.connect(drop_finished, dispatch_uid="reports.drop_finished")
