"""The command line: what is measured, the tables, and whether the goals are reached."""

import argparse
import json
import platform
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.cache.driver import VERBS, Agents, Cell, measure, ratio, say
from benchmarks.cache.systems import AT_A_MILLION, MILLION_SIZES, caches, servers
from benchmarks.cache.traces import table

RESULTS = Path(__file__).parents[1] / "results"
SQLITE, REDIS, TIERED = "backroom-sqlite", "backroom-redis", "backroom-tiered"
SIZES = ("100 B", "10 kB", "dict")
GOALS = (
    (SQLITE, "get", "redis", 15.0),
    (SQLITE, "get", "diskcache", 1.0),
    (SQLITE, "set", "diskcache", 2.0),
    (SQLITE, "incr", "diskcache", 2.0),
    (SQLITE, "get_many", "diskcache", 3.0),
    (SQLITE, "set_many", "diskcache", 10.0),
    (TIERED, "again", "locmem", 1.0),
    (REDIS, "together", "redis", 3.0),
)
"""At 100 B, the smaller store and one process: how many times faster ours is to be than another."""
NEVER_SLOWER = (REDIS, ("redis", "django-redis", "django-valkey"))
"""In no cell of the table."""
AT_A_MILLION_AT_LEAST = 0.75
MANY = 100_000
"""Entries from which on not every system is filled, nor with every size."""
PACKAGES = ("Django", "redis", "hiredis", "pymemcache", "pylibmc", "django-redis", "django-valkey", "diskcache")


def main() -> None:
    options = asked_for()
    if options.traces:
        print(table(quick=options.quick))
        return
    stem = RESULTS / f"cache-{time.strftime('%Y%m%d-%H%M')}"
    taken: dict[Cell, list[float]] = {}
    report = ""
    for size in options.sizes:
        taken |= one_size(size, options)
        report = "\n\n".join([heading(options.rounds, options.seconds), *tables(taken), goals(taken)])
        if not options.quick:
            keep(stem, taken, report)
    print(report)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    every = list(caches(Path()))
    made.add_argument("--quick", action="store_true", help="a smoke run: short, one size, one store")
    made.add_argument("--systems", type=lambda text: text.split(","), default=every, help=", ".join(every))
    made.add_argument("--verbs", type=lambda text: text.split(","), default=list(VERBS), help=", ".join(VERBS))
    made.add_argument("--sizes", type=lambda text: text.split(","), default=list(SIZES), help=", ".join(SIZES))
    made.add_argument("--entries", type=lambda text: [int(n) for n in text.split(",")], default=[10_000, 1_000_000])
    made.add_argument("--processes", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 8])
    made.add_argument("--rounds", type=int, default=4)
    made.add_argument("--seconds", type=float, default=0.12, help="of each thing in each round")
    made.add_argument("--traces", action="store_true", help="print the hit ratios of eviction on three traces instead")
    return made


def asked_for() -> argparse.Namespace:
    options = (made := parser()).parse_args()
    for asked, known in ((options.systems, caches(Path())), (options.verbs, VERBS), (options.sizes, SIZES)):
        if unknown := [name for name in asked if name not in known]:
            made.error(f"{', '.join(unknown)}: choose from {', '.join(known)}")
    if options.quick:
        options.entries, options.sizes, options.rounds, options.seconds = [1_000], ["100 B"], 2, 0.05
        options.processes = [1, 2]
    return options


def one_size(size: str, options: argparse.Namespace) -> dict[Cell, list[float]]:
    with ExitStack() as stack:
        agents: dict[tuple[str, int], Agents] = {}
        for entries in options.entries:
            names = [name for name in options.systems if fits(name, entries, size)]
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-cache-")))
            stack.enter_context(servers(folder, names))
            for name in names:
                group = Agents(caches(folder)[name], folder / "site.sqlite3", entries, max(options.processes))
                stack.callback(group.close)
                agents[name, entries] = group
        return measure(
            agents,
            verbs=options.verbs,
            size=size,
            processes=options.processes,
            rounds=options.rounds,
            seconds=options.seconds,
        )


def fits(name: str, entries: int, size: str) -> bool:
    return entries <= MANY or (name in AT_A_MILLION and size in MILLION_SIZES)


def heading(rounds: int, seconds: float) -> str:
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return (
        f"# Caches, side by side: {rounds} interleaved rounds of {seconds} s for each thing\n\n"
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}; {', '.join(found)}.\n"
        "Calls a second, medians. get: of one of 5,000 keys that each process uses; again: of one of a hundred that it has just\n"
        "read; anywhere: of any key there is; many: 50 keys a call; together: aget() by 200 coroutines in one event loop. In brackets how many times faster backroom-sqlite was in the\n"
        "same round. Before each measurement, but that of anywhere, a process did the same once with each of its keys, for as long "
        "at most.\nAll systems do a thing one right after the other, those of more than a hundred thousand entries among them."
    )


def tables(taken: dict[Cell, list[float]]) -> Iterator[str]:
    for entries, size, processes in dict.fromkeys((cell.entries, cell.size, cell.processes) for cell in taken):
        lines = [f"## {size}, {entries:,} entries, {processes} process{'es' if processes > 1 else ''}", ""]
        verbs = list(dict.fromkeys(cell.verb for cell in taken if cell.processes == processes))
        lines += [f"| system | {' | '.join(verbs)} |", f"|---|{'---:|' * len(verbs)}"]
        for name in dict.fromkeys(cell.system for cell in taken):
            cells = [Cell(name, entries, size, processes, verb) for verb in verbs]
            if any(cell in taken for cell in cells):
                lines.append(f"| {name} | {' | '.join(shown(taken, cell) for cell in cells)} |")
        yield "\n".join(lines)


def shown(taken: dict[Cell, list[float]], cell: Cell) -> str:
    if cell not in taken:
        return "–"
    times = ratio(taken, replace(cell, system=SQLITE), cell)
    beside = f" (× {times:.1f})" if times and cell.system != SQLITE else ""
    return f"{median(taken[cell]):,.0f}{beside}"


def goals(taken: dict[Cell, list[float]]) -> str:
    lines = ["## Goals", "", "| goal | wanted | found | |", "|---|---:|---:|---|"]
    few = min(cell.entries for cell in taken)
    for name, verb, peer, wanted in GOALS:
        ours = Cell(name, few, "100 B", 1, verb)
        if found := ratio(taken, ours, replace(ours, system=peer)):
            lines.append(goal(f"{name}: {verb} beside {peer}", wanted, found))
    many = max(cell.entries for cell in taken)
    for verb in VERBS:
        small, large = Cell(SQLITE, few, "100 B", 1, verb), Cell(SQLITE, many, "100 B", 1, verb)
        if few != many and (found := ratio(taken, large, small)):
            lines.append(goal(f"{SQLITE}: {verb} at {many:,} beside {few:,}", AT_A_MILLION_AT_LEAST, found))
    return "\n".join([*lines, *worst(taken)])


def worst(taken: dict[Cell, list[float]]) -> Iterator[str]:
    """Yield, for each system that ours is never to be slower than, the cell in which it comes closest."""
    ours, peers = NEVER_SLOWER
    for peer in peers:
        found = [
            (times, cell)
            for cell in taken
            if cell.system == ours and (times := ratio(taken, cell, replace(cell, system=peer)))
        ]
        if found:
            times, cell = min(found, key=lambda pair: pair[0])
            place = f"{cell.verb}, {cell.size}, {cell.entries:,}, {cell.processes} processes"
            yield goal(f"{ours} beside {peer}, the worst of {len(found)} cells ({place})", 1, times)


def goal(name: str, wanted: float, found: float) -> str:
    return f"| {name} | × {wanted:g} | × {found:.2f} | {verdict(found >= wanted)} |"


def verdict(reached: object) -> str:
    return "reached" if reached else "**not reached**"


def keep(stem: Path, taken: dict[Cell, list[float]], report: str) -> None:
    """Keep what there is: a run that ends early has measured something too."""
    RESULTS.mkdir(exist_ok=True)
    stem.with_suffix(".json").write_text(
        json.dumps([asdict(cell) | {"rates": r} for cell, r in taken.items()], indent=1)
    )
    stem.with_suffix(".md").write_text(report + "\n")
    say(f"kept as {stem.name}.md and .json")


if __name__ == "__main__":
    main()
