"""Start worker processes, replace those that die or wear out, end those that cannot end an attempt themselves.

Runs one thread, holds no database connection while it forks, for a connection must not cross a fork, and runs none of
the project's tasks and receivers, which might leave either behind.
"""

import codecs
import contextlib
import gc
import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Final

from django import setup
from django.apps import apps
from django.db import connections

from backroom.tasks.board import Board, Memory, shared_memory
from backroom.tasks.clerk import PATIENCE
from backroom.tasks.process import BURST_PATIENCE, DONE, GAVE_UP, RECYCLE, ProcessSettings, WorkerProcess, new_worker_id
from backroom.tasks.queries import backend_of
from backroom.tasks.settling import AWAY, SETTLED, Death, run_settling

logger = logging.getLogger("backroom.worker")

TICK: Final = 0.1
"""Seconds between two looks at the children's boards."""
EXTRA: Final = 10.0
"""Seconds beyond the grace period after which a child that does not end is killed."""
QUICK: Final = 2.0
"""A child that dies within so many seconds of its start is replaced more slowly each time."""
SLOWEST: Final = 10.0
SETTLE: Final = 30.0
"""Seconds after which a process that settles a death is killed: a receiver keeps it, for the store was told first.
A worker that was told to stop gives it no longer than it gives its own receivers."""
SETTLE_AGAIN: Final = 1.0
"""Seconds until the next try when the store was away."""
AT_ONCE: Final = signal.SIGUSR1
"""Tells a child not to finish what runs."""
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, AT_ONCE)

# Forked children share the parent's pages; where fork is unsafe or missing they start afresh.
_context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


class Child:
    """One worker process and what the supervisor knows of it."""

    def __init__(self, settings: ProcessSettings) -> None:
        self.worker_id = new_worker_id()
        self.memory = shared_memory(settings.threads + settings.coroutines)
        self.board = Board(self.memory)
        self.killed_for: frozenset[str] = frozenset()
        self.is_given_up = False
        self.started_at = time.monotonic()
        self.process: Any = _context.Process(
            target=run_child, args=(settings, self.worker_id, self.memory), name="backroom-worker"
        )
        # A signal that comes before the child has handlers of its own would be taken by its copy of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def death(self) -> Death:
        """Return what is known of its death."""
        running = frozenset(post.task_id for post in self.board.posts())
        return Death(self.worker_id, running, self.killed_for, self.is_given_up)


class Settlement:
    """The settling of one death, in a process of its own, again while the store is away."""

    def __init__(self, backend: str, death: Death) -> None:
        self._backend = backend
        self._death = death
        self._process: Any = None
        self._next_at = 0.0
        self._begun_at = 0.0
        self._made_at = time.monotonic()

    @property
    def age(self) -> float:
        """For how many seconds it has gone on."""
        return time.monotonic() - self._made_at

    def is_over(self, *, is_stopping: bool) -> bool:
        """Go on with it; tell whether there is nothing more to do."""
        if self._process is None:
            if time.monotonic() >= self._next_at:
                self._begin()
            return False
        if self._process.is_alive():
            if time.monotonic() - self._begun_at > (PATIENCE if is_stopping else SETTLE):
                self._process.kill()
            return False
        self._process.join()
        status, self._process = self._process.exitcode, None
        if status == AWAY and not is_stopping:
            self._next_at = time.monotonic() + SETTLE_AGAIN
            return False
        if status not in {SETTLED, AWAY}:
            logger.error("action=settle_failed worker_id=%s status=%s", self._death.worker_id, status)
        # Told to stop, nobody waits for a store that is away: the leases will say it too.
        return True

    def _begin(self) -> None:
        close_everything()
        arguments = (self._backend, self._death)
        self._process = _context.Process(target=run_settling, args=arguments, name="backroom-settling")
        self._process.start()
        self._begun_at = time.monotonic()


class Supervisor:
    """Keeps a number of worker processes going until it is told to stop."""

    def __init__(self, settings: ProcessSettings, processes: int, *, with_parent: int | None = None) -> None:
        self.settings = settings._replace(parent=os.getpid())
        self._wanted = processes
        self._with_parent = with_parent
        self._children: list[Child] = []
        self._settlements: list[Settlement] = []
        self._stops = 0
        self._told = 0
        self._kill_at = float("inf")
        self._start_after = 0.0
        self._quick_deaths = 0
        self._status = DONE

    def run(self) -> int:
        """Supervise; return the exit status."""
        warm_up(self.settings.backend)
        with self._signals():
            self._start_missing()
            while self._children or self._settlements or (self._wanted and not self._stops):
                self._sleep()
                self._look_after_parent()
                self._tell()
                self._end_overdue()
                self._bury()
                self._settle_dead()
                self._start_missing()
        return self._status

    def stop(self) -> None:
        """Let the children finish what runs; called again, let them hand back at once."""
        self._stops += 1

    def _sleep(self) -> None:
        if self._children:
            wait([child.process.sentinel for child in self._children], timeout=TICK)
        else:
            time.sleep(TICK)

    def _start_missing(self) -> None:
        if self._stops or time.monotonic() < self._start_after:
            return
        if self.settings.is_burst and self._settlements:
            # What they put back is due too, and a process that finds nothing before they have done so would end.
            return
        while len(self._children) < self._wanted:
            close_everything()
            gc.collect()
            gc.freeze()
            self._children.append(Child(self.settings))

    def _bury(self) -> None:
        for child in [child for child in self._children if not child.process.is_alive()]:
            self._children.remove(child)
            child.process.join()
            status = child.process.exitcode
            if status == GAVE_UP:
                self._status = GAVE_UP
            if status not in {DONE, RECYCLE, GAVE_UP}:
                logger.error("action=worker_died worker_id=%s status=%s", child.worker_id, status)
                self._slow_down(child)
                self._settlements.append(Settlement(self.settings.backend, child.death()))
            elif self.settings.is_burst and status != RECYCLE:
                self._wanted -= 1

    def _slow_down(self, child: Child) -> None:
        """Do not start processes as fast as they can die."""
        if time.monotonic() - child.started_at > QUICK:
            self._quick_deaths = 0
            return
        self._quick_deaths += 1
        self._start_after = time.monotonic() + min(SLOWEST, 0.1 * 2**self._quick_deaths)

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if (overdue := child.board.overdue(now)) and not child.killed_for:
                child.killed_for = overdue
                logger.warning("action=worker_killed worker_id=%s tasks=%s", child.worker_id, ",".join(sorted(overdue)))
                child.process.kill()
        if now > self._kill_at:
            for child in self._children:
                child.is_given_up = True
                child.process.kill()

    def _settle_dead(self) -> None:
        self._settlements = [
            each
            for each in self._settlements
            if not each.is_over(is_stopping=bool(self._stops) or self._is_stale(each))
        ]

    def _is_stale(self, settlement: Settlement) -> bool:
        """Tell whether a burst has waited long enough for a store to settle a death in; its next process will see."""
        return self.settings.is_burst and settlement.age > BURST_PATIENCE

    def _look_after_parent(self) -> None:
        if self._with_parent is not None and not self._stops and not _is_alive(self._with_parent):
            self.stop()

    def _tell(self) -> None:
        """Pass on what this process was told."""
        while self._told < self._stops:
            self._told += 1
            for child in self._children:
                os.kill(child.process.pid, signal.SIGTERM if self._told == 1 else AT_ONCE)
            if self._told == 1:
                self._kill_at = time.monotonic() + self.settings.grace + EXTRA
                # Said when they have been told: whoever reads it knows that no task is begun from here on.
                logger.info("action=stopping grace=%g", self.settings.grace)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: FrameType | None) -> None:
            self.stop()

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def warm_up(backend: str) -> None:
    """Do what each child would do first, short of a connection: the pages that this writes are then shared by all."""
    found = backend_of(backend)
    _ = found.store, found.attempts, found.listener()
    # What a host's name is encoded by when the first connection is made.
    codecs.lookup("idna")


def run_child(settings: ProcessSettings, worker_id: str, memory: Memory) -> None:
    """Be a worker process."""
    status = 1
    try:
        status = _run_child(settings, worker_id, memory)
    except BaseException:
        logger.exception("action=worker_failed worker_id=%s", worker_id)
    finally:
        logging.shutdown()
        # Threads that are still busy were given up on: their tasks have been handed back, or will be.
        os._exit(status)


def _run_child(settings: ProcessSettings, worker_id: str, memory: Memory) -> int:
    if not apps.ready:
        setup()
    gc.freeze()
    worker = WorkerProcess(settings, worker_id, Board(memory))
    # Ctrl-C, or a service manager's TERM, may reach this process too: it means the same once as twice here, and the
    # supervisor alone says when to stop at once.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: worker.finish())
    signal.signal(AT_ONCE, lambda _number, _frame: worker.hand_back())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    return worker.run()


def close_everything() -> None:
    """Close this process's connections and pools, so that no child inherits one."""
    connections.close_all()
    for connection in connections.all(initialized_only=True):
        if hasattr(connection, "close_pool"):
            connection.close_pool()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
