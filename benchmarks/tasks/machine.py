"""The machine under the measurement: what it is, how busy others keep it, how fast it happens to be now."""

import os
import platform
import sqlite3
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.tasks.processes import TICKS, cpu_seconds

QUIET = 0.08
"""Share of all cores that others may use before a run begins."""


class Reading(NamedTuple):
    """Processor time so far: of everyone, of the benchmark, stolen by the host."""

    at: float
    busy: float
    own: float
    stolen: float


def read() -> Reading:
    """Return the processor time used since boot."""
    user, nice, system, _idle, _wait, irq, softirq, steal = (
        int(field) / TICKS for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]
    )
    return Reading(time.monotonic(), user + nice + system + irq + softirq, cpu_seconds(os.getpid()), steal)


def foreign_share(since: Reading) -> float:
    """Return the share of the machine that processes outside the benchmark used, the host's theft included."""
    now = read()
    foreign = (now.busy - since.busy) - (now.own - since.own) + (now.stolen - since.stolen)
    return max(0.0, foreign / (now.at - since.at) / (os.cpu_count() or 1))


def wait_until_quiet(patience: float) -> None:
    """Return when others use next to nothing, or after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        since = read()
        time.sleep(0.5)
        if foreign_share(since) <= QUIET:
            return


def calibrate(directory: str) -> dict[str, float]:
    """Return how fast the machine is now: a loop of Python, and a commit that reaches the disk."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        sum(number & 7 for number in range(100_000))
        best = min(best, time.perf_counter() - start)
    return {"loop_ms": best * 1e3, "fsync_us": _fsync_seconds(directory) * 1e6}


def describe(directory: str) -> dict[str, str]:
    """Return what a reader needs to know of the machine."""
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown").split(":")[-1]
    total = next(line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")).split()[1]
    return {
        "cores": str(os.cpu_count()),
        "cpu": cpu.strip(),
        "memory": f"{int(total) / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "filesystem": _filesystem(directory),
        "python": sys.version.split()[0],
        "sqlite": sqlite3.sqlite_version,
    }


def _fsync_seconds(directory: str) -> float:
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        took = []
        for _ in range(20):
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - start)
    return sorted(took)[len(took) // 2]


def _filesystem(directory: str) -> str:
    mounts = [line.split()[1:3] for line in _lines("/proc/mounts")]
    where = os.path.realpath(directory)
    inside = [(point, kind) for point, kind in mounts if os.path.commonpath([point, where]) == point]
    return max(inside, key=lambda mount: len(mount[0]))[1]


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
