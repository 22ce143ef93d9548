"""System checks of a backend on Celery: of its OPTIONS, of the app that they name, and of what keeps the records."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Final

from django.apps import apps
from django.core import checks
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTaskBackend

from backroom.extras import installing
from backroom.options import suggestion

type Messages = list[checks.CheckMessage]

APP: Final = "backroom.celery"
EXTRAS: Final = {"rediss": "redis", "sentinel": "redis", "sqla": "sqlalchemy"}
"""Celery's extras for the schemes of brokers whose extra has another name."""


def check_celery(backend: Any) -> Messages:
    """Return what is wrong with the settings of a `CeleryBackend`; nothing is connected to."""
    return [*_keeper(backend), *_queues(backend)] or [*_celery(backend)] or [*_app(backend)]


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


def _queues(backend: Any) -> Iterator[checks.CheckMessage]:
    place = f"TASKS[{backend.alias!r}]"
    for name in backend.settings.queue_map:
        if backend.queues and name not in backend.queues:
            yield checks.Error(
                f"{place}['OPTIONS']['queue_map'] has a queue {name!r}, which {place}['QUEUES'] has not.",
                hint=f"{suggestion(name, backend.queues)} Correct it, or add it to QUEUES.",
                id="backroom.E027",
            )


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
    place = f"TASKS[{backend.alias!r}]['OPTIONS']['app']"
    hint = f"Let {place} be the dotted path of the project's Celery app: 'proj.celery.app'."
    if not path:
        yield checks.Error(f"{place} is not set.", hint=hint, id="backroom.E023")
        return
    try:
        app: Any = backend.app
    except Exception as error:  # noqa: BLE001 - the module is the project's, and may raise anything
        yield checks.Error(f"The Celery app {path!r} cannot be imported: {error}", hint=hint, id="backroom.E023")
        return
    if not hasattr(app, "send_task"):
        yield checks.Error(f"{path!r} is {app!r}, not a Celery app.", hint=hint, id="backroom.E023")
        return
    if unreadable := [*_broker(path, app)]:
        yield from unreadable
        return
    yield from _configuration(backend, app.conf)
    yield from _priorities(backend)


def _broker(path: str, app: Any) -> Iterator[checks.CheckMessage]:
    """Find what keeps Celery from knowing how to talk to its broker. Nothing is connected to."""
    try:
        url = app.conf.broker_write_url
    except Exception as error:  # noqa: BLE001 - the module that configures it is the project's as well
        hint = "Correct what the app's config_from_object() names."
        yield checks.Error(
            f"The settings of the Celery app {path!r} cannot be read: {error}", hint=hint, id="backroom.E023"
        )
        return
    try:
        _ = app.connection_for_write().transport
    except ImportError as error:
        yield checks.Error(
            f"The broker of the Celery app {path!r} needs a package that is not installed: {error}",
            hint=f"Install what Celery needs for it: pip install 'celery[{_extra_for(url, app.conf.broker_transport)}]'.",
            id="backroom.E026",
        )
    except KeyError as error:
        told = " ".join(str(error.args[0] if error.args else error).split())
        hint = "Correct broker_url (CELERY_BROKER_URL): redis://, amqp:// and so on."
        yield checks.Error(f"The broker of the Celery app {path!r}: {told}", hint=hint, id="backroom.E026")
    except Exception as error:  # noqa: BLE001 - each transport raises what its client library does
        # What it says may quote a part of the password.
        yield checks.Error(
            f"The broker_url of the Celery app {path!r} cannot be read ({type(error).__name__}).",
            hint="Write what is special in its password as %2F for /, %23 for # and so on, and check the port.",
            id="backroom.E026",
        )


def _extra_for(url: Any, transport: str | None) -> str:
    first = url if isinstance(url, str) else next(iter(url or ()), "")
    scheme, mark, _ = first.partition("://")
    # Without a scheme it begins with the user's name.
    name = scheme if mark else transport or "amqp"
    return EXTRAS.get(name, name)


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
