"""What is measured, one function each: given a rig, return the figures of one repetition.

A metric knows neither the system nor the other rounds.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tasks.processes import cpu_seconds, memory
from benchmarks.tasks.rig import Failed, Rig, Worker
from benchmarks.tasks.stores import Stores
from benchmarks.tasks.systems.base import POSTGRESQL, REDIS, SQLITE, VALKEY

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything."""

    enqueue: int = 5_000
    bulk: int = 20_000
    bulk_call: int = 1_000
    drain: int = 10_000
    latency: int = 100
    rest: float = 1.5
    """Seconds between a worker's first tasks and the look at its memory."""
    idle: float = 2.0
    """Seconds for which it is watched doing nothing."""
    at_a_time: int = 8
    """Tasks that a worker can run at a time whose memory is compared."""
    filled: int = 400
    """Tasks that it has run by then, so that each of its processes has run some."""
    depths: tuple[int, ...] = (1_000, 1_000_000)
    at_depth: int = 2_000
    claims: int = 200
    counted: tuple[int, int] = (1_000, 6_000)

    @property
    def beside(self) -> int:
        """Tasks that a store of some depth holds besides, so that taking them leaves it that deep."""
        return max(self.at_depth, 10 + self.claims + 100 * (10 + self.claims // 10))


def enqueue(rig: Rig, sizes: Sizes) -> Figures:
    """Single enqueue calls a second."""
    return rig.errand("enqueue", sizes.enqueue)


def enqueue_many(rig: Rig, sizes: Sizes) -> Figures | None:
    """Tasks a second in calls of a thousand; None where there is no such call."""
    return rig.errand("enqueue_many", sizes.bulk, sizes.bulk_call)


def drain(rig: Rig, sizes: Sizes) -> Figures:
    """Tasks a second of one worker process, from the first task's start to the last result in the store."""
    empty = rig.store.size()
    rig.errand("fill", sizes.drain)
    rig.store.settle()
    waiting = rig.store.size()
    with rig.worker() as worker:
        worker.wait(lambda: rig.started > 0, "began")
        at_worker, at_server = worker.cpu(), cpu_seconds(rig.server)
        worker.wait(lambda: rig.started >= sizes.drain, "drained")
        worker.wait(lambda: rig.finished(sizes.drain) >= sizes.drain, "finished")
        end = time.time()
        at_worker, at_server = worker.cpu() - at_worker, cpu_seconds(rig.server) - at_server
        after = memory(worker.pids)
        kept = rig.store.size()
    seconds = end - _verify(rig, sizes.drain)
    sizes_of_store = {}
    if empty is not None and waiting is not None and kept is not None:
        sizes_of_store = {"waiting_bytes": (waiting - empty) / sizes.drain, "kept_bytes": (kept - empty) / sizes.drain}
    return {
        "rate": sizes.drain / seconds,
        "worker_us": at_worker / sizes.drain * 1e6,
        "server_us": at_server / sizes.drain * 1e6,
        "cpu_us": (at_worker + at_server) / sizes.drain * 1e6,
        "pss_after_mb": after.pss,
        **sizes_of_store,
    }


def latency(rig: Rig, sizes: Sizes) -> Figures:
    """Milliseconds from just before enqueue to the task's first line, and what the waiting worker costs."""
    warm = 20
    with rig.worker() as worker:
        rig.errand("trickle", 0, warm, 5, 10)
        worker.wait(lambda: rig.started >= warm, "warmed up")
        time.sleep(sizes.rest)
        executing = rig.starts[-1].pid
        idle = memory(worker.pids)
        alone = memory([executing])
        idle_cpu = _idle_share(worker, sizes.idle)
        sent = rig.errand("trickle", warm, sizes.latency, 30, 130)
        worker.wait(lambda: rig.started >= warm + sizes.latency, "picked up")
    began = {start.number: start.at for start in rig.starts}
    return {
        "ms": [(began[number] - call) * 1e3 for number, call, _ in sent],
        "call_ms": [(answer - call) * 1e3 for _, call, answer in sent],
        "tree_rss_mb": idle.rss,
        "tree_pss_mb": idle.pss,
        "processes": idle.processes,
        "worker_rss_mb": alone.rss,
        "worker_pss_mb": alone.pss,
        "idle_cpu_percent": idle_cpu * 100,
    }


def memory_of_many(rig: Rig, sizes: Sizes) -> Figures | None:
    """Megabytes of all processes of an idle worker that can run several tasks at a time."""
    command = rig.system.worker_for(sizes.at_a_time)
    if command is None:
        return None
    rig.errand("fill", sizes.filled)
    with rig.worker(command) as worker:
        worker.wait(lambda: rig.finished(sizes.filled) >= sizes.filled, "finished", every=0.05)
        time.sleep(sizes.rest)
        idle = memory(worker.pids)
    return {
        "tree_rss_mb": idle.rss,
        "tree_pss_mb": idle.pss,
        "processes": idle.processes,
        "at_work": len({start.pid for start in rig.starts}),
    }


def depth(rig: Rig, sizes: Sizes) -> Figures:
    """Microseconds a task takes a worker with so many others waiting all the while."""
    skipped = sizes.at_depth // 10
    limit = time.monotonic() + 20
    with rig.worker() as worker:
        worker.wait(lambda: rig.started > 0, "began")
        worker.wait(lambda: rig.started >= sizes.at_depth or time.monotonic() > limit, "got through")
    starts = sorted(start.at for start in rig.starts[: sizes.at_depth])
    # A system that is slow here may not have got far: what it did is divided by what it took.
    measured = starts[skipped:] if len(starts) > 2 * skipped else starts
    if len(measured) < 2:
        raise Failed(f"{rig.system.label} began {len(starts)} tasks in 20 s")
    return {"task_us": (measured[-1] - measured[0]) / (len(measured) - 1) * 1e6, "tasks": len(measured)}


def claims(rig: Rig, sizes: Sizes) -> Figures | None:
    """Seconds that a claim takes, by how many it asks for; None for a system that offers no way to claim alone."""
    return rig.errand("claims", sizes.claims) or None


def counted(rig: Rig, stores: Stores, count: int) -> Counter[str]:
    """Count what the server and, for SQLite and for Redis's clients in Python, the worker saw of a drain."""
    rig.errand("fill", count)
    rig.store.settle()
    folder = rig.folder / "counts"
    before = stores.counts()
    with rig.worker(counts=folder) as worker:
        _drain_quietly(rig, worker, count)
    # A backend of PostgreSQL reports its counts when it ends.
    time.sleep(1.0 if before else 0.0)
    at_server = Counter(stores.counts()) - Counter(before)
    return at_server + _sum_counts(folder, CLIENT_COUNTS[rig.system.store])


CLIENT_COUNTS = {
    SQLITE: ("statements", "commits", "write_commits"),
    POSTGRESQL: (),
    REDIS: ("turns",),
    VALKEY: ("turns",),
}
"""What the worker's own counts are taken for, by store: a process may use SQLite beside the measured store."""


def _drain_quietly(rig: Rig, worker: Worker, count: int) -> None:
    worker.wait(lambda: rig.started >= count, "drained", every=0.05)
    # The last results are on their way; asking the store would be counted.
    time.sleep(1.0)


def _sum_counts(folder: Path, names: Sequence[str]) -> Counter[str]:
    from benchmarks.tasks.counted.sitecustomize import FIELDS, NAMES

    total: Counter[str] = Counter()
    for file in folder.iterdir():
        counts = dict(zip(NAMES, FIELDS.unpack(file.read_bytes()), strict=True))
        total.update({name: counts[name] for name in names})
    return total


def _idle_share(worker: Worker, seconds: float) -> float:
    before = worker.cpu()
    time.sleep(seconds)
    return (worker.cpu() - before) / seconds


def _verify(rig: Rig, count: int) -> float:
    """Check that each task ran exactly once and kept its result; return when the first began."""
    kept = rig.errand("results") if rig.system.keeps_results else [[start.number, start.at] for start in rig.starts]
    numbers = sorted(number for number, _ in kept)
    if numbers != list(range(count)):
        raise Failed(f"{rig.system.label}: {len(numbers)} results, {len(set(numbers))} different, of {count}")
    return min(at for _, at in kept)


BY_COPY: dict[str, Callable[[Rig, Sizes], Figures | None]] = {
    "enqueue": enqueue,
    "enqueue_many": enqueue_many,
    "drain": drain,
    "latency": latency,
    "memory": memory_of_many,
}
"""Metrics that start from the empty template; `depth` and `counts` are laid out by the driver."""
