"""The command line: what to measure, and where the figures go."""

import argparse
import compileall
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from benchmarks.tasks.driver import METRICS, Plan, measure
from benchmarks.tasks.metrics import Sizes
from benchmarks.tasks.redis_stores import server_program
from benchmarks.tasks.report import report
from benchmarks.tasks.rig import ROOT
from benchmarks.tasks.systems import SYSTEMS
from benchmarks.tasks.systems.base import VALKEY, System

RESULTS = Path(__file__).parents[1] / "results"
QUICK = Sizes(
    enqueue=600,
    bulk=2_000,
    drain=500,
    latency=5,
    rest=0.2,
    idle=0.3,
    depths=(1_000, 5_000),
    at_depth=300,
    claims=50,
    counted=(100, 600),
)
QUICK_METRICS = ("enqueue", "drain")
"""Of a quick run that names no metric: every store is reached in every way, bulk calls to fill it included."""


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.report:
        print(report(json.loads(options.report.read_text())))
        return
    metrics = options.metrics or (QUICK_METRICS if options.quick else METRICS)
    plan = Plan(
        systems=_systems(options.systems or []),
        metrics=[metric for metric in METRICS if metric in metrics],
        rounds=1 if options.quick else options.rounds,
        sizes=_sizes(options),
        patience=0 if options.quick else options.patience,
    )
    _compile()
    taken = {**measure(plan, options.directory), "is_quick": options.quick}
    text = report(taken)
    print(text)
    if not options.quick or options.output:
        _keep(options.output or RESULTS, taken, text)


def _compile() -> None:
    """Do for Backroom, which is measured as it lies here, what pip does for the others.

    Where no bytecode is to be written each of its processes would compile it anew, and hold the memory that this takes.
    """
    compileall.compile_dir(ROOT / "src" / "backroom", quiet=2)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help=f"a smoke run of all in a few minutes: small numbers, one round, no waiting; only {', '.join(QUICK_METRICS)} "
        "unless told otherwise",
    )
    parser.add_argument(
        *("--systems", "-s"),
        type=_words,
        help="with commas: labels, or some of their parts in order, such as backroom, redis, backroom-redis or "
        f"celery-prefork; there are {', '.join(SYSTEMS)}",
    )
    parser.add_argument(*("--metrics", "-m"), type=_metrics, help=f"with commas; there are {', '.join(METRICS)}")
    parser.add_argument("--depths", type=_numbers, help="of waiting tasks, with commas; default 1000,1000000")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument(
        "--patience", type=float, default=60, help="seconds to wait for a quiet machine before each run (%(default)s)"
    )
    parser.add_argument("--directory", type=Path, help="where the stores are made; on the disk that is to be measured")
    parser.add_argument(
        "--output", type=Path, help=f"where JSON and Markdown go; default {RESULTS.name}/, quick: nowhere"
    )
    parser.add_argument("--report", type=Path, metavar="JSON", help="only print the tables of an earlier run")
    return parser


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted(int(word.replace("_", "")) for word in _words(text)))


def _sizes(options: argparse.Namespace) -> Sizes:
    sizes = QUICK if options.quick else Sizes()
    return replace(sizes, depths=options.depths) if options.depths else sizes


def _metrics(text: str) -> list[str]:
    words = _words(text)
    if unknown := set(words) - set(METRICS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(METRICS)}")
    return words


def _systems(words: Sequence[str]) -> list[System]:
    """Return the systems that are asked for, each word by itself; all when none is said."""
    wanted = set() if words else set(SYSTEMS)
    for word in words:
        found = _labels(word)
        if not found:
            sys.exit(f"No system matches {word!r}. There are: {', '.join(SYSTEMS)}")
        wanted |= found
    return [SYSTEMS[label] for label in SYSTEMS if label in wanted and _is_here(SYSTEMS[label])]


def _labels(word: str) -> set[str]:
    """Return the one label that a word spells in full, or else those of which it names some parts in their order."""
    word = word.replace(":", "-")
    spellings = {label: label.split(":") for label in SYSTEMS}
    exact = {label for label, parts in spellings.items() if "-".join(parts) == word}
    return exact or {
        label
        for label, parts in spellings.items()
        for length in range(1, len(parts))
        if word in {"-".join(some) for some in combinations(parts, length)}
    }


def _is_here(system: System) -> bool:
    """Tell whether the system's server is on this machine; only Valkey, which Debian 12 lacks, may be missing."""
    if system.store == VALKEY:
        try:
            server_program(VALKEY)
        except RuntimeError as missing:
            print(f"{system.label} is left out: {missing}", file=sys.stderr)
            return False
    return True


def _keep(folder: Path, taken: dict[str, object], text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"tasks-{time.strftime('%Y%m%d-%H%M')}"
    stem.with_suffix(".json").write_text(json.dumps(taken, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")
    print(f"Kept as {stem.name}.json and .md", file=sys.stderr)


if __name__ == "__main__":
    main()
