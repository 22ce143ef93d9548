"""System checks of a backend on Celery: of its OPTIONS, of the app that they name, and of what keeps the records."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from django.apps import apps
from django.core import checks
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTaskBackend

from backroom.extras import installing

type Messages = list[checks.CheckMessage]

APP = "backroom.celery"


def check_celery(backend: Any) -> Messages:
    """Return what is wrong with the settings of a `CeleryBackend`; nothing is connected to."""
    return [*_keeper(backend)] or [*_celery(backend)] or [*_app(backend)]


def _keeper(backend: Any) -> Iterator[checks.CheckMessage]:
    place = f"TASKS[{backend.alias!r}]['OPTIONS']['store']"
    hint = f"Let {place} name the alias in TASKS of a database or Redis backend of Backroom's."
    name = backend.settings.store
    try:
        keeper: Any = task_backends[name]
    except InvalidTaskBackend:
        keeper = None
    if keeper is None or name == backend.alias:
        yield checks.Error(f"{place} is {name!r}, which is no other alias in TASKS.", hint=hint, id="backroom.E020")
    elif not hasattr(keeper, "store_for"):
        kind = f"{type(keeper).__module__}.{type(keeper).__qualname__}"
        yield checks.Error(f"{place} is {name!r}, and {kind} cannot keep records.", hint=hint, id="backroom.E020")


def _celery(backend: Any) -> Iterator[checks.CheckMessage]:
    if find_spec("celery") is None:
        yield checks.Error(
            f"TASKS[{backend.alias!r}] runs on Celery, which is not installed.",
            hint=installing("celery"),
            id="backroom.E021",
        )
    if not apps.is_installed(APP):
        yield checks.Error(
            f"TASKS[{backend.alias!r}] runs on Celery, whose workers know nothing of it without {APP!r}.",
            hint=f"Add {APP!r} to INSTALLED_APPS.",
            id="backroom.E022",
        )


def _app(backend: Any) -> Iterator[checks.CheckMessage]:
    path = backend.settings.app
    hint = f"Let TASKS[{backend.alias!r}]['OPTIONS']['app'] be the dotted path of the project's Celery app: 'proj.celery.app'."
    try:
        app: Any = backend.app
    except Exception as error:  # noqa: BLE001 - the module is the project's, and may raise anything
        yield checks.Error(f"The Celery app {path!r} cannot be imported: {error}", hint=hint, id="backroom.E023")
        return
    if not hasattr(app, "send_task"):
        yield checks.Error(f"{path!r} is {app!r}, not a Celery app.", hint=hint, id="backroom.E023")
        return
    yield from _configuration(backend, app.conf)
    yield from _priorities(backend)


def _configuration(backend: Any, conf: Any) -> Iterator[checks.CheckMessage]:
    accepted = {str(kind) for kind in conf.accept_content or ()}
    if accepted & {"pickle", "application/x-python-serialize"}:
        yield checks.Warning(
            f"The Celery app {backend.settings.app!r} accepts pickle: whoever can write to the broker runs code in its "
            "workers.",
            hint="Let accept_content (CELERY_ACCEPT_CONTENT) be ['json'], once nothing sends pickle any more.",
            id="backroom.W020",
        )
    if not accepted & {"json", "application/json"}:
        yield checks.Error(
            f"The Celery app {backend.settings.app!r} does not accept JSON, in which Backroom sends ids.",
            hint="Add 'json' to accept_content (CELERY_ACCEPT_CONTENT).",
            id="backroom.E024",
        )
    if conf.task_always_eager:
        yield checks.Warning(
            "task_always_eager is on. It has no effect on Backroom's tasks: they go to the broker.",
            hint="For tests use backroom.tasks.backends.immediate.ImmediateBackend, or backroom.testing.run_tasks().",
            id="backroom.W021",
        )
    if conf.task_time_limit or conf.task_soft_time_limit:
        yield checks.Warning(
            "Celery's task_time_limit and task_soft_time_limit end Backroom's tasks as well, and a task that Celery "
            "ends counts as one whose worker died.",
            hint="Give tasks a timeout with @task(timeout=…), and Celery's own tasks their limits one by one.",
            id="backroom.W022",
        )


def _priorities(backend: Any) -> Iterator[checks.CheckMessage]:
    transport = backend.transport
    names = backend.celery_queues
    if impossible := [name for name in names if transport.is_quorum(name) and transport.max_priority(name)]:
        yield checks.Error(
            f"The Celery queues {', '.join(impossible)} are quorum queues with x-max-priority, which RabbitMQ refuses: no "
            "worker starts on them.",
            hint="Take task_queue_max_priority and max_priority away. RabbitMQ 4 knows two priorities in a quorum queue "
            "by itself.",
            id="backroom.E025",
        )
