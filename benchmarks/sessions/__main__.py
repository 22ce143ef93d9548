"""Measure session engines side by side and print the tables. `make bench-sessions`, or `python -m benchmarks.sessions`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from pathlib import Path

from benchmarks.sessions.driver import STORES, Plan, measure
from benchmarks.sessions.report import report

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    options = _parser().parse_args()
    # A SIGTERM that is not caught would leave the stores behind.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    if options.report:
        print(report(json.loads(options.report.read_text())))
        return
    plan = Plan(
        stores=options.stores,
        depths=[1_000] if options.quick else options.depths,
        rounds=1 if options.quick else options.rounds,
        count=100 if options.quick else options.count,
    )
    taken = measure(plan, options.directory)
    text = report(taken)
    print(text)
    if not options.quick or options.output:
        folder = options.output or RESULTS
        folder.mkdir(parents=True, exist_ok=True)
        stem = folder / f"sessions-{time.strftime('%Y%m%d-%H%M')}"
        stem.with_suffix(".json").write_text(json.dumps(taken, indent=1) + "\n")
        stem.with_suffix(".md").write_text(text + "\n")
        print(f"Kept as {stem.name}.json and .md", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sessions", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke run of seconds; its figures mean nothing")
    parser.add_argument("--stores", type=lambda text: text.split(","), default=list(STORES), help="with commas")
    parser.add_argument(
        "--depths",
        type=lambda text: [int(each) for each in text.split(",")],
        default=[1_000, 1_000_000],
        help="stored sessions",
    )
    parser.add_argument("--rounds", type=int, default=7, help="default %(default)s")
    parser.add_argument("--count", type=int, default=500, help="operations a round; default %(default)s")
    parser.add_argument("--directory", type=Path, help="where the stores are made; on the disk that is to be measured")
    parser.add_argument("--output", type=Path, help="where JSON and Markdown go; default results/, quick: nowhere")
    parser.add_argument("--report", type=Path, metavar="JSON", help="only print the tables of an earlier run")
    return parser


if __name__ == "__main__":
    main()
