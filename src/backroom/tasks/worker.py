"""Run a worker: in this process, or a supervisor and its children, or again and again as the code changes."""

import signal
import threading
from dataclasses import dataclass

from backroom.tasks.board import Board, shared_memory
from backroom.tasks.process import ProcessSettings, WorkerProcess, new_worker_id
from backroom.tasks.queries import backend_of
from backroom.tasks.reload import run_reloading
from backroom.tasks.supervisor import Supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What `manage.py backroom worker` was asked for. Times are in seconds, sizes in bytes."""

    backend: str = "default"
    queues: tuple[str, ...] = ()
    """Empty: those of the backend's QUEUES, or every queue when it names none."""
    processes: int = 1
    threads: int = 4
    coroutines: int = 100
    grace: float = 20.0
    burst: bool = False
    in_process: bool = False
    max_tasks: int | None = None
    max_memory_growth: int | None = None
    reload: bool = False
    with_parent: int | None = None


def run(settings: WorkerSettings) -> int:
    """Work until told to stop, or until nothing is due with `burst`; return the exit status."""
    if settings.reload:
        return run_reloading(with_parent=settings.with_parent)
    backend = backend_of(settings.backend)
    backend.prepare()
    own = ProcessSettings(
        backend=settings.backend,
        queues=settings.queues or tuple(sorted(backend.queues)),
        threads=settings.threads,
        coroutines=settings.coroutines,
        grace=settings.grace,
        is_burst=settings.burst,
        max_tasks=settings.max_tasks,
        max_memory_growth=settings.max_memory_growth,
        parent=None,
    )
    if settings.in_process:
        return _run_here(own)
    return Supervisor(own, settings.processes, with_parent=settings.with_parent).run()


def _run_here(settings: ProcessSettings) -> int:
    board = Board(shared_memory(settings.threads + settings.coroutines))
    worker = WorkerProcess(settings, new_worker_id(), board)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda _number, _frame: worker.stop())
    return worker.run()
