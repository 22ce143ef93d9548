"""Run the worker in a process of its own and start it anew whenever the project's code changes."""

import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from django.utils import autoreload

logger = logging.getLogger("backroom.worker")

TICK: Final = 0.5
"""Seconds between two looks at the files."""

type Snapshot = dict[Path, float]


def run_reloading(*, with_parent: int | None = None) -> int:
    """Run this very command without `--reload`, again after each change; return its status once told to stop."""
    return _Reloader(with_parent).run()


class _Reloader:
    def __init__(self, with_parent: int | None) -> None:
        self._with_parent = with_parent
        self._stops = 0
        self._told = 0
        self._child: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        while not self._stops:
            files = _snapshot()
            # A group of its own: Ctrl-C reaches it through this process alone, and once.
            self._child = subprocess.Popen(_command(), process_group=0)  # noqa: S603 - this command itself
            self._watch(files)
        return self._end()

    def _watch(self, files: Snapshot) -> None:
        """Return when the files have changed, or when it is time to stop."""
        while not self._stops:
            time.sleep(TICK)
            if self._with_parent is not None and os.getppid() != self._with_parent:
                self._stops += 1
            if changed := sorted(str(path) for path in files if _snapshot_of(path) != files[path]):
                logger.info("action=reloading changed=%s", changed[0])
                self._end()
                return
            if self._was_killed():
                return

    def _was_killed(self) -> bool:
        """Tell whether the worker is to be started again: killed, not ended by an error that a change must mend."""
        if self._child is None or self._child.poll() is None:
            return False
        status = self._child.returncode
        self._child = None
        if status < 0:
            logger.warning("action=worker_killed signal=%d: starting it again", -status)
            return True
        logger.warning("action=worker_ended status=%d: waiting for a change", status)
        return False

    def _end(self) -> int:
        if self._child is None:
            return 0
        self._child.terminate()
        told = self._stops
        while True:
            try:
                return self._child.wait(timeout=TICK)
            except subprocess.TimeoutExpired:
                if self._stops > told:
                    told = self._stops
                    self._child.terminate()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stops += 1


def _command() -> list[str]:
    arguments = [argument for argument in sys.argv[1:] if argument != "--reload"]
    main = sys.modules["__main__"].__spec__
    program = ["-m", main.parent] if main is not None and main.parent else [sys.argv[0]]
    # The child watches this process: it must end with it, however it ends.
    while "--with-parent" in arguments:
        place = arguments.index("--with-parent")
        del arguments[place : place + 2]
    arguments = [argument for argument in arguments if not argument.startswith("--with-parent=")]
    return [sys.executable, *program, *arguments, "--with-parent", str(os.getpid())]


def _snapshot() -> Snapshot:
    return {path: _snapshot_of(path) for path in autoreload.iter_all_python_module_files()}


def _snapshot_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
