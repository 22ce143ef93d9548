"""The command line: what is measured, the tables, and whether the goals are reached."""

import argparse
import json
import platform
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from benchmarks.cache.driver import VERBS, Agents, Cell, measure, ratio
from benchmarks.cache.systems import AT_A_MILLION, caches, servers
from benchmarks.cache.traces import table

RESULTS = Path(__file__).parents[1] / "results"
OURS = "backroom"
SIZES = ("100 B", "10 kB", "dict")
GOALS = (
    ("get", "redis", 15.0),
    ("get", "diskcache", 1.0),
    ("set", "diskcache", 2.0),
    ("incr", "diskcache", 2.0),
    ("get_many", "diskcache", 3.0),
    ("set_many", "diskcache", 10.0),
)
"""At 100 B, ten thousand entries and one process: how many times faster ours is to be."""
AT_A_MILLION_AT_LEAST = 0.75
PACKAGES = ("Django", "redis", "hiredis", "pymemcache", "pylibmc", "django-redis", "django-valkey", "diskcache")


def main() -> None:
    options = asked_for()
    if options.traces:
        print(table(quick=options.quick))
        return
    taken: dict[Cell, list[float]] = {}
    for entries in options.entries:
        for size in options.sizes:
            names = [name for name in options.systems if entries <= 100_000 or name in AT_A_MILLION]
            taken |= one_store(names, entries, size, options)
    report = "\n\n".join([heading(options.rounds, options.seconds), *tables(taken), goals(taken)])
    print(report)
    if not options.quick:
        keep(taken, report)


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.cache", description=__doc__)
    every = list(caches(Path()))
    made.add_argument("--quick", action="store_true", help="a smoke run: short, one size, one store")
    made.add_argument("--systems", type=lambda text: text.split(","), default=every, help=", ".join(every))
    made.add_argument("--sizes", type=lambda text: text.split(","), default=list(SIZES), help=", ".join(SIZES))
    made.add_argument("--entries", type=lambda text: [int(n) for n in text.split(",")], default=[10_000, 1_000_000])
    made.add_argument("--processes", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 8])
    made.add_argument("--rounds", type=int, default=5)
    made.add_argument("--seconds", type=float, default=0.3, help="of each thing in each round")
    made.add_argument("--traces", action="store_true", help="print the hit ratios of eviction on three traces instead")
    return made


def asked_for() -> argparse.Namespace:
    options = parser().parse_args()
    if options.quick:
        options.entries, options.sizes, options.rounds, options.seconds = [1_000], ["100 B"], 2, 0.05
        options.processes = [1, 2]
    return options


def one_store(names: list[str], entries: int, size: str, options: argparse.Namespace) -> dict[Cell, list[float]]:
    with tempfile.TemporaryDirectory(prefix="bench-cache-") as name:
        folder = Path(name)
        settings = caches(folder)
        with servers(folder, names):
            agents = {
                each: Agents(settings[each], folder / "site.sqlite3", entries, max(options.processes)) for each in names
            }
            try:
                return measure(
                    agents,
                    entries=entries,
                    size=size,
                    processes=options.processes,
                    rounds=options.rounds,
                    seconds=options.seconds,
                )
            finally:
                for group in agents.values():
                    group.close()


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
        "Calls a second, medians; many = 50 keys a call. In brackets how many times faster ours was in the same round."
    )


def tables(taken: dict[Cell, list[float]]) -> Iterator[str]:
    for entries, size, processes in dict.fromkeys((cell.entries, cell.size, cell.processes) for cell in taken):
        lines = [f"## {size}, {entries:,} entries, {processes} process{'es' if processes > 1 else ''}", ""]
        lines += [f"| system | {' | '.join(VERBS)} |", f"|---|{'---:|' * len(VERBS)}"]
        for name in dict.fromkeys(cell.system for cell in taken):
            cells = [Cell(name, entries, size, processes, verb) for verb in VERBS]
            if any(cell in taken for cell in cells):
                lines.append(f"| {name} | {' | '.join(shown(taken, cell) for cell in cells)} |")
        yield "\n".join(lines)


def shown(taken: dict[Cell, list[float]], cell: Cell) -> str:
    if cell not in taken:
        return "–"
    times = ratio(taken, replace(cell, system=OURS), cell)
    beside = f" (× {times:.1f})" if times and cell.system != OURS else ""
    return f"{median(taken[cell]):,.0f}{beside}"


def goals(taken: dict[Cell, list[float]]) -> str:
    lines = ["## Goals", "", "| goal | wanted | found | |", "|---|---:|---:|---|"]
    few = min(cell.entries for cell in taken)
    for verb, peer, wanted in GOALS:
        ours = Cell(OURS, few, "100 B", 1, verb)
        found = ratio(taken, ours, replace(ours, system=peer))
        if found:
            lines.append(f"| {verb} beside {peer} | × {wanted:g} | × {found:.2f} | {verdict(found >= wanted)} |")
    many = max(cell.entries for cell in taken)
    for verb in VERBS:
        small, large = Cell(OURS, few, "100 B", 1, verb), Cell(OURS, many, "100 B", 1, verb)
        if few != many and small in taken and large in taken:
            found = median(taken[large]) / median(taken[small])
            wanted = AT_A_MILLION_AT_LEAST
            lines.append(
                f"| {verb} at {many:,} beside {few:,} | × {wanted:g} | × {found:.2f} | {verdict(found >= wanted)} |"
            )
    return "\n".join(lines)


def verdict(reached: object) -> str:
    return "reached" if reached else "**not reached**"


def keep(taken: dict[Cell, list[float]], report: str) -> None:
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"cache-{time.strftime('%Y%m%d-%H%M')}"
    stem.with_suffix(".json").write_text(
        json.dumps([asdict(cell) | {"rates": r} for cell, r in taken.items()], indent=1)
    )
    stem.with_suffix(".md").write_text(report + "\n")
    print(f"Kept as {stem.name}.md and .json", file=sys.stderr)


if __name__ == "__main__":
    main()
