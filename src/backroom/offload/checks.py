"""System checks: what offloaded views need and a project lacks is told with its cure, before anyone asks for one."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.urls import NoReverseMatch, reverse
from django.utils.module_loading import import_string

from backroom.offload.representations import NAMESPACE


@checks.register
def check_offload(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Return what keeps offloaded views from working."""
    return [*_apps(), *_sessions(), *_templates()]


@checks.register(checks.Tags.urls)
def check_urls(**_kwargs: Any) -> list[checks.CheckMessage]:
    """Return whether operations have addresses."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    try:
        reverse(f"{NAMESPACE}:operation", args=["x"])
    except NoReverseMatch:
        return [
            checks.Warning(
                "backroom.offload is installed and its URLs are not included, so no operation has an address.",
                hint="Add path('operations/', include('backroom.offload.urls')) to the URLconf.",
                id="backroom.W101",
            )
        ]
    return []


def _apps() -> Iterator[checks.CheckMessage]:
    if not apps.is_installed("backroom.tasks"):
        yield checks.Error(
            "backroom.offload needs backroom.tasks.",
            hint="Add 'backroom.tasks' to INSTALLED_APPS.",
            id="backroom.E101",
        )


def _sessions() -> Iterator[checks.CheckMessage]:
    if not _has_middleware("django.contrib.sessions.middleware.SessionMiddleware"):
        yield checks.Warning(
            "There is no session middleware, so only signed-in users of an API can own operations.",
            hint="Add 'django.contrib.sessions.middleware.SessionMiddleware' to MIDDLEWARE.",
            id="backroom.W102",
        )


def _templates() -> Iterator[checks.CheckMessage]:
    has_static = apps.is_installed("django.contrib.staticfiles")
    if not any(engine.get("APP_DIRS") or _loads_from_apps(engine) for engine in settings.TEMPLATES):
        yield checks.Warning(
            "No template engine looks for templates in apps, so the progress page is not found.",
            hint="Set APP_DIRS in TEMPLATES, or give views their own progress_template_name.",
            id="backroom.W103",
        )
    if not has_static:
        yield checks.Warning(
            "django.contrib.staticfiles is not installed, so the progress page has neither style nor script.",
            hint="Add 'django.contrib.staticfiles' to INSTALLED_APPS.",
            id="backroom.W104",
        )


def _has_middleware(wanted: str) -> bool:
    base = import_string(wanted)
    return any(_is_subclass(path, base) for path in settings.MIDDLEWARE)


def _is_subclass(path: str, base: type) -> bool:
    try:
        found = import_string(path)
    except ImportError:
        # Django tells of that one itself.
        return False
    return isinstance(found, type) and issubclass(found, base)


def _loads_from_apps(engine: dict[str, Any]) -> bool:
    return "app_directories" in repr(engine.get("OPTIONS", {}).get("loaders", ()))
