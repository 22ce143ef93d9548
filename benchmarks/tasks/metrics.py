"""What is measured, one function each: given a rig, return the figures of one repetition.

A metric knows neither the system nor the other rounds.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.tasks.processes import cpu_seconds, memory
from benchmarks.tasks.rig import Failed, Rig, Worker
from benchmarks.tasks.stores import PostgresStores, Stores

Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much of everything."""

    enqueue: int = 5_000
    bulk: int = 20_000
    bulk_call: int = 1_000
    drain: int = 10_000
    latency: int = 100
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
    rig.errand("fill", sizes.drain)
    rig.store.settle()
    with rig.worker() as worker:
        worker.wait(lambda: rig.started > 0, "began")
        at_worker, at_server = worker.cpu(), cpu_seconds(rig.server)
        worker.wait(lambda: rig.started >= sizes.drain, "drained")
        worker.wait(lambda: rig.finished() >= sizes.drain, "finished")
        end = time.time()
        at_worker, at_server = worker.cpu() - at_worker, cpu_seconds(rig.server) - at_server
        after = memory(worker.pids)
    seconds = end - _verify(rig, sizes.drain)
    return {
        "rate": sizes.drain / seconds,
        "worker_us": at_worker / sizes.drain * 1e6,
        "server_us": at_server / sizes.drain * 1e6,
        "pss_after_mb": after.pss,
    }


def latency(rig: Rig, sizes: Sizes) -> Figures:
    """Milliseconds from just before enqueue to the task's first line, and what the waiting worker costs."""
    warm = 20
    with rig.worker() as worker:
        rig.errand("trickle", 0, warm, 5, 10)
        worker.wait(lambda: rig.started >= warm, "warmed up")
        time.sleep(1.5)
        executing = rig.starts[-1].pid
        idle = memory(worker.pids)
        alone = memory([executing])
        idle_cpu = _idle_share(worker, 2.0)
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
    """Count what the driver (SQLite) or the server (PostgreSQL) saw of a drain of so many tasks."""
    rig.errand("fill", count)
    rig.store.settle()
    if isinstance(stores, PostgresStores):
        return _counted_by_server(rig, stores, count)
    folder = rig.folder / "counts"
    with rig.worker(counts=folder) as worker:
        _drain_quietly(rig, worker, count)
    return _sum_counts(folder)


def _drain_quietly(rig: Rig, worker: Worker, count: int) -> None:
    worker.wait(lambda: rig.started >= count, "drained", every=0.05)
    # The last results are on their way; asking the store would be counted.
    time.sleep(1.0)


def _counted_by_server(rig: Rig, stores: PostgresStores, count: int) -> Counter[str]:
    stores.admin.execute("SELECT pg_stat_reset_shared('wal'), pg_stat_statements_reset()")
    before = _seen_by_server(stores)
    with rig.worker() as worker:
        _drain_quietly(rig, worker, count)
    # A backend reports its counts when it ends.
    time.sleep(1.0)
    return Counter(_seen_by_server(stores)) - Counter(before)


def _seen_by_server(stores: PostgresStores) -> dict[str, int]:
    statement = """
        SELECT xact_commit,
               (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s WHERE s.dbid = d.datid AND toplevel),
               pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
               xact_rollback
        FROM pg_stat_database d WHERE datname = 'copy'
    """
    row = stores.admin.execute(statement).fetchone()
    assert row is not None
    return dict(zip(("commits", "statements", "write_commits", "rollbacks"), map(int, row), strict=True))


def _sum_counts(folder: Path) -> Counter[str]:
    from benchmarks.tasks.counted.sitecustomize import FIELDS

    total: Counter[str] = Counter()
    for file in folder.iterdir():
        statements, commits, writes = FIELDS.unpack(file.read_bytes())
        total.update(statements=statements, commits=commits, write_commits=writes)
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
}
"""Metrics that start from the empty template; `depth` and `counts` are laid out by the driver."""
