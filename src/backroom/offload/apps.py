"""The Django app of the offloaded views."""

from django.apps import AppConfig


class OffloadConfig(AppConfig):
    """Label `backroom_offload`."""

    name = "backroom.offload"
    label = "backroom_offload"
    verbose_name = "Backroom offload"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, and take part in the workers' maintenance."""
        from backroom.offload import checks, maintenance  # noqa: F401 - models are loaded now
        from backroom.tasks.signals import tidying

        tidying.connect(maintenance.on_tidying, dispatch_uid="backroom.offload")
