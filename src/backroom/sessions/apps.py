"""The Django app of the sessions."""

from django.apps import AppConfig


class SessionsConfig(AppConfig):
    """Label `backroom_sessions`: plain `sessions` is that of Django's own."""

    name = "backroom.sessions"
    label = "backroom_sessions"
    verbose_name = "Backroom sessions"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks, follow what happens to users, and take part in the workers' maintenance."""
        from django.apps import apps

        from backroom.sessions import checks, maintenance  # noqa: F401 - importing checks registers them
        from backroom.upkeep import tidying

        tidying.connect(maintenance.this_process.on_tidying, dispatch_uid="backroom.sessions")
        if apps.is_installed("django.contrib.auth"):
            from backroom.sessions import receivers

            receivers.connect()
