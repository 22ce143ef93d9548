"""What the kernel says of processes: trees, processor time, memory; read from /proc, so Linux only."""

import ctypes
import os
import signal
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf("SC_CLK_TCK")
_libc = ctypes.CDLL(None)  # loaded here: between fork and exec nothing may be


class Memory(NamedTuple):
    """Megabytes. Summed over processes, RSS counts a shared page once for each, PSS once in all."""

    rss: float
    pss: float
    processes: int


class _Stat(NamedTuple):
    parent: int
    ticks: int


def tree(root: int) -> list[int]:
    """Return a process and all its living descendants."""
    children: dict[int, list[int]] = {}
    for pid, stat in _every_process().items():
        children.setdefault(stat.parent, []).append(pid)
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def cpu_seconds(root: int) -> float:
    """Return user and system time of a process tree, with that of children that ended and were waited for.

    Differences are sound: a child's time moves to its parent when it ends, and stays within the tree.
    """
    if not root:
        return 0.0
    stats = _every_process()
    return sum(stats[pid].ticks for pid in tree(root) if pid in stats) / TICKS


def end_with_parent() -> None:
    """Have this process told to end when its parent does, however that ends. For `preexec_fn`."""
    # A shell starts what it runs in the background with SIGINT ignored, and that is inherited; one system stops by it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    pr_set_pdeathsig = 1
    _libc.prctl(pr_set_pdeathsig, signal.SIGTERM)


def memory(pids: list[int]) -> Memory:
    """Return the memory of some processes together."""
    rss = pss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size = line.split()[:2]
            rss += int(size) if name == "Rss:" else 0
            pss += int(size) if name == "Pss:" else 0
    return Memory(rss / 1024, pss / 1024, len(pids))


def _every_process() -> dict[int, _Stat]:
    stats = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                text = Path(entry.path, "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended meanwhile
            # The name, in brackets, may hold anything; what follows it is numbers.
            fields = text.rpartition(")")[2].split()
            stats[int(entry.name)] = _Stat(int(fields[1]), sum(map(int, fields[11:15])))
    return stats
