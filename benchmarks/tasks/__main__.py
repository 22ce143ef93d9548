"""The command line: what to measure, and where the figures go."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.tasks.driver import METRICS, Plan, measure
from benchmarks.tasks.metrics import Sizes
from benchmarks.tasks.report import report
from benchmarks.tasks.systems import SYSTEMS

RESULTS = Path(__file__).parents[1] / "results"
QUICK = Sizes(
    enqueue=600,
    bulk=2_000,
    drain=500,
    latency=10,
    depths=(1_000, 5_000),
    at_depth=300,
    claims=50,
    counted=(100, 600),
)
QUICK_SYSTEMS = ["backroom:sqlite", "backroom:pg", "django-tasks-db"]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parser().parse_args(arguments)
    if options.report:
        print(report(json.loads(options.report.read_text())))
        return
    words = options.systems or (QUICK_SYSTEMS if options.quick else [])
    plan = Plan(
        systems=[SYSTEMS[label] for label in SYSTEMS if _wanted(label, words)],
        metrics=[metric for metric in METRICS if metric in (options.metrics or METRICS)],
        rounds=1 if options.quick else options.rounds,
        sizes=_sizes(options),
        patience=0 if options.quick else options.patience,
    )
    if not plan.systems:
        sys.exit(f"No system matches {options.systems}. There are: {', '.join(SYSTEMS)}")
    taken = {**measure(plan, options.directory), "is_quick": options.quick}
    text = report(taken)
    print(text)
    if not options.quick or options.output:
        _keep(options.output or RESULTS, taken, text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks", description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a smoke run of a minute: small numbers, one round, no waiting; unless told otherwise only Backroom and one peer",
    )
    parser.add_argument(
        *("--systems", "-s"), type=_words, help=f"names or labels, with commas; there are {', '.join(SYSTEMS)}"
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


def _wanted(label: str, words: Sequence[str]) -> bool:
    """Tell whether a label is asked for: by itself, by its name, or by its store."""
    return not words or any(label == word or word in label.split(":")[:2] for word in words)


def _keep(folder: Path, taken: dict[str, object], text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"tasks-{time.strftime('%Y%m%d-%H%M')}"
    stem.with_suffix(".json").write_text(json.dumps(taken, indent=1) + "\n")
    stem.with_suffix(".md").write_text(text + "\n")
    print(f"Kept as {stem.name}.json and .md", file=sys.stderr)


if __name__ == "__main__":
    main()
