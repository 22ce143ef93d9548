"""What Backroom set out to reach, and whether this run shows it."""

from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any, NamedTuple

Taken = dict[str, Any]


class Row(NamedTuple):
    """One goal; `met` is None for a comparison that is no goal."""

    goal: str
    wanted: str
    shown: str
    met: bool | None
    by_cpu: str = ""


def goals(taken: Taken) -> str:
    """Return the table of goals, those only for which everything was measured."""
    parts = (_drains, _enqueues, _bulk, _pick_ups, _commits, _round_trips, _memory, _memory_of_many, _depths)
    rows = [row for part in parts for row in part(taken)]
    if not rows:
        return ""
    lines = [
        f"| {row.goal} | {row.wanted} | {row.shown} | {row.by_cpu or '–'} | {REACHED[row.met]} |"
        for row in sorted(rows, key=lambda row: STORES.index(row.goal.split(":")[0]))
    ]
    header = ["| goal | wanted | shown | by CPU | reached |", "|---|---:|---:|---:|---|"]
    return "\n".join(["## Goals", "", *header, *lines, "", ABOUT_CPU])


REACHED = {True: "yes", False: "**no**", None: "–"}
STORES = ("SQLite", "PostgreSQL", "Redis", "Valkey")
LABELS = {
    "SQLite": "backroom:sqlite",
    "PostgreSQL": "backroom:pg",
    "Redis": "backroom:redis",
    "Valkey": "backroom:valkey",
}
ABOUT_CPU = (
    "*By CPU* is the same ratio made of processor time a task (client or worker, and server) instead of tasks a second: "
    "it moves less when the machine is busy with something else."
)


def _drains(taken: Taken) -> Iterator[Row]:
    ratio = partial(_ratio, taken, "drain")
    yield from ratio("SQLite: drain over django-tasks-db's", "backroom:sqlite", ["django-tasks-db:sqlite"], 10)
    yield from ratio("SQLite: drain over Huey's, both with fsync", "backroom:sqlite:full", ["huey:sqlite:full"], 1)
    yield from ratio("PostgreSQL: drain over the fastest peer's", "backroom:pg", _peers(taken, "pg"), 6)
    yield from ratio("Redis: drain over Celery's", "backroom:redis", _peers(taken, "redis", name="celery"), 8)
    keep = _peers(taken, "redis", keeps_results=True)
    yield from ratio("Redis: drain over the fastest peer's that keeps results", "backroom:redis", keep, 2)
    keep_none = _peers(taken, "redis", keeps_results=False)
    yield from ratio("Redis: drain over the fastest peer's that keeps none", "backroom:redis", keep_none, None)


def _enqueues(taken: Taken) -> Iterator[Row]:
    ratio = partial(_ratio, taken, "enqueue")
    for name, store in (("SQLite", "sqlite"), ("PostgreSQL", "pg")):
        peers = _peers(taken, store, django_tasks=True)
        yield from ratio(f"{name}: enqueue over the fastest django.tasks peer's", LABELS[name], peers, 1)
    yield from ratio("Redis: enqueue over Celery's", "backroom:redis", _peers(taken, "redis", name="celery"), 2.5)


def _bulk(taken: Taken) -> Iterator[Row]:
    rate = _median_of(taken, "enqueue_many", "rate")
    for name, wanted in (("SQLite", 30_000), ("PostgreSQL", 30_000), ("Redis", 40_000), ("Valkey", 40_000)):
        value = rate(LABELS[name])
        if value is not None:
            yield Row(f"{name}: enqueue_many a second", f"≥ {wanted:,}", f"{value:,.0f}", value >= wanted)


def _pick_ups(taken: Taken) -> Iterator[Row]:
    for name, limit in (("SQLite", 5.0), ("PostgreSQL", 3.0)):
        value = _pick_up(taken, LABELS[name])
        if value is not None:
            yield Row(f"{name}: pick-up p50, ms", f"< {limit:g}", f"{value:.2f}", value < limit)
    ours = _pick_up(taken, "backroom:redis")
    for kept, keeps_results in (("keeps results", True), ("keeps none", False)):
        labels = _peers(taken, "redis", keeps_results=keeps_results)
        peers = {label: ms for label in labels if (ms := _pick_up(taken, label)) is not None}
        if ours is not None and peers:
            best = min(peers, key=lambda label: peers[label])
            goal = f"Redis: pick-up p50, ms, below the fastest peer's that {kept} ({best})"
            wanted = f"< {peers[best]:.2f}" if keeps_results else "–"
            shown = f"{ours:.2f}" if keeps_results else f"{ours:.2f} : {peers[best]:.2f}"
            yield Row(goal, wanted, shown, ours < peers[best] if keeps_results else None)


def _commits(taken: Taken) -> Iterator[Row]:
    # SQLite commits what it does not write for nothing; on PostgreSQL every transaction is a round trip.
    for name, counted in (("SQLite", "write_commits"), ("PostgreSQL", "commits")):
        for figures in _figures(taken, "counts", LABELS[name]):
            value = figures.get(counted, 0.0)
            yield Row(f"{name}: commits a task in a drain", "≤ 0.05", f"{value:.3f}", value <= 0.05)


def _round_trips(taken: Taken) -> Iterator[Row]:
    for name in ("Redis", "Valkey"):
        for figures in _figures(taken, "counts", LABELS[name]):
            value = round_trips(figures)
            yield Row(f"{name}: round trips a task in a drain", "≤ 0.05", f"{value:.3f}", value <= 0.05)


PREFORKS = {
    "celery:redis:prefork": "without Django, one child",
    "celery:redis:prefork2": "without Django, two children",
    "celery:redis:django": "in a Django project, one child",
    "celery:redis:django2": "in a Django project, two children",
}
PREFORKS_OF_MANY = {
    "celery:redis:prefork": "without Django",
    "celery:redis:django": "in a Django project",
}


def _memory(taken: Taken) -> Iterator[Row]:
    pss = _median_of(taken, "latency", "worker_pss_mb")
    for name in ("SQLite", "PostgreSQL"):
        value = pss(LABELS[name])
        if value is not None:
            yield Row(f"{name}: worker process, MB PSS", "≤ 50", f"{value:.1f}", value <= 50)
    tree = _median_of(taken, "latency", "tree_pss_mb")
    ours = tree("backroom:redis")
    for label, kind in PREFORKS.items():
        theirs = tree(label)
        if ours is not None and theirs is not None:
            goal = f"Redis: all processes of the worker, MB PSS, below half of Celery prefork's {kind}"
            yield Row(goal, f"< {theirs / 2:.1f}", f"{ours:.1f}", ours < theirs / 2)


def _memory_of_many(taken: Taken) -> Iterator[Row]:
    tree = _median_of(taken, "memory", "tree_pss_mb")
    ours = tree("backroom:redis")
    if ours is None:
        return
    worker = f"Redis: all processes of a worker for {taken['sizes']['at_a_time']} tasks at a time, MB PSS"
    for label, kind in PREFORKS_OF_MANY.items():
        if (theirs := tree(label)) is not None:
            goal = f"{worker}, below half of Celery prefork's {kind}"
            yield Row(goal, f"< {theirs / 2:.1f}", f"{ours:.1f}", ours < theirs / 2)
    if (theirs := tree("celery:redis:threads")) is not None:
        yield Row(f"{worker}, beside Celery's with threads, without Django", "–", f"{ours:.1f} : {theirs:.1f}", None)


def _depths(taken: Taken) -> Iterator[Row]:
    shallow, deep = taken["sizes"]["depths"][0], taken["sizes"]["depths"][-1]
    for name, label in LABELS.items():
        for size in ("1", "100"):
            middles = []
            for depth in (shallow, deep):
                rounds = _figures(taken, "claims", label, depth)
                values = [seconds for figures in rounds for seconds in figures.get(size, ())]
                middles += [median(values)] if values else []
            if len(middles) == 2:
                growth = middles[1] / middles[0]
                # A deeper index is a page or two more to read: a tenth, and the noise of the machine.
                goal = f"{name}: a claim of {size} with {deep:,} waiting over {shallow:,}"
                yield Row(goal, "≤ × 1.25", f"× {growth:.2f}", growth <= 1.25)


def round_trips(counts: dict[str, float]) -> float:
    """Return the larger of what the server and what the client counted; a client that is not Python counts nothing."""
    return max(counts.get("replies", 0.0), counts.get("turns", 0.0))


def _ratio(taken: Taken, metric: str, goal: str, ours: str, theirs: list[str], wanted: float | None) -> Iterator[Row]:
    rate = _median_of(taken, metric, "rate")
    mine = rate(ours)
    peers = {label: value for label in theirs if (value := rate(label)) is not None}
    if mine is None or not peers:
        return
    best = max(peers, key=lambda label: peers[label])
    ratio = mine / peers[best]
    cost = _median_of(taken, metric, "cpu_us")
    our_cost, their_cost = cost(ours), cost(best)
    yield Row(
        f"{goal} ({best})",
        f"≥ × {wanted:g}" if wanted else "–",
        f"× {ratio:.1f}",
        ratio >= wanted if wanted else None,
        f"× {their_cost / our_cost:.1f}" if our_cost and their_cost else "",
    )


def _peers(taken: Taken, store: str, **wanted: Any) -> list[str]:
    """Return the labels of the others on a store, with one worker process and Backroom's own durability there."""
    ours = [system for system in taken["systems"] if system["label"] == f"backroom:{store}"]
    durability = {system["durability"] for system in ours} if store in {"redis", "valkey"} else set()
    return [
        system["label"]
        for system in taken["systems"]
        if system["name"] != "backroom"
        and system["store"] == store
        and system.get("worker_processes", 1) == 1
        and (not durability or system["durability"] in durability)
        and all(system[name] == value for name, value in wanted.items())
    ]


def _pick_up(taken: Taken, label: str) -> float | None:
    samples = [ms for figures in _figures(taken, "latency", label) for ms in figures["ms"]]
    return median(samples) if samples else None


def _median_of(taken: Taken, metric: str, name: str) -> Callable[[str], float | None]:
    def value(label: str) -> float | None:
        values = [figures[name] for figures in _figures(taken, metric, label) if name in figures]
        return median(values) if values else None

    return value


def _figures(taken: Taken, metric: str, label: str, depth: int = 0) -> list[dict[str, Any]]:
    return [
        sample["figures"]
        for sample in taken["samples"]
        if sample["metric"] == metric and sample["system"] == label and sample["depth"] == depth and sample["figures"]
    ]
