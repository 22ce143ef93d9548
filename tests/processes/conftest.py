"""A project whose worker is a real process, and short words for what the tests ask of its tasks."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.services.project import Process, Project, wait_until

TABLE = "backroom_tasks_taskrecord"


class Site:
    """A project, its tasks and the files that they write."""

    def __init__(self, project: Project, folder: Path) -> None:
        self.project = project
        self.effects = folder / "effects.txt"
        self.effects.touch()
        self.gate = folder / "gate"

    def enqueue(self, name: str, *args: Any, using: str = "", many: int = 0) -> list[str]:
        """Enqueue a task of `tests.processes.jobs` and return its ids; `many` calls get their number appended."""
        calls = f"[[*{args!r}, number] for number in range({many})]" if many else f"[{list(args)!r}]"
        code = (
            "from backroom.tasks import enqueue_many\n"
            "from tests.processes import jobs\n"
            f"task = jobs.{name}{f'.using({using})' if using else ''}\n"
            f"print([result.id for result in enqueue_many(task, [(args, {{}}) for args in {calls}])])"
        )
        ids: list[str] = json.loads(self.project.python(code).replace("'", '"'))
        return ids

    def worker(self, *arguments: str) -> Process:
        """Start a worker."""
        return self.project.manage("backroom", "worker", *arguments)

    def states(self) -> Counter[str]:
        """Count the tasks in each state."""
        return Counter(dict(self.project.query(f"SELECT state, count(*) FROM {TABLE} GROUP BY state")))

    def column(self, name: str, task_id: str) -> Any:
        """Return one column of one task."""
        return self.project.query(f"SELECT {name} FROM {TABLE} WHERE id = '{task_id}'")[0][0]

    def lines(self) -> list[str]:
        """Return the effects so far."""
        return self.effects.read_text().splitlines()

    def wait_for_states(self, seconds: float = 60, **counts: int) -> None:
        """Wait until so many tasks are in these states."""
        wait_until(
            lambda: all(self.states()[state] == count for state, count in counts.items()),
            seconds=seconds,
            what=lambda: f"{counts}, it is {dict(self.states())}; effects: {self.lines()[-5:]}",
        )

    def wait_for_line(self, start: str, seconds: float = 60) -> str:
        """Wait until an effect begins so, and return it."""
        wait_until(
            lambda: any(line.startswith(start) for line in self.lines()),
            seconds=seconds,
            what=lambda: f"{start!r} among {self.lines()}",
        )
        return next(line for line in self.lines() if line.startswith(start))

    def open_gate(self) -> None:
        """Let the gated tasks go on."""
        self.gate.touch()


def children(process: Process) -> list[psutil.Process]:
    """Return the worker processes of a supervisor."""
    return psutil.Process(process.pid).children()


def stop(process: Process, seconds: float = 60) -> int:
    """Ask a worker to finish and return its exit status."""
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=seconds)


def is_running(pid: int) -> bool:
    """Tell whether a process lives and is no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def make_site(make_project: Callable[..., Project], tmp_path: Path) -> Callable[..., Site]:
    """Return a function that makes a site; OPTIONS of the backend go in as keywords."""

    def make(database: str = "sqlite", **options: Any) -> Site:
        folder = tmp_path / f"site-{os.urandom(3).hex()}"
        folder.mkdir()
        settings = f"TASKS['default']['OPTIONS'] = {options!r}"
        return Site(make_project(database, settings=settings), folder)

    return make


@pytest.fixture(params=["sqlite", "postgres"])
def site(request: pytest.FixtureRequest, make_site: Callable[..., Site]) -> Site:
    """A site on each database."""
    return make_site(request.param)
