"""The life of a Celery worker, as far as our tasks need to know it: told by Celery's signals, one engine a process.

In a prefork worker every child has an engine of its own, and the parent none: it holds no connection while it forks.
In the other pools the one process has it.
"""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Sequence
from functools import cache
from types import FrameType
from typing import Any, Final

from celery import current_app, signals
from django.tasks import task_backends

from backroom.celery.places import Place, end_overdue, make_places
from backroom.celery.runner import Runner
from backroom.celery.upkeep import Upkeep
from backroom.errors import BackroomError
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.board import Board, shared_memory
from backroom.tasks.leases import TICK
from backroom.tasks.queries import backend_of
from backroom.tasks.rounds import Rounds

logger = logging.getLogger("backroom.celery")

FAREWELL: Final = 3.0
"""Seconds that a child which is told to end takes to hand back what it runs."""
LEAST_PLACES: Final = 64
"""Attempts at once for which a process of threads has room, if it has fewer threads than that."""
FORKING: Final = ("prefork", "processes")
UNSUPPORTED: Final = ("gevent", "eventlet")


class UnsupportedPool(BackroomError):
    """Celery runs with a pool in which no attempt can be stopped."""


class Engine:
    """Runs tasks of every backend on one Celery app, in this process."""

    def __init__(self, token: str, place: Place | None, *, threads: int) -> None:
        self.pid = os.getpid()
        self._token = token
        self._place = place
        places = 1 if place else max(threads, LEAST_PLACES)
        self._board = place.board if place else Board(shared_memory(places))
        self._free = list(range(places))
        self._threads = 1 if place else threads
        self._leftover = place.take() if place else None
        self._runners: dict[str, Runner] = {}
        self._upkeeps: list[Upkeep] = []
        self._lock = threading.Lock()
        self._is_ending = False
        self._is_handed_over = False
        self._before: Any = None
        self._overrun = Rounds("overrun", self._give_up_overdue, seconds=lambda: TICK)
        if place is None:
            self._overrun.start()

    def start(self) -> None:
        """Serve the backends whose queues this worker consumes."""
        for alias, queues in served(current_app).items():
            self._runner(alias, queues)

    def stop(self) -> None:
        """Hand back what runs, and take leave."""
        if self._place is None:
            self._overrun.stop()
        for upkeep in self._upkeeps:
            upkeep.stop()
        for runner in self._runners.values():
            with contextlib.suppress(Exception):
                # A store that is away finds out by itself: leases run out, silent workers are taken for gone.
                runner.stop()
        if self._place:
            self._place.leave()

    def run(self, alias: str, task_id: str) -> None:
        """Run a task in this thread."""
        self._listen_for_the_end()
        place = self._free.pop()
        try:
            self._runner(alias, ()).run(task_id, place)
        finally:
            self._free.append(place)
        if self._is_ending:
            # The exit that the signal asked for was taken for the task's own.
            raise SystemExit

    def _runner(self, alias: str, queues: tuple[str, ...]) -> Runner:
        with self._lock:
            if alias not in self._runners:
                self._runners[alias] = self._begin(alias, queues)
            return self._runners[alias]

    def _begin(self, alias: str, queues: tuple[str, ...]) -> Runner:
        backend = backend_of(alias)
        if not isinstance(backend, CeleryBackend):
            msg = f"TASKS[{alias!r}] is no CeleryBackend here. Start Celery's workers with the settings of the site."
            raise BackroomError(msg)
        worker_id = worker_id_of(self.pid, self._token)
        runner = Runner(backend, worker_id, self._board, threads=self._threads, queues=queues)
        upkeep = Upkeep(backend, worker_id, runner.judge)
        if self._leftover:
            upkeep.settle_later(worker_id_of(self._leftover.pid, self._token), self._leftover)
        runner.start()
        upkeep.start()
        self._upkeeps.append(upkeep)
        return runner

    def _give_up_overdue(self) -> None:
        for runner in list(self._runners.values()):
            runner.give_up_overdue()

    # A child is told to end by a signal that raises SystemExit in whatever it is at.

    def _listen_for_the_end(self) -> None:
        if self._place is None or self._before is not None:
            return
        from billiard.common import TERM_SIGNAL

        self._before = signal.signal(TERM_SIGNAL, self._on_end)

    def _on_end(self, number: int, frame: FrameType | None) -> None:
        self._is_ending = True
        self._say_farewell()
        if callable(self._before):
            self._before(number, frame)

    def hand_over(self) -> None:
        """Hand back what threads run that nothing can kill. Again and again is as good as once."""
        if not self._is_handed_over:
            self._is_handed_over = True
            self._say_farewell(is_interrupting=_worker.pool != "solo")

    def _say_farewell(self, *, is_interrupting: bool = False) -> None:
        for runner in list(self._runners.values()):
            runner.leave_off(is_interrupting=is_interrupting)
        # In a thread of its own: this one may be in the middle of a statement on its connection.
        farewell = threading.Thread(target=self.stop, name="backroom-farewell", daemon=True)
        farewell.start()
        farewell.join(FAREWELL)


class _Worker:
    """What the main process of a worker knows, and its children after it."""

    def __init__(self, pool: str = "", threads: int = 1) -> None:
        self.pid = os.getpid()
        self.token = os.urandom(3).hex()
        self.pool = pool
        self.threads = threads
        self.places: Sequence[Place] = make_places() if pool in FORKING else ()
        self.look: Rounds | None = None


_worker = _Worker()
_engine: Engine | None = None
_making = threading.Lock()


def engine() -> Engine:
    """Return the engine of this process; make it, where no signal has."""
    global _engine  # noqa: PLW0603 - the one engine of this process
    with _making:
        if _engine is None or _engine.pid != os.getpid():
            if _worker.pool in UNSUPPORTED:
                msg = f"Celery's pool {_worker.pool!r} cannot run Backroom's tasks. Use --pool prefork or threads."
                raise UnsupportedPool(msg)
            _engine = Engine(_worker.token, _own_place(), threads=_worker.threads)
        return _engine


def hand_over() -> bool:
    """Hand back what this process runs, where no pool can end it; tell whether that is so here."""
    if _worker.pool in FORKING:
        return False
    if _engine is not None and _engine.pid == os.getpid():
        _engine.hand_over()
    return True


def worker_id_of(pid: int, token: str) -> str:
    """Return the id of a process of this worker, which its successor can work out."""
    return f"{socket.gethostname().replace(' ', '-')[:40]}:{pid}:{token}"


def served(app: Any) -> dict[str, tuple[str, ...]]:
    """Return the backends whose tasks a worker of this app gets, and which of their queues; none means all."""
    app = app._get_current_object()  # noqa: SLF001 - what Celery itself calls to see through its proxy
    consumed = set(app.amqp.queues.consume_from)
    aliases = {}
    for alias in task_backends.settings:
        backend = task_backends[alias]
        if isinstance(backend, CeleryBackend) and backend.app is app:
            names = backend.queues or {*backend.settings.queue_map, ""}
            heard = {name for name in names if backend.transport.queue_of(name) in consumed}
            if heard:
                is_all = heard == names or "" in heard
                aliases[alias] = () if is_all else tuple(sorted(heard))
    return aliases


@cache
def follow_signals() -> None:
    """Connect to Celery's signals, once."""
    for told, receiver in (
        (signals.worker_init, _on_worker_init),
        (signals.worker_process_init, _on_process_init),
        (signals.worker_process_shutdown, _on_process_shutdown),
        (signals.worker_ready, _on_worker_ready),
        (signals.worker_shutting_down, _on_worker_shutting_down),
        (signals.worker_shutdown, _on_worker_shutdown),
    ):
        told.connect(receiver, weak=False)


def _on_worker_init(sender: Any, **_kwargs: Any) -> None:
    global _worker  # noqa: PLW0603 - this process is a worker from now on
    # An alias, a class, or the path of one: the name of its module tells.
    path = sender.pool_cls if isinstance(sender.pool_cls, str) else sender.pool_cls.__module__
    pool = path.rpartition(".")[2].partition(":")[0]
    # "auto" is worked out later than this.
    asked = sender.concurrency if isinstance(sender.concurrency, int) else os.cpu_count() or 1
    _worker = _Worker(pool, 1 if pool == "solo" else asked)
    from backroom.celery.requests import GivingBack

    sender.app.steps["consumer"].add(GivingBack)


def _on_process_init(**_kwargs: Any) -> None:
    engine().start()


def _on_process_shutdown(**_kwargs: Any) -> None:
    if _engine is not None and _engine.pid == os.getpid():
        _engine.stop()


def _on_worker_ready(sender: Any, **_kwargs: Any) -> None:
    if _worker.places:
        pool = sender.pool
        _worker.look = Rounds(
            "overrun", lambda: end_overdue(_worker.places, lambda: _children(pool)), seconds=lambda: TICK
        )
        _worker.look.start()
    elif _worker.pool in UNSUPPORTED:
        logger.error("action=unsupported_pool pool=%s: use prefork or threads", _worker.pool)
    elif _worker.pool != "solo":
        engine().start()


def _on_worker_shutting_down(how: str = "", **_kwargs: Any) -> None:
    # In a warm shutdown the children work on, and some of them overrun their limits.
    if how == "Cold" and _worker.look is not None:
        _worker.look.stop()


def _on_worker_shutdown(**_kwargs: Any) -> None:
    if _worker.look is not None and _worker.pid == os.getpid():
        _worker.look.stop()
    if _engine is not None and _engine.pid == os.getpid():
        _engine.stop()


def _children(pool: Any) -> set[int]:
    try:
        return set(pool.info["processes"])
    except AttributeError:
        # The pool has been closed.
        return set()


def _own_place() -> Place | None:
    """Return the place of this child, if it is one."""
    if os.getpid() == _worker.pid or not _worker.places:
        return None
    from billiard.process import current_process

    index = getattr(current_process(), "index", None)
    return _worker.places[index] if index is not None and index < len(_worker.places) else None
