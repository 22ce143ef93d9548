"""Tasks that run on a Celery cluster. Their records stay in a database or in Redis; Celery carries ids."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, ClassVar, Final, Protocol

from django.core import checks
from django.tasks import task_backends
from django.tasks.exceptions import InvalidTaskBackend, TaskResultDoesNotExist
from django.utils.module_loading import import_string

from backroom.clock import after
from backroom.options import Above
from backroom.tasks.backends.base import Backend, BackendOptions
from backroom.tasks.records import READY, Record
from backroom.tasks.results import TaskResult
from backroom.tasks.stores.base import Store
from backroom.tasks.transports.celery import (
    SEND_TIMEOUT,
    CeleryTransport,
    Message,
    Sent,
    messages_of,
    transport_of,
)
from backroom.tasks.transports.sent import SentStore

SOON: Final = 10.0
"""Seconds: what is due within them is sent at once, with its moment. The rest is sent shortly before it is due, so that
Celery's workers need not keep it in memory, nor a broker wait for its acknowledgement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CeleryOptions(BackendOptions):
    """OPTIONS of a `CeleryBackend`."""

    app: str = ""
    """The dotted path of the Celery app: `proj.celery.app`."""
    store: str = ""
    """The alias in TASKS of the database or Redis backend that keeps the records."""
    queue_map: Mapping[str, str] = field(default_factory=dict)
    """The Celery queues of ours; a queue that is not named goes to Celery's default queue."""
    resend_after: Annotated[float, Above(0)] = 60.0
    """How long a task may be ready before its message is taken for lost."""
    send_timeout: Annotated[float, Above(0)] = SEND_TIMEOUT
    """How long an enqueue waits for a broker that keeps silent."""


class Keeper(Protocol):
    """A backend that can keep the records of another one."""

    @property
    def database(self) -> str | None:
        """See Backend.database."""

    def prepare(self) -> None:
        """See Backend.prepare()."""

    def examine_server(self) -> tuple[str, list[checks.CheckMessage]] | None:
        """See Backend.examine_server()."""

    def store_for(self, alias: str) -> Store:
        """Return the store of another backend's records, kept beside this one's."""

    def after_commit(self, work: Callable[[], object]) -> None:
        """Do `work` once what this backend's stores were told is there for others to see."""


class CeleryBackend(Backend):
    """Keeps records beside those of another backend, and lets `celery worker` run them."""

    options_class = CeleryOptions
    settings: CeleryOptions
    is_served_by_us: ClassVar[bool] = False

    @property
    def store(self) -> SentStore:
        """The store of another backend, under this one's alias."""
        return SentStore(self.keeper.store_for(self.alias), self._send_when_committed)

    @property
    def keeper(self) -> Keeper:
        """The backend that OPTIONS name to keep the records."""
        name = self.settings.store
        if name not in task_backends.settings:
            place = f"TASKS[{self.alias!r}]['OPTIONS']['store']"
            raise InvalidTaskBackend(f"{place} is {name!r}, which is no alias in TASKS. Name one that keeps records.")
        found: Any = task_backends[name]
        return found  # type: ignore[no-any-return] # whether it can is for the system checks to say

    @property
    def database(self) -> str | None:
        """The alias in DATABASES where the keeper has its tables."""
        return self.keeper.database

    @property
    def transport(self) -> CeleryTransport:
        """What sends for this backend, in every thread of this process."""
        return transport_of(self.app, self.alias, self.settings.queue_map, self.settings.send_timeout)

    @cached_property
    def app(self) -> Any:
        """The Celery app that OPTIONS name."""
        return import_string(self.settings.app)

    @property
    def celery_queues(self) -> list[str]:
        """The queues of Celery's in which its tasks may wait."""
        names = self.queues or {*self.settings.queue_map, ""}
        return sorted({self.transport.queue_of(name) for name in names})

    @property
    def served_by(self) -> str:
        """The command that runs its tasks."""
        return f"celery -A {self.settings.app.rpartition('.')[0]} worker"

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return a task's result; for one whose unique key was found to be taken at its commit, the holder's."""
        try:
            return super().get_result(result_id)
        except TaskResultDoesNotExist:
            holder_of = getattr(self.store.kept_in, "holder_of", None)
            if holder_of is None or (holder := holder_of(str(result_id))) is None:
                raise
            return super().get_result(holder)

    def prepare(self) -> None:
        """Do what the keeper needs before a worker starts."""
        self.keeper.prepare()

    def examine_server(self) -> tuple[str, list[checks.CheckMessage]] | None:
        """Return what the keeper's server is and what is wrong with it."""
        return self.keeper.examine_server()

    def check(self, **kwargs: Any) -> Any:
        """Return what is wrong with this backend's settings, with Celery's and with the keeper."""
        from backroom.tasks.backends.celerychecks import check_celery

        found = super().check(**kwargs)
        return found or check_celery(self)

    def _send_when_committed(self, records: Sequence[Record]) -> None:
        if records:
            self.keeper.after_commit(lambda: self.send(records))

    def send(self, records: Sequence[Record]) -> Sent:
        """Send records that wait and are due soon, for somebody who will not wait for a silent broker."""
        return self.transport.send(self._messages(records))

    def deliver(self, records: Sequence[Record]) -> Sent:
        """Send records that wait and are due soon; tell which the broker has taken."""
        return self.transport.deliver(self._messages(records))

    def _messages(self, records: Sequence[Record]) -> list[Message]:
        soon = after(self.clock.now(), SOON)
        return messages_of(each for each in records if each.state == READY or (each.due_at or 0) <= soon)
