"""The Django app of the sessions."""

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured


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


def require_app() -> None:
    """Raise `ImproperlyConfigured` where an engine of ours is used without the app, which has its table and its receivers."""
    from django.apps import apps
    from django.conf import settings

    if not apps.is_installed(SessionsConfig.name):
        msg = (
            f"SESSION_ENGINE is {settings.SESSION_ENGINE!r}, and its app is not installed. "
            f"Add {SessionsConfig.name!r} to INSTALLED_APPS and run manage.py migrate."
        )
        raise ImproperlyConfigured(msg)
