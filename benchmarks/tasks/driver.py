"""The order of things: rounds, in each of them every metric, for each metric every system in turn.

Systems that are compared are measured minutes apart, not hours: the speed of a shared host drifts by more than they
differ. What is measured is in `metrics`, how to reach a system in `systems`; this module knows neither.
"""

import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from benchmarks.tasks import machine, metrics
from benchmarks.tasks.metrics import Figures, Sizes
from benchmarks.tasks.redis_stores import RedisStores
from benchmarks.tasks.rig import Failed, Rig, rig
from benchmarks.tasks.stores import PostgresStores, SQLiteStores, Stores
from benchmarks.tasks.systems.base import POSTGRESQL, SQLITE, System

METRICS = (*metrics.BY_COPY, "depth", "claims", "counts")
DISTURBED = 0.12
"""Share of the machine that others used during a run, above which it is taken again."""
TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure."""

    systems: Sequence[System]
    metrics: Sequence[str]
    rounds: int
    sizes: Sizes
    patience: float
    """Seconds to wait for a quiet machine before each run; 0 measures at once and never again."""


@dataclass
class Sample:
    """One repetition."""

    metric: str
    system: str
    round: int
    figures: dict[str, Any] | None
    depth: int = 0
    error: str = ""
    foreign: float = 0.0
    tries: int = 1
    machine: dict[str, float] = field(default_factory=dict)


def measure(plan: Plan, directory: Path | None) -> dict[str, Any]:
    """Carry out a plan; return everything that was seen, ready for JSON."""
    began = time.time()
    versions = {name: number for system in plan.systems for name, number in system.versions.items()}
    folder = Path(tempfile.mkdtemp(prefix="backroom-bench-", dir=directory))
    folder.chmod(0o755)  # the database server is another user
    samples: list[Sample] = []
    try:
        with _stores(plan.systems, folder) as stores:
            was_stopped = _take(_Session(plan, folder, stores), samples)
            about = {
                "taken": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
                "minutes": (time.time() - began) / 60,
                "machine": machine.describe(str(folder)),
                "stores": [store.description for store in stores.values()],
            }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        **about,
        "versions": dict(sorted(versions.items())),
        "was_stopped": was_stopped,
        "rounds": plan.rounds,
        "sizes": asdict(plan.sizes),
        "systems": [_described(system) for system in plan.systems],
        "samples": [asdict(sample) for sample in samples],
    }


def _take(session: "_Session", samples: list[Sample]) -> bool:
    """Collect the samples as they come; tell whether somebody ended it before its time, which loses none of them."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    # A SIGTERM that is not caught would leave the server and a worker behind.
    before = signal.signal(signal.SIGTERM, stop)
    try:
        samples.extend(session.rounds())
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGTERM, before)
    return False


class _Session:
    def __init__(self, plan: Plan, folder: Path, stores: dict[str, Stores]) -> None:
        self._plan = plan
        self._folder = folder
        self._stores = stores
        self._broken: set[str] = set()
        self._lacking: set[tuple[str, str]] = set()

    def rounds(self) -> Iterator[Sample]:
        plan = self._plan
        self._prepare(plan.systems, self._stores)
        once = [metric for metric in plan.metrics if metric == "counts"]
        repeated = [metric for metric in plan.metrics if metric not in once]
        for turn in range(plan.rounds):
            # Nobody is always the one that follows a heavy neighbour.
            shift = turn * len(plan.systems) // plan.rounds
            order = [*plan.systems[shift:], *plan.systems[:shift]]
            for metric in repeated:
                yield from self._across(metric, order, turn)
        if once:
            yield from self._counts()

    def _across(self, metric: str, order: Iterable[System], turn: int) -> Iterator[Sample]:
        for system in order:
            if system.label in self._broken or (metric, system.label) in self._lacking:
                continue
            if metric in metrics.BY_COPY:
                work = metrics.BY_COPY[metric]
                yield self._undisturbed(Sample(metric, system.label, turn, None), system, system.label, work)
                continue
            if system in _variants(self._plan.systems) or not system.is_deep:
                continue
            for depth in self._plan.sizes.depths:
                sample = Sample(metric, system.label, turn, None, depth=depth)
                work = metrics.depth if metric == "depth" else metrics.claims
                yield self._undisturbed(sample, system, f"{system.label}@{depth}", work)

    def _undisturbed(
        self, sample: Sample, system: System, template: str, work: Callable[[Rig, Sizes], Figures | None]
    ) -> Sample:
        """Fill in a sample; take it again while others used the machine, and keep the least disturbed one."""
        best = None
        for attempt in range(1, (TRIES if self._plan.patience else 1) + 1):
            machine.wait_until_quiet(self._plan.patience)
            calibration = machine.calibrate(str(self._folder))
            since = machine.read()
            figures, error = self._once(system, template, work)
            foreign = machine.foreign_share(since)
            if best is None or foreign < best.foreign:
                best = Sample(**{**asdict(sample), "figures": figures, "error": error, "foreign": foreign})
                best.machine = calibration
            best.tries = attempt
            if foreign <= DISTURBED or figures is None:
                break
        assert best is not None
        if best.figures is None and not best.error:
            self._lacking.add((best.metric, best.system))
        _say(best)
        return best

    def _once(
        self, system: System, template: str, work: Callable[[Rig, Sizes], Figures | None]
    ) -> tuple[dict[str, Any] | None, str]:
        try:
            with rig(system, self._stores[system.kind], template, self._folder) as laid_out:
                figures = work(laid_out, self._plan.sizes)
                return (dict(figures) if figures is not None else None), ""
        except (Failed, sqlite3.Error, psycopg.Error, redis.RedisError) as failure:
            return None, str(failure)

    def _prepare(self, systems: Sequence[System], stores: dict[str, Stores]) -> None:
        depths = self._plan.sizes.depths if {"depth", "claims"} & set(self._plan.metrics) else ()
        for system in systems:
            is_shallow = system in _variants(systems) or not system.is_deep
            for depth in (0,) if is_shallow else (0, *depths):
                self._template(system, stores[system.kind], depth)

    def _template(self, system: System, stores: Stores, depth: int) -> None:
        if system.label in self._broken:
            return
        name = f"{system.label}@{depth}" if depth else system.label
        folder = self._folder / "run"
        shutil.rmtree(folder, ignore_errors=True)
        start = time.monotonic()
        try:
            with stores.template(name) as store:
                laid_out = Rig(system, store, stores.server, folder)
                if system.needs_setup:
                    laid_out.errand("setup")
                if depth:
                    laid_out.errand("fill", depth + self._plan.sizes.beside)
        except Failed as failure:
            self._broken.add(system.label)
            print(f"{name}: cannot be set up: {failure}", file=sys.stderr)
            return
        print(f"{name}: ready after {time.monotonic() - start:.1f} s", file=sys.stderr)

    def _counts(self) -> Iterator[Sample]:
        """Count statements of two drains; the difference is free of what starting and ending cost."""
        systems = [system for system in self._plan.systems if system.label not in self._broken]
        few, many = self._plan.sizes.counted
        with _stores(systems, self._folder, preload="pg_stat_statements") as stores:
            for system in systems:
                if system.store == POSTGRESQL:
                    self._template(system, stores[system.kind], 0)
                sample = Sample("counts", system.label, 0, None)
                try:
                    fewer = self._count(system, stores[system.kind], few)
                    more = self._count(system, stores[system.kind], many)
                    sample.figures = {name: (more[name] - fewer[name]) / (many - few) for name in sorted(more)}
                except (Failed, redis.RedisError) as failure:
                    sample.error = str(failure)
                _say(sample)
                yield sample

    def _count(self, system: System, stores: Stores, count: int) -> Counter[str]:
        with rig(system, stores, system.label, self._folder) as laid_out:
            return metrics.counted(laid_out, stores, count)


@contextmanager
def _stores(systems: Iterable[System], folder: Path, *, preload: str = "") -> Iterator[dict[str, Stores]]:
    stores: dict[str, Stores] = {}
    try:
        for system in systems:
            if system.kind not in stores:
                stores[system.kind] = _make_stores(system, folder, preload)
        yield stores
    finally:
        for store in stores.values():
            store.close()


def _make_stores(system: System, folder: Path, preload: str) -> Stores:
    if system.store == SQLITE:
        return SQLiteStores(folder)
    if system.store == POSTGRESQL:
        return PostgresStores(folder, preload=preload)
    return RedisStores(folder, system.store, system.durability)


def _variants(systems: Iterable[System]) -> list[System]:
    """Return the systems that differ from an earlier one by their durability only: it changes nothing with depth."""
    seen: set[tuple[str, str]] = set()
    variants = []
    for system in systems:
        variants += [system] if (system.name, system.store) in seen else []
        seen.add((system.name, system.store))
    return variants


def _described(system: System) -> dict[str, Any]:
    return {
        "label": system.label,
        "name": system.name,
        "store": system.store,
        "durability": system.durability,
        "django_tasks": system.django_tasks,
        "keeps_results": system.keeps_results,
        "worker_processes": system.worker_processes,
    }


def _say(sample: Sample) -> None:
    figures = sample.figures or {}
    shown = ", ".join(f"{name} {value:,.4g}" for name, value in figures.items() if isinstance(value, int | float))
    depth = f" at {sample.depth:,}" if sample.depth else ""
    note = f" [{sample.foreign:.0%} foreign, {sample.tries} tries]" if sample.foreign > DISTURBED else ""
    text = sample.error.strip() or shown or ("taken" if figures else "has none")
    print(f"{sample.round + 1} {sample.metric}{depth} {sample.system}: {text}{note}", file=sys.stderr)
