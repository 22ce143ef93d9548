"""Interleaved rounds: in each, every system does a thing for a fraction of a second before any does the next thing."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import select
from statistics import median
from typing import Any

VERBS = ("get", "again", "miss", "set", "get_many", "set_many", "incr", "together", "anywhere")
ALONE = {"again", "anywhere", "together"}
"""What is asked of one process only: many say no more of it."""
CANNOT = {("dummy", "incr"), ("django-valkey", "together")}
"""Adding to what is not kept; asynchronous functions."""
ANSWER_PATIENCE = 900
"""Seconds that a system has for what it is told; filling takes the longest."""
PATIENCE = 10
"""Seconds that a process may take to end."""


@dataclass(frozen=True)
class Cell:
    """What one figure is of."""

    system: str
    entries: int
    size: str
    processes: int
    verb: str


class Agents:
    """The processes of one system on one store."""

    def __init__(self, caches: dict[str, dict[str, Any]], database: Path, entries: int, processes: int) -> None:
        self.name = f"{caches['default']['BACKEND']} with {entries:,} entries"
        self.running = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.cache.agent"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]
        for number, process in enumerate(self.running):
            order = {"caches": caches, "database": str(database), "entries": entries, "number": number}
            self._say(process, order)

    def ask(self, verb: str, size: str, seconds: float, *, of: int) -> float:
        """Return what so many of the processes answer, in all."""
        if verb != "anywhere":
            # What was done before, by other processes too, has left them cold for their keys. Measured is the usual state.
            self.begin(verb, size, seconds, of=of, is_once=True)
            self.end(of=of)
        self.begin(verb, size, seconds, of=of)
        return self.end(of=of)

    def begin(self, verb: str, size: str, seconds: float, *, of: int, is_once: bool = False) -> None:
        """Let so many of the processes begin in the same moment, when each of them has had time to draw its keys."""
        moment = time.monotonic() + 0.005 + 0.002 * of
        for process in self.running[:of]:
            self._say(process, [verb, size, moment, seconds, is_once])

    def end(self, *, of: int) -> float:
        """Wait for what was begun, and return what they answer, in all."""
        return sum(float(self._answer(process)) for process in self.running[:of])

    def close(self) -> None:
        """End them, also those that are in the middle of something because another has failed."""
        for process in self.running:
            assert process.stdin
            with suppress(BrokenPipeError):
                process.stdin.close()
        for process in self.running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    @staticmethod
    def _say(process: "subprocess.Popen[str]", what: Any) -> None:
        assert process.stdin
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()

    def _answer(self, process: "subprocess.Popen[str]") -> str:
        assert process.stdout
        if not select([process.stdout], [], [], ANSWER_PATIENCE)[0]:
            raise SystemExit(f"{self.name} has said nothing for {ANSWER_PATIENCE} s.")
        if not (line := process.stdout.readline()):
            raise SystemExit(f"{self.name} ended in the middle of the measurement; what it says is above.")
        return line


def measure(
    agents: dict[tuple[str, int], Agents],
    *,
    verbs: Sequence[str],
    size: str,
    processes: Sequence[int],
    rounds: int,
    seconds: float,
) -> dict[Cell, list[float]]:
    """Fill every store and return its rates, one a round; of large and small ones in the same rounds."""
    taken: dict[Cell, list[float]] = {}
    fill(agents, size)
    begun = time.monotonic()
    for turn in range(rounds):
        # Nobody always comes after the same one; but a system's large store right after its small one.
        names = sorted({name for name, _ in agents})
        random.Random(turn).shuffle(names)
        order = [(place, agents[place]) for name in names for place in sorted(agents) if place[0] == name]
        for count in processes:
            for verb in verbs:
                # What is compared is measured one right after the other: a shared machine is twice as fast at times.
                for (name, entries), group in order:
                    if (name, verb) not in CANNOT and (count == min(processes) or verb not in ALONE):
                        rate = group.ask(verb, size, seconds, of=count)
                        taken.setdefault(Cell(name, entries, size, count, verb), []).append(rate)
        left = (time.monotonic() - begun) / (turn + 1) * (rounds - turn - 1)
        say(f"{size}: round {turn + 1} of {rounds} done, {left:.0f} s to go")
    return taken


def fill(agents: dict[tuple[str, int], Agents], size: str) -> None:
    """Fill every store, all at once: what is idle while it waits for its server leaves a core to others."""
    say(f"{size}: filling {len(agents)} stores")
    begun = time.monotonic()
    # What lives in the process has to be filled in each.
    filling = {
        (name, entries): len(group.running) if name == "locmem" else 1 for (name, entries), group in agents.items()
    }
    for place, group in agents.items():
        group.begin("fill", size, 0, of=filling[place])
    for place, group in agents.items():
        group.end(of=filling[place])
    say(f"{size}: filled in {time.monotonic() - begun:.0f} s")


def say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


def ratio(taken: dict[Cell, list[float]], ours: Cell, theirs: Cell) -> float | None:
    """Return how many times faster ours was, in the median of the rounds."""
    if ours not in taken or theirs not in taken:
        return None
    return median(one / other for one, other in zip(taken[ours], taken[theirs], strict=True))
