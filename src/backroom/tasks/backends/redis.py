"""Tasks in Redis or Valkey, for many workers on many machines."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from django.db import transaction
from django.tasks.exceptions import TaskResultDoesNotExist

from backroom.clock import SECOND, Moment
from backroom.options import AtLeast
from backroom.redis import RedisOptions, Server, server_of
from backroom.tasks import outbox
from backroom.tasks.backends.base import Backend, BackendOptions
from backroom.tasks.results import TaskResult
from backroom.tasks.stores.committed import CommittedStore
from backroom.tasks.transports.bells import BellListener
from backroom.tasks.transports.wakeups import Listener, Silence

__all__ = ["RedisBackend", "RedisBackendOptions", "outbox"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisBackendOptions(BackendOptions, RedisOptions):
    """OPTIONS of a `RedisBackend`."""

    shards: Annotated[int, AtLeast(1)] = 1
    """Hash tags over which the tasks are spread, and so nodes of a cluster; an order of priority holds within each."""
    database: str = "default"
    """The alias in DATABASES whose transaction an enqueue belongs to: it is sent when that commits."""
    outbox: bool = False
    """Write what is enqueued into a table of that database first, so that nothing is lost between commit and send."""
    patience: Annotated[float, AtLeast(0)] = 0.0
    """How long an enqueue waits for a server that is away before it raises `StoreUnavailable`."""
    notify: bool = True
    """Wake an idle worker at once."""


class RedisBackend(Backend):
    """Keeps tasks in Redis or Valkey. An enqueue inside `atomic()` is sent when the transaction commits."""

    options_class = RedisBackendOptions
    settings: RedisBackendOptions

    @cached_property
    def store(self) -> CommittedStore:
        """The store on the server that OPTIONS name."""
        return self.store_for(self.alias)

    def store_for(self, alias: str) -> CommittedStore:
        """Return the store of another backend's records, kept on the same server."""
        settings = self.settings
        return CommittedStore(
            self.server,
            alias,
            prefix=settings.prefix,
            shards=settings.shards,
            database=settings.database,
            patience=settings.patience,
            has_outbox=settings.outbox,
        )

    @property
    def database(self) -> str | None:
        """The alias in DATABASES that has the outbox, if there is one."""
        return self.settings.database if self.settings.outbox else None

    @property
    def server(self) -> Server:
        """The server that OPTIONS or BACKROOM["REDIS_URL"] name."""
        return server_of(self.settings.address)

    def after_commit(self, work: Callable[[], None]) -> None:
        """Do `work` once the caller's transaction is committed; at once when there is none."""
        transaction.on_commit(work, using=self.settings.database, robust=True)

    def get_result(self, result_id: str) -> TaskResult[..., Any]:
        """Return a task's result; for one whose unique key was found to be taken at its commit, the holder's."""
        try:
            return super().get_result(result_id)
        except TaskResultDoesNotExist:
            if (holder := self.store.holder_of(str(result_id))) is None:
                raise
            return super().get_result(holder)

    def listener(self) -> Listener:
        """Return what hears that a task was enqueued."""
        return BellListener(self.store, self.clock) if self.settings.notify else Silence()

    def check(self, **kwargs: Any) -> Any:
        """Return what is wrong with this backend's settings, without connecting to the server."""
        from backroom.tasks.backends.redischecks import check_redis

        found = super().check(**kwargs)
        return found or check_redis(self)

    def check_server(self) -> Any:
        """Return what is wrong with the server. Connects to it; one that is away is no matter of settings."""
        from backroom.tasks.backends.redischecks import check_server

        return check_server(self)

    def server_moment(self) -> Moment:
        """Return what time it is by the server's clock."""
        seconds, microseconds = self.server.call("TIME")
        return int(seconds) * SECOND + int(microseconds)

    def examine_server(self) -> tuple[str, Any]:
        """Return what the server is and what is wrong with it; raise `RedisUnavailable` when it does not answer."""
        from backroom.tasks.backends.redischecks import examine

        return examine(self)
