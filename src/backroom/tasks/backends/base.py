"""What every backend of ours shares: arguments become a record, a record becomes a result."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final

from django.core import checks
from django.db import DEFAULT_DB_ALIAS
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS
from django.tasks.backends.base import BaseTaskBackend
from django.tasks.exceptions import InvalidTask, TaskResultDoesNotExist
from django.tasks.signals import task_enqueued
from django.utils.module_loading import import_string

from backroom.clock import Clock, Moment, SystemClock
from backroom.options import Above, AtLeast, parse
from backroom.sql.dialect import telling_of_missing_tables
from backroom.tasks.attempts import Attempts
from backroom.tasks.definition import Task
from backroom.tasks.drafts import Draft
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.ids import new_id, new_ids
from backroom.tasks.middleware import Middleware
from backroom.tasks.records import Record
from backroom.tasks.resolve import Defaults, resolve
from backroom.tasks.results import TaskResult, alike, result_of
from backroom.tasks.signals import is_heard, send
from backroom.tasks.stores.base import Store
from backroom.tasks.transports.wakeups import Listener, Silence

type Call = tuple[Sequence[Any], Mapping[str, Any]]
"""Positional and keyword arguments of one task."""

TRIES: Final = 5
"""How often an enqueue looks for the task that was in its way."""
KEPT_VALID: Final = 1_024
"""Tasks that a backend remembers having found sound, and drafts that it keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendOptions:
    """What OPTIONS may say, whatever the store. Times are in seconds, sizes in bytes."""

    lease: Annotated[float, Above(0)] = 30.0
    """How long a worker may be silent before its tasks go to another one."""
    crash_budget: Annotated[int, AtLeast(1)] = 3
    """How many workers may die under a task before it fails."""
    timeout_grace: Annotated[float, AtLeast(0)] = 5.0
    """Between `TaskTimeout` in a task and the end of the process that runs it."""
    cancel_grace: Annotated[float, AtLeast(0)] = 5.0
    """Between a request to cancel and `TaskCancelled` in the task, and again until its process is ended."""
    retention: Annotated[float, AtLeast(0)] = 7 * 86_400.0
    """How long a successful task is kept."""
    failed_retention: Annotated[float, AtLeast(0)] = 30 * 86_400.0
    """How long a failed task is kept."""
    max_payload_bytes: Annotated[int, AtLeast(1)] = 1_048_576
    max_result_bytes: Annotated[int, AtLeast(1)] = 4_194_304
    poll: Annotated[float, Above(0)] = 0.1
    """How often an idle worker looks for work when nothing wakes it."""
    middleware: list[str] | tuple[str, ...] = ()
    """Dotted paths of functions from an `Execution` to a context manager, the outermost first."""


class Backend(BaseTaskBackend):
    """A backend that keeps records in a store."""

    task_class = Task
    options_class: ClassVar[type[BackendOptions]] = BackendOptions
    clock: Clock = SystemClock()
    is_shared: ClassVar[bool] = True
    """Whether other processes see its tasks: workers, the command line, the admin."""
    is_served_by_us: ClassVar[bool] = True
    """Whether `manage.py backroom worker` runs its tasks."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        self._valid: set[tuple[Any, ...]] = set()
        self._drafts: dict[int, Draft] = {}

    @cached_property
    def settings(self) -> BackendOptions:
        """OPTIONS, read; raises `OptionsError`, which the system checks have told of before."""
        return parse(self.options_class, self.options, place=f"TASKS[{self.alias!r}]['OPTIONS']")

    @cached_property
    def defaults(self) -> Defaults:
        """What OPTIONS say for every task."""
        settings = self.settings
        return Defaults(
            crash_budget=settings.crash_budget,
            retention=settings.retention,
            failed_retention=settings.failed_retention,
        )

    @property
    def store(self) -> Store:
        """The store of the records."""
        raise NotImplementedError

    @property
    def database(self) -> str | None:
        """The alias in DATABASES that has tables of ours for this backend; None where it needs none."""
        return None

    @property
    def served_by(self) -> str:
        """The command that runs its tasks."""
        named = "" if self.alias == DEFAULT_TASK_BACKEND_ALIAS else f" --backend {self.alias}"
        return f"manage.py backroom worker{named}"

    @cached_property
    def attempts(self) -> Attempts:
        """How this backend's claims are attempted."""
        return Attempts(
            store=self.store,
            sender=type(self),
            clock=self.clock,
            defaults=self.defaults,
            layers=self.layers,
            max_result_bytes=self.settings.max_result_bytes,
        )

    @cached_property
    def layers(self) -> tuple[Middleware, ...]:
        """The project's own layers round each execution."""
        return tuple(import_string(path) for path in self.settings.middleware)

    def validate_task(self, task: Any) -> None:
        """Raise `InvalidTask` when this backend cannot run the task."""
        # Each enqueue asks again, and a task without a `run_after` gets the same answer each time, as long as the
        # flags stay: Django lets a backend change its mind about them.
        flags = (self.supports_async_task, self.supports_priority)
        key = (task.func, task.queue_name, task.priority, task.takes_context, flags)
        if task.run_after is None and key in self._valid:
            return
        super().validate_task(task)
        if len(task.queue_name) > 128:
            msg = f"Queue name {task.queue_name!r} is longer than 128 characters."
            raise InvalidTask(msg)
        if not task.queue_name.isprintable():
            # NUL and half a character are no text to PostgreSQL; the others are none to whoever reads a terminal.
            msg = f"Queue name {task.queue_name!r} has characters that cannot be printed. Use letters and digits."
            raise InvalidTask(msg)
        if task.run_after is None:
            if len(self._valid) >= KEPT_VALID:
                # Queue names may be made up as the site runs, one for each customer say.
                self._valid.clear()
            self._valid.add(key)

    def enqueue(  # type: ignore[override] # the stubs would have a task's parameters in its result's type
        self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> TaskResult[..., Any]:
        """Store a task and return its result; on a unique task's collision, the result that was there before.

        Raise `InvalidTask` for a task that cannot be run here, `InvalidArguments` naming the argument that JSON cannot
        carry, `StoreUnavailable` or the database's own error when nothing could be stored.
        """
        self.validate_task(task)
        now = self.clock.now()
        drafted = self._draft(task, now).record(new_id(), args, kwargs, now=now)
        with telling_of_missing_tables(self._database, "backroom.tasks"):
            for _ in range(TRIES):
                if not (collisions := self.store.insert([drafted.record])):
                    break
                # The record may be pruned or deleted between the collision and the look at it: then its key is free.
                if existing := self.store.get(list(collisions.values())):
                    return self._result(existing[0])
            else:
                msg = f"The unique key of {task.module_path} is held by tasks that are not there. Enqueue it again."
                raise StoreUnavailable(msg)
        self.wake()
        result = result_of(drafted.record, task, args=drafted.args, kwargs=drafted.kwargs)
        if is_heard(task_enqueued, logging.DEBUG):
            send(task_enqueued, sender=type(self), task_result=result)
        return result

    def enqueue_many(self, task: Any, calls: Iterable[Call]) -> list[TaskResult[..., Any]]:
        """Store one task for each pair of `args` and `kwargs`, in a handful of statements; return their results.

        All of them or none: when one call's arguments are refused nothing is stored. A call that collides on the
        task's unique key gets the result that holds the key, which may be another one of this call.
        """
        self.validate_task(task)
        if not (wanted := list(calls)):
            return []
        now = self.clock.now()
        draft, ids = self._draft(task, now), new_ids(len(wanted))
        drafts = [draft.record(id_, args, kwargs, now=now) for id_, (args, kwargs) in zip(ids, wanted, strict=True)]
        with telling_of_missing_tables(self._database, "backroom.tasks"):
            collisions = self.store.insert([drafted.record for drafted in drafts])
        self.wake()
        holding = self.store.get(list(set(collisions.values()))) if collisions else ()
        holders = {record.id: self._result(record) for record in holding}
        first = result_of(drafts[0].record, task, args=[], kwargs={})
        is_told = is_heard(task_enqueued, logging.DEBUG)
        results = []
        for drafted in drafts:
            holder_id = collisions.get(drafted.record.id)
            if holder_id is None:
                result = alike(first, *drafted)
                if is_told:
                    send(task_enqueued, sender=type(self), task_result=result)
            else:
                # If it was pruned in between, the key is free, and this one goes in by itself.
                result = holders.get(holder_id) or self.enqueue(task, drafted.args, drafted.kwargs)
            results.append(result)
        return results

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return a task's result; raise `TaskResultDoesNotExist` when there is no such task."""
        with telling_of_missing_tables(self._database, "backroom.tasks"):
            records = self.store.get([str(result_id)])
        if not records:
            raise TaskResultDoesNotExist(result_id)
        return self._result(records[0])

    def wake(self) -> None:
        """Tell idle workers that there is work. A hint: they look by themselves too."""

    def listener(self) -> Listener:
        """Return what hears that `wake` was called, here or in another process."""
        return Silence()

    def prepare(self) -> None:
        """Make the store ready for many writers, before a worker starts."""

    def check(self, **_kwargs: Any) -> list[checks.CheckMessage]:
        """Return what is wrong with this backend's settings."""
        from backroom.tasks.checks import check_options

        return check_options(self)

    def check_server(self) -> list[checks.CheckMessage]:
        """Return what is wrong with a server, other than a database, that keeps the tasks. Connects to it."""
        return []

    def server_moment(self) -> Moment | None:
        """Return what time it is by the clock of such a server; None where there is none."""
        return None

    def examine_server(self) -> tuple[str, list[checks.CheckMessage]] | None:
        """Return what such a server is and what is wrong with it; None where there is none.

        Raise `StoreUnavailable` when it does not answer.
        """
        return None

    @cached_property
    def _database(self) -> str:
        return self.database or DEFAULT_DB_ALIAS

    def _draft(self, task: Any, now: Moment) -> Draft:
        # By its identity, which the draft keeps it from losing to another: to compare tasks takes as long as to draft one.
        draft = self._drafts.get(id(task))
        if draft is None:
            draft = Draft(task, backend_name=self.alias, now=now, max_payload_bytes=self.settings.max_payload_bytes)
            if draft.lasts:
                if len(self._drafts) >= KEPT_VALID:
                    self._drafts.clear()
                self._drafts[id(task)] = draft
        return draft

    def _result(self, record: Record) -> TaskResult[..., Any]:
        return result_of(record, resolve(record, self.defaults).task)
