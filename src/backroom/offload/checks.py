"""System checks: what offloaded views need and a project lacks is told with its cure, before anyone asks for one.

They look at the views in the URLconf, so a project that has none hears nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.tasks import task_backends
from django.tasks.base import Task
from django.tasks.exceptions import InvalidTaskBackend
from django.urls import NoReverseMatch, get_resolver, reverse
from django.utils.module_loading import import_string

from backroom.offload.origins import MARK
from backroom.offload.representations import HINTS
from backroom.tasks.exceptions import NotOurs
from backroom.tasks.queries import backend_of

SESSIONS: Final = "django.contrib.sessions.middleware.SessionMiddleware"

type Messages = list[checks.CheckMessage]


@checks.register("backroom")
def check_offload(**_kwargs: Any) -> Messages:
    """Return what keeps the offloaded views of the URLconf from working."""
    if not getattr(settings, "ROOT_URLCONF", None):
        return []
    views = list(offloaded_views(get_resolver().url_patterns))
    if not views:
        return []
    needed = {getattr(view, MARK) for view in views}
    wrong = [message for view in views for message in _task(view)]
    return [*wrong, *_apps(), *_urls(needed), *_sessions(), *_pages(needed)]


def offloaded_views(patterns: Iterable[Any]) -> Iterator[Any]:
    """Yield the offloaded views among URL patterns."""
    for pattern in patterns:
        if hasattr(pattern, "url_patterns"):
            yield from offloaded_views(pattern.url_patterns)
        elif hasattr(pattern.callback, MARK):
            yield pattern.callback


def _task(view: Any) -> Iterator[checks.CheckMessage]:
    cls = getattr(view, "view_class", None) or getattr(view, "cls", None)
    options = getattr(view, "view_initkwargs", None) or getattr(view, "initkwargs", {})
    task = options.get("task", getattr(cls, "task", None))
    name = getattr(cls, "__qualname__", repr(view))
    # A class that makes its task per request says so by overriding get_task().
    if not isinstance(task, Task) and not _overrides(cls, "get_task"):
        yield checks.Error(
            f"{name} has the task {task!r}.",
            hint="Give it a function that django.tasks.task decorates.",
            obj=cls,
            id="backroom.E101",
        )
        return
    alias = options.get("using", getattr(cls, "using", None)) or getattr(task, "backend", None)
    if alias is not None:
        yield from _backend(name, alias, cls)


def _backend(name: str, alias: str, cls: Any) -> Iterator[checks.CheckMessage]:
    try:
        backend_of(alias)
    except (NotOurs, InvalidTaskBackend) as error:
        ours = ", ".join(sorted(task_backends.settings))
        yield checks.Error(
            f"{name} enqueues on TASKS[{alias!r}], which cannot tell how a task stands: {error}",
            hint=f"Use a backend of backroom.tasks.backends there, or another alias with 'using' (there are: {ours}).",
            obj=cls,
            id="backroom.E102",
        )


def _apps() -> Iterator[checks.CheckMessage]:
    for name in ("backroom.tasks", "backroom.offload"):
        if not apps.is_installed(name):
            yield checks.Error(
                f"There are offloaded views, and {name!r} is not installed.",
                hint=f"Add {name!r} to INSTALLED_APPS and run manage.py migrate.",
                id="backroom.E103",
            )


def _urls(needed: set[str]) -> Iterator[checks.CheckMessage]:
    for namespace in sorted(needed):
        try:
            reverse(f"{namespace}:operation", args=["id"])
        except NoReverseMatch:
            yield checks.Error(
                f"There are offloaded views, and no addresses for their operations ({namespace}).",
                hint=f"Add {HINTS[namespace]} to the URLconf.",
                id="backroom.E104",
            )


def _sessions() -> Iterator[checks.CheckMessage]:
    if not _has_middleware(SESSIONS):
        yield checks.Warning(
            "There is no session middleware, so a visitor who is not signed in cannot own an operation.",
            hint=f"Add {SESSIONS!r} to MIDDLEWARE, or require a sign-in for every offloaded view.",
            id="backroom.W101",
        )


def _pages(needed: set[str]) -> Iterator[checks.CheckMessage]:
    if "backroom_offload" not in needed:
        return
    if not any(engine.get("APP_DIRS") or _loads_from_apps(engine) for engine in settings.TEMPLATES):
        yield checks.Warning(
            "No template engine looks for templates in apps, so the progress page is not found.",
            hint="Set APP_DIRS in TEMPLATES, or give each view templates of your own.",
            id="backroom.W102",
        )
    if not apps.is_installed("django.contrib.staticfiles"):
        yield checks.Warning(
            "django.contrib.staticfiles is not installed, so the progress page has neither style nor script.",
            hint="Add 'django.contrib.staticfiles' to INSTALLED_APPS.",
            id="backroom.W103",
        )


def _overrides(cls: Any, name: str) -> bool:
    own = getattr(cls, name, None)
    return own is not None and not str(getattr(own, "__module__", "")).startswith("backroom.")


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
