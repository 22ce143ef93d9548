"""Start worker processes, replace those that die or wear out, end those that cannot end an attempt themselves.

Runs one thread and holds no database connection while it forks: a connection must not cross a fork.
"""

import contextlib
import gc
import logging
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import wait
from types import FrameType
from typing import Any, Final

from django import setup
from django.apps import apps
from django.db import DatabaseError, InterfaceError, connections

from backroom.tasks.backends.base import Backend
from backroom.tasks.board import Board, Memory, shared_memory
from backroom.tasks.exceptions import StoreUnavailable, TaskTimeout
from backroom.tasks.execute import outcome_of
from backroom.tasks.maintenance import move
from backroom.tasks.policy import decide
from backroom.tasks.process import DONE, RECYCLE, ProcessSettings, WorkerProcess, new_worker_id
from backroom.tasks.queries import backend_of
from backroom.tasks.records import RUNNING, Cancelled, Claim, Crashed, Outcome, Query, Released, Transition
from backroom.tasks.resolve import rules_of

logger = logging.getLogger("backroom.worker")

TICK: Final = 0.1
"""Seconds between two looks at the children's boards."""
EXTRA: Final = 10.0
"""Seconds beyond the grace period after which a child that does not end is killed."""
QUICK: Final = 2.0
"""A child that dies within so many seconds of its start is replaced more slowly each time."""
SLOWEST: Final = 10.0
PAGE: Final = 500
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

    def outcome_for(self, claim: Claim, running: frozenset[str]) -> Outcome:
        """Say what the end of this process means for a claim that it held."""
        if claim.id in self.killed_for:
            return Cancelled() if claim.cancel_requested else outcome_of(TaskTimeout(_HARD_LIMIT))
        if self.killed_for or self.is_given_up or claim.id not in running:
            # A neighbour's fault, or never started: the task has done nothing wrong.
            return Released()
        return Crashed()


_HARD_LIMIT = "The attempt went on after TaskTimeout, so its process was ended."


class Supervisor:
    """Keeps a number of worker processes going until it is told to stop."""

    def __init__(self, settings: ProcessSettings, processes: int, *, with_parent: int | None = None) -> None:
        self.settings = settings._replace(parent=os.getpid())
        self.backend: Backend = backend_of(settings.backend)
        self._wanted = processes
        self._with_parent = with_parent
        self._children: list[Child] = []
        self._dead: list[Child] = []
        self._stops = 0
        self._told = 0
        self._kill_at = float("inf")
        self._start_after = 0.0
        self._settle_after = 0.0
        self._quick_deaths = 0

    def run(self) -> int:
        """Supervise; return the exit status."""
        with self._signals():
            self._start_missing()
            while self._children or self._dead or (self._wanted and not self._stops):
                self._sleep()
                self._look_after_parent()
                self._tell()
                self._end_overdue()
                self._bury()
                self._start_missing()
                # Last: the store may keep it waiting.
                self._settle_dead()
        return DONE

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
            if status not in {DONE, RECYCLE}:
                logger.error("action=worker_died worker_id=%s status=%s", child.worker_id, status)
                self._slow_down(child)
                self._dead.append(child)
            elif self.settings.is_burst and status == DONE:
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
        """Decide the fate of what dead processes held, so that it starts elsewhere now and not after its lease."""
        if not self._dead or time.monotonic() < self._settle_after:
            return
        child = self._dead.pop(0)
        try:
            self._settle(child)
        except (DatabaseError, InterfaceError, StoreUnavailable):
            # The store is away. Told to stop, this process does not wait for it: the leases will say it too.
            if not self._stops:
                self._dead.append(child)
                self._settle_after = time.monotonic() + 1.0
        except BaseException:
            logger.exception("action=settle_failed worker_id=%s", child.worker_id)
        finally:
            close_everything()

    def _settle(self, child: Child) -> None:
        running = frozenset(post.task_id for post in child.board.posts())
        query = Query(states=(RUNNING,), worker_id=child.worker_id)
        after = None
        while True:
            page = self.backend.store.find(query, after=after, limit=PAGE)
            move(self.backend, page.records, lambda claim: self._fate(claim, child, running))
            after = page.next_after
            if after is None:
                break
        self.backend.store.forget([child.worker_id])

    def _fate(self, claim: Claim, child: Child, running: frozenset[str]) -> Transition:
        outcome = child.outcome_for(claim, running)
        rules = rules_of(claim, self.backend.defaults)
        return decide(claim, outcome, rules=rules, now=self.backend.clock.now(), draw=random.random())  # noqa: S311 - jitter

    def _look_after_parent(self) -> None:
        if self._with_parent is not None and not self._stops and not _is_alive(self._with_parent):
            self.stop()

    def _tell(self) -> None:
        """Pass on what this process was told."""
        while self._told < self._stops:
            self._told += 1
            if self._told == 1:
                self._kill_at = time.monotonic() + self.settings.grace + EXTRA
                logger.info("action=stopping grace=%g", self.settings.grace)
            for child in self._children:
                os.kill(child.process.pid, signal.SIGTERM if self._told == 1 else AT_ONCE)

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
