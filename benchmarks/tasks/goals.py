"""What Backroom set out to reach, and whether this run shows it."""

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

Taken = dict[str, Any]


def goals(taken: Taken) -> str:
    """Return the table of goals, those only for which everything was measured."""
    rows = [row for goal in (_drains, _enqueues, _bulk, _pick_ups, _commits, _memory, _depths) for row in goal(taken)]
    if not rows:
        return ""
    lines = [f"| {goal} | {wanted} | {shown} | {'yes' if met else '**no**'} |" for goal, wanted, shown, met in rows]
    return "\n".join(["## Goals", "", "| goal | wanted | shown | reached |", "|---|---:|---:|---|", *lines])


Row = tuple[str, str, str, bool]


def _drains(taken: Taken) -> Iterator[Row]:
    rate = _median_of(taken, "drain", "rate")
    yield from _ratio("SQLite: drain over django-tasks-db's", rate, "backroom:sqlite", ["django-tasks-db:sqlite"], 10)
    yield from _ratio(
        "SQLite: drain over Huey's, both with fsync", rate, "backroom:sqlite:full", ["huey:sqlite:full"], 1
    )
    yield from _ratio("PostgreSQL: drain over the fastest peer's", rate, "backroom:pg", _peers(taken, "pg"), 6)


def _enqueues(taken: Taken) -> Iterator[Row]:
    rate = _median_of(taken, "enqueue", "rate")
    for store, name in (("sqlite", "SQLite"), ("pg", "PostgreSQL")):
        peers = _peers(taken, store, django_tasks=True)
        yield from _ratio(f"{name}: enqueue over the fastest django.tasks peer's", rate, f"backroom:{store}", peers, 1)


def _bulk(taken: Taken) -> Iterator[Row]:
    rate = _median_of(taken, "enqueue_many", "rate")
    for label in ("backroom:sqlite", "backroom:pg"):
        value = rate(label)
        if value is not None:
            yield f"{label}: enqueue_many a second", "≥ 30,000", f"{value:,.0f}", value >= 30_000


def _pick_ups(taken: Taken) -> Iterator[Row]:
    for label, limit in (("backroom:sqlite", 5.0), ("backroom:pg", 3.0)):
        samples = [ms for figures in _figures(taken, "latency", label) for ms in figures["ms"]]
        if samples:
            value = median(samples)
            yield f"{label}: pick-up p50, ms", f"< {limit:g}", f"{value:.2f}", value < limit


def _commits(taken: Taken) -> Iterator[Row]:
    # SQLite commits what it does not write for nothing; on PostgreSQL every transaction is a round trip.
    for label, name in (("backroom:sqlite", "write_commits"), ("backroom:pg", "commits")):
        for figures in _figures(taken, "counts", label):
            value = figures.get(name, 0.0)
            yield f"{label}: commits a task in a drain", "≤ 0.05", f"{value:.3f}", value <= 0.05


def _memory(taken: Taken) -> Iterator[Row]:
    pss = _median_of(taken, "latency", "worker_pss_mb")
    for label in ("backroom:sqlite", "backroom:pg"):
        value = pss(label)
        if value is not None:
            yield f"{label}: worker process, MB PSS", "≤ 50", f"{value:.1f}", value <= 50


def _depths(taken: Taken) -> Iterator[Row]:
    shallow, deep = taken["sizes"]["depths"][0], taken["sizes"]["depths"][-1]
    for label in ("backroom:sqlite", "backroom:pg"):
        for size in ("1", "100"):
            middles = []
            for depth in (shallow, deep):
                rounds = _figures(taken, "claims", label, depth)
                values = [seconds for figures in rounds for seconds in figures.get(size, ())]
                middles += [median(values)] if values else []
            if len(middles) == 2:
                growth = middles[1] / middles[0]
                # A deeper index is a page or two more to read: a tenth, and the noise of the machine.
                name = f"{label}: a claim of {size} with {deep:,} waiting over {shallow:,}"
                yield name, "≤ × 1.25", f"× {growth:.2f}", growth <= 1.25


def _ratio(
    goal: str, value: Callable[[str], float | None], ours: str, theirs: list[str], wanted: float
) -> Iterator[Row]:
    mine = value(ours)
    peers = {label: rate for label in theirs if (rate := value(label)) is not None}
    if mine is not None and peers:
        best = max(peers, key=lambda label: peers[label])
        ratio = mine / peers[best]
        yield f"{goal} ({best})", f"≥ × {wanted:g}", f"× {ratio:.1f}", ratio >= wanted


def _peers(taken: Taken, store: str, *, django_tasks: bool | None = None) -> list[str]:
    return [
        system["label"]
        for system in taken["systems"]
        if system["name"] != "backroom" and system["store"] == store and django_tasks in {None, system["django_tasks"]}
    ]


def _median_of(taken: Taken, metric: str, name: str) -> Callable[[str], float | None]:
    def value(label: str) -> float | None:
        values = [figures[name] for figures in _figures(taken, metric, label)]
        return median(values) if values else None

    return value


def _figures(taken: Taken, metric: str, label: str, depth: int = 0) -> list[dict[str, Any]]:
    return [
        sample["figures"]
        for sample in taken["samples"]
        if sample["metric"] == metric and sample["system"] == label and sample["depth"] == depth and sample["figures"]
    ]
