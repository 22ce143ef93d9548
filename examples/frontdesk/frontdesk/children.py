"""Processes that `manage.py demo` starts beside itself, and ends."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

SITE: Final = Path(__file__).resolve().parents[1]
END_SECONDS: Final = 6.0
"""Time to end after being told to; then a process is killed."""

_libc = ctypes.CDLL(None)


class Ending(NamedTuple):
    """How a process is told to end, and how long it then has."""

    number: signal.Signals = signal.SIGTERM
    seconds: float = END_SECONDS


class Child:
    """One process. It ends with this one, however this one ends."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        endings: Sequence[Ending] = (Ending(),),
        env: Mapping[str, str] | None = None,
        keep: int | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._endings = endings
        self._env = env
        self._keep = keep
        self._process: subprocess.Popen[bytes] | None = None
        self._groups: list[int] = []

    def start(self) -> None:
        """Start the process; `keep` is a descriptor that it inherits."""
        last = self._endings[-1].number
        self._process = subprocess.Popen(
            self._command,
            cwd=SITE,
            env=None if self._env is None else os.environ | self._env,
            stdin=subprocess.DEVNULL,
            pass_fds=() if self._keep is None else (self._keep,),
            # A group of its own: Ctrl-C reaches the parent alone, which then ends the others once and in order.
            process_group=0,
            preexec_fn=lambda: _end_with_parent(last),  # noqa: PLW1509 - no thread has been started yet
        )
        self._groups.append(self._process.pid)

    def fate(self) -> str:
        """Return how the process ended, in words; empty while it lives."""
        status = None if self._process is None else self._process.poll()
        if status is None:
            return ""
        if status >= 0:
            return f"exit status {status}"
        return f"killed by {signal.Signals(-status).name}"

    def end(self) -> None:
        """Tell the process to end, and see to it that it does."""
        if self._process is None:
            return
        for ending in self._endings:
            self._process.send_signal(ending.number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(ending.seconds)
                break
        # What it started may have outlived it, or one that was in its place before.
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)
        self._process.wait()


class Restarts:
    """Counts how often a process had to be started again, and says when that is too often."""

    MOST: Final = 3
    SECONDS: Final = 10.0

    def __init__(self) -> None:
        self._at: list[float] = []

    def are_too_many(self) -> bool:
        """Note one more; tell whether there were too many of them within a short time."""
        now = time.monotonic()
        self._at = [*(at for at in self._at if now - at < self.SECONDS), now]
        return len(self._at) > self.MOST


def _end_with_parent(number: signal.Signals) -> None:
    """Have Linux end this process when its parent is killed; elsewhere it is the parent's to do."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        _libc.prctl(pr_set_pdeathsig, number)
