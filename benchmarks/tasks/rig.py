"""One repetition: a system on a fresh store, its errands and its worker, each in a process of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.tasks.processes import cpu_seconds, end_with_parent, tree
from benchmarks.tasks.stores import Store, Stores
from benchmarks.tasks.systems.base import STORE_VARIABLE, SYSTEM_VARIABLE, System
from benchmarks.tasks.work import LOG_VARIABLE, Start, count_starts, read_starts

ROOT = Path(__file__).parents[2]
COUNTED = Path(__file__).parent / "counted"
PATIENCE = 180.0
"""Seconds after which a step that should be over is given up."""
ERRAND_SECONDS = 1_800.0
"""The same for an errand; filling a store to a million is one."""


class Failed(Exception):
    """A system did not do what was asked; the text says what it printed."""


@dataclass
class Rig:
    """What a metric works with."""

    system: System
    store: Store
    server: int
    folder: Path
    environment: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.folder.mkdir()
        self.environment = {
            **os.environ,
            "PYTHONPATH": self._path(),
            SYSTEM_VARIABLE: self.system.label,
            STORE_VARIABLE: self.store.location,
            LOG_VARIABLE: str(self.log),
            "BENCH_SERVER": str(self.server),
            **self.system.environment(),
        }

    def _path(self, *first: Path) -> str:
        library = [self.system.library] if self.system.library else []
        return os.pathsep.join(map(str, [*first, *library, ROOT]))

    @property
    def log(self) -> Path:
        """Where the tasks write that they began."""
        return self.folder / "starts"

    @property
    def starts(self) -> list[Start]:
        """What the tasks logged so far."""
        return read_starts(self.log)

    @property
    def started(self) -> int:
        """How many tasks have begun so far."""
        return count_starts(self.log)

    def errand(self, verb: str, *arguments: float | str) -> Any:
        """Have the system do something in a process of its own; return its answer."""
        command = [sys.executable, "-m", "benchmarks.tasks.agent", verb, *map(str, arguments)]
        try:
            done = subprocess.run(
                command,
                env=self.environment,
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=False,
                timeout=ERRAND_SECONDS,
                preexec_fn=end_with_parent,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.system.label} {verb}: not done after {ERRAND_SECONDS:g} s") from None
        if done.returncode:
            raise Failed(f"{self.system.label} {verb}: {done.stderr[-2_000:]}")
        return json.loads(done.stdout)

    @contextmanager
    def worker(self, command: list[str] | None = None, *, counts: Path | None = None) -> Iterator["Worker"]:
        """Run one worker process, or what the command says; stop it politely at the end."""
        environment = dict(self.environment)
        if counts:
            counts.mkdir()
            environment["BENCH_COUNTS"] = str(counts)
            environment["PYTHONPATH"] = self._path(COUNTED)
        output = self.folder / "worker.log"
        with output.open("wb") as log:
            process = subprocess.Popen(
                command or self.system.worker(),
                env=environment,
                cwd=ROOT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent,  # noqa: PLW1509 - the driver has one thread
            )
        worker = Worker(self, process, output)
        try:
            yield worker
        finally:
            worker.stop()

    def finished(self, total: int) -> int:
        """Ask the store how many of so many tasks have ended."""
        return self.store.count(self.system.finished, total)


@dataclass
class Worker:
    """A worker that runs."""

    rig: Rig
    process: "subprocess.Popen[bytes]"
    output: Path

    @property
    def pids(self) -> list[int]:
        """The process and its descendants."""
        return tree(self.process.pid)

    def cpu(self) -> float:
        """Return the processor time of the worker's tree so far."""
        return cpu_seconds(self.process.pid)

    def wait(self, until: Callable[[], bool], what: str, *, every: float = 0.002, patience: float = PATIENCE) -> None:
        """Wait for something to become true; give up when the worker ends or patience does."""
        deadline = time.monotonic() + patience
        while not until():
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = self.output.read_text(errors="replace")[-2_000:]
                state = "still running" if self.process.poll() is None else f"ended with {self.process.returncode}"
                raise Failed(f"{self.rig.system.label} never {what} ({self.rig.started} started, {state}): {said}")
            time.sleep(every)

    def stop(self) -> None:
        """Ask the worker to end, and see to it."""
        if self.process.poll() is None:
            self.process.send_signal(self.rig.system.stop_signal)
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        # Its session is its own: whatever is left in it was started by it.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def rig(system: System, stores: Stores, template: str, directory: Path) -> Iterator[Rig]:
    """Lay out a fresh copy of a template for one repetition."""
    folder = directory / "run"
    shutil.rmtree(folder, ignore_errors=True)
    with stores.copy(template) as store:
        yield Rig(system, store, stores.server, folder)
