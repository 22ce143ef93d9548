"""The tables: medians with (min–max), and how many times better Backroom is, round by round.

It reads what `driver.measure` returned, so an earlier run can be printed again.
"""

from collections.abc import Callable, Sequence
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks.tasks.goals import goals, round_trips

Taken = dict[str, Any]
OURS = "backroom"
STORES = {"sqlite": "SQLite", "pg": "PostgreSQL", "redis": "Redis", "valkey": "Valkey"}
ENQUEUE_COSTS = (("client CPU", "client_us"), ("server CPU", "server_us"), ("CPU", "cpu_us"))
DRAIN_COSTS = (
    ("worker CPU", "worker_us"),
    ("server CPU", "server_us"),
    ("CPU", "cpu_us"),
    ("tree PSS after, MB", "pss_after_mb"),
)


def report(taken: Taken) -> str:
    """Return the whole report in Markdown."""
    sections = (
        *(_enqueue, _enqueue_many, _drain, _latency, _memory, _memory_of_many, _depth, _claims),
        *(_counts, _round_trips, _server_memory, _failures),
    )
    parts = [_heading(taken), *(section(taken) for section in sections), _goals(taken), _conditions(taken)]
    return "\n\n".join(part for part in parts if part)


def figures(taken: Taken, metric: str, system: str, name: str, depth: int = 0) -> list[float]:
    """Return one figure of one system, a value for each round."""
    return list(_by_round(taken, metric, system, name, depth).values())


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]


def ours_beside(taken: Taken, system: dict[str, Any]) -> str | None:
    """Return Backroom's label on the same store, at the same durability where there is one."""
    ours = [one for one in taken["systems"] if one["name"] == OURS and one["store"] == system["store"]]
    same = [one for one in ours if one["durability"] == system["durability"]]
    return str((same or ours)[0]["label"]) if ours else None


def _heading(taken: Taken) -> str:
    machine = taken["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in taken["versions"].items())
    return (
        f"# Tasks, side by side: {taken['taken']} UTC, {taken['rounds']} interleaved rounds"
        f"{', stopped before its end' if taken.get('was_stopped') else ''}\n\n"
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory']}, {machine['filesystem']}, kernel "
        f"{machine['kernel']}; Python {machine['python']}; {'; '.join(taken['stores'])}.\n{versions}.\n\n"
        "Medians with (min–max) over the rounds. *Backroom* says how many times better Backroom did than this row in "
        "the same round, on the same store and, where both offer it, at the same durability; *by CPU* the same of the "
        "processor time a task, which depends less on what else the machine does. CPU is user and system time a "
        "task, in µs: of the client or of the worker and its children, of the server, and both together."
    )


def _enqueue(taken: Taken) -> str:
    return _rates(taken, "enqueue", "Enqueue, single calls", ENQUEUE_COSTS)


def _enqueue_many(taken: Taken) -> str:
    size = taken["sizes"]["bulk_call"]
    title = f"Enqueue many, {size:,} a call"
    return _rates(taken, "enqueue_many", title, ENQUEUE_COSTS)


def _drain(taken: Taken) -> str:
    title = f"Drain of {taken['sizes']['drain']:,} tasks by one worker process, results kept"
    return _rates(taken, "drain", title, DRAIN_COSTS)


def _rates(taken: Taken, metric: str, title: str, columns: Sequence[tuple[str, str]]) -> str:
    rows = []
    for system in taken["systems"]:
        label = system["label"]
        rates = figures(taken, metric, label, "rate")
        if rates:
            times = [
                _times(taken, metric, system, lambda ours, theirs: ours / theirs, "rate"),
                _times(taken, metric, system, lambda ours, theirs: theirs / max(ours, 1e-9), "cpu_us"),
            ]
            costs = [_middle(figures(taken, metric, label, name)) for _, name in columns]
            rows.append([label, _spread(rates), *times, *costs])
    return _table(title, ["system", "tasks/s", "Backroom", "by CPU", *(name for name, _ in columns)], rows)


def _latency(taken: Taken) -> str:
    rows = []
    for system in taken["systems"]:
        rounds = figures(taken, "latency", system["label"], "ms")
        calls = figures(taken, "latency", system["label"], "call_ms")
        if rounds:
            together = [value for values in rounds for value in values]
            middle = [percentile(values, 0.5) for values in rounds]
            rows.append(
                [
                    system["label"],
                    _spread(middle),
                    _number(percentile(together, 0.95)),
                    _number(percentile(together, 0.99)),
                    _number(percentile([ms for values in calls for ms in values], 0.5)),
                    str(len(together)),
                    _times(taken, "latency", system, _median_ratio, "ms"),
                    _number(median(figures(taken, "latency", system["label"], "idle_cpu_percent"))),
                ]
            )
    header = ["system", "p50 ms", "p95", "p99", "enqueue call p50", "samples", "Backroom", "idle worker, % of a core"]
    return _table("Pick-up by an idle worker", header, rows)


def _memory(taken: Taken) -> str:
    names = ("worker_pss_mb", "worker_rss_mb", "tree_pss_mb", "tree_rss_mb", "processes")
    rows = []
    for system in taken["systems"]:
        values = [figures(taken, "latency", system["label"], name) for name in names]
        if values[0]:
            rows.append([system["label"], *(_number(median(value)) for value in values)])
    header = ["system", "worker PSS", "worker RSS", "tree PSS", "tree RSS", "processes"]
    return _table("Memory of an idle worker that has run 20 tasks, MB", header, rows)


def _memory_of_many(taken: Taken) -> str:
    names = ("tree_pss_mb", "tree_rss_mb", "processes", "at_work")
    rows = []
    for system in taken["systems"]:
        values = [figures(taken, "memory", system["label"], name) for name in names]
        if values[0]:
            rows.append([system["label"], *(_number(median(value)) for value in values)])
    many = taken["sizes"].get("at_a_time")
    header = ["system", "tree PSS", "tree RSS", "processes", "of them ran tasks"]
    return _table(f"Memory of an idle worker that can run {many} tasks at a time, MB", header, rows)


def _depth(taken: Taken) -> str:
    depths = taken["sizes"]["depths"]
    rows = []
    for system in taken["systems"]:
        costs = [figures(taken, "depth", system["label"], "task_us", depth) for depth in depths]
        if any(costs):
            shown = [_spread(cost) if cost else "did not get on" for cost in costs]
            growth = f"{median(costs[-1]) / median(costs[0]):.2f}" if all(costs) else "–"
            rows.append([system["label"], *shown, growth])
    header = ["system", *(f"{depth:,} waiting" for depth in depths), "growth"]
    return _table("A worker's time a task while others wait, µs", header, rows)


def _claims(taken: Taken) -> str:
    depths = taken["sizes"]["depths"]
    rows = []
    for system in taken["systems"]:
        for size in ("1", "100"):
            rounds = [figures(taken, "claims", system["label"], size, depth) for depth in depths]
            if all(rounds):
                together = [[seconds * 1e6 for values in values_of for seconds in values] for values_of in rounds]
                shown = [f"{_number(percentile(us, 0.5))} / {_number(percentile(us, 0.95))}" for us in together]
                growth = percentile(together[-1], 0.5) / percentile(together[0], 0.5)
                rows.append([system["label"], size, *shown, f"{growth:.2f}"])
    header = ["system", "asked for", *(f"{depth:,} waiting: p50 / p95" for depth in depths), "growth"]
    return _table("One claim by itself, µs", header, rows)


def _counts(taken: Taken) -> str:
    rows = []
    for system in taken["systems"]:
        counts = _counted(taken, system["label"])
        if counts and system["store"] in {"sqlite", "pg"}:
            names = ("statements", "commits", "write_commits")
            rows.append([system["label"], *(f"{counts.get(name, 0):.3f}" for name in names)])
    few, many = taken["sizes"]["counted"]
    title = f"Statements and commits a task in a drain (that of {many:,} less that of {few:,})"
    return _table(title, ["system", "statements", "commits", "commits that wrote"], rows)


def _round_trips(taken: Taken) -> str:
    rows = []
    for system in taken["systems"]:
        counts = _counted(taken, system["label"])
        if counts and system["store"] in {"redis", "valkey"}:
            names = ("commands", "reads", "replies")
            at_client = f"{counts['turns']:.3f}" if counts.get("turns") else "–"
            shown = (f"{counts.get(name, 0):.3f}" for name in names)
            rows.append([system["label"], f"{round_trips(counts):.3f}", *shown, at_client])
    few, many = taken["sizes"]["counted"]
    title = f"Round trips a task in a drain (that of {many:,} less that of {few:,})"
    header = ["round trips", "commands run at the server", "its reads", "its writes", "waits in Python sockets"]
    return _table(title, ["system", *header], rows)


def _server_memory(taken: Taken) -> str:
    rows = []
    for system in taken["systems"]:
        waiting = figures(taken, "drain", system["label"], "waiting_bytes")
        kept = figures(taken, "drain", system["label"], "kept_bytes")
        if waiting and kept:
            rows.append([system["label"], _middle(waiting), _middle(kept)])
    return _table("Memory of the server a task, bytes", ["system", "waiting", "ended, with its result"], rows)


def _failures(taken: Taken) -> str:
    failed = [sample for sample in taken["samples"] if sample["error"]]
    if not failed:
        return ""
    lines = [
        f"- {sample['metric']} {sample['system']}, round {sample['round'] + 1}"
        f"{' at ' + format(sample['depth'], ',') if sample['depth'] else ''}: {_last_line(sample['error'])}"
        for sample in failed
    ]
    return "\n".join(["## What failed", "", *lines])


def _goals(taken: Taken) -> str:
    if taken.get("is_quick"):
        return "A smoke run: it shows that everything works. Its figures are too few to mean anything."
    return goals(taken)


def _conditions(taken: Taken) -> str:
    samples = [sample for sample in taken["samples"] if sample["machine"]]
    if not samples:
        return ""
    foreign = [sample["foreign"] for sample in samples]
    disturbed = sum(share > 0.12 for share in foreign)
    loops = [sample["machine"]["loop_ms"] for sample in samples]
    commits = [sample["machine"]["fsync_us"] for sample in samples]
    return (
        "## Conditions\n\n"
        f"Before each run, a fixed loop of Python: {_spread(loops)} ms; 4 KiB to the disk (fdatasync): "
        f"{_spread(commits)} µs. Others used {median(foreign):.1%} of the machine (median; at most {max(foreign):.0%}); "
        f"{disturbed} of {len(samples)} runs stayed disturbed (over 12 %) after every try."
    )


def _times(taken: Taken, metric: str, system: dict[str, Any], ratio: Callable[[Any, Any], float], name: str) -> str:
    ours = ours_beside(taken, system)
    if ours is None or system["name"] == OURS:
        return "–"
    mine, theirs = (_by_round(taken, metric, label, name) for label in (ours, system["label"]))
    ratios = [ratio(mine[turn], theirs[turn]) for turn in sorted(mine.keys() & theirs.keys())]
    return f"× {_spread(ratios)}" if ratios else "–"


def _median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    return percentile(theirs, 0.5) / percentile(ours, 0.5)


def _counted(taken: Taken, label: str) -> dict[str, float] | None:
    return next((sample["figures"] for sample in taken["samples"] if _is(sample, "counts", label)), None)


def _by_round(taken: Taken, metric: str, system: str, name: str, depth: int = 0) -> dict[int, Any]:
    return {
        sample["round"]: sample["figures"][name]
        for sample in taken["samples"]
        if _is(sample, metric, system) and sample["depth"] == depth and name in (sample["figures"] or {})
    }


def _is(sample: dict[str, Any], metric: str, system: str) -> bool:
    return bool(sample["metric"] == metric and sample["system"] == system)


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))}–{_number(max(values))})"


def _middle(values: Sequence[float]) -> str:
    return _number(median(values)) if values else "–"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:200]


def _table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of systems, each in the first column by its label, under the names of their stores."""
    if not rows:
        return ""
    lines = [header, ["---", *["---:"] * (len(header) - 1)]]
    for store, group in groupby(rows, key=lambda row: row[0].split(":")[1]):
        lines += [[f"**{STORES[store]}**", *[""] * (len(header) - 1)], *group]
    return "\n".join([f"## {title}", "", *(f"| {' | '.join(row)} |" for row in lines)])
