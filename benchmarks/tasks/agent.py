"""One errand for one system, in a process of its own: `python -m benchmarks.tasks.agent VERB [ARGUMENT…]`.

The driver says by environment variables which system and which store; the answer is one line of JSON.
"""

import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable
from itertools import batched
from typing import Any

from benchmarks.tasks.processes import cpu_seconds
from benchmarks.tasks.systems import SYSTEMS
from benchmarks.tasks.systems.base import SYSTEM_VARIABLE, System

SERVER_VARIABLE = "BENCH_SERVER"
WARM_UP = 100


def setup(system: System) -> None:
    system.setup()


def fill(system: System, count: str) -> None:
    system.fill(int(count))


def enqueue(system: System, count: str) -> dict[str, float]:
    """Enqueue one by one, after a hundred that are not timed."""
    loop = system.enqueue_loop()
    loop(range(WARM_UP))
    numbers = range(WARM_UP, int(count))
    return _timed(len(numbers), lambda: loop(numbers))


def enqueue_many(system: System, count: str, size: str) -> dict[str, float] | None:
    """Enqueue in calls of `size`, after one that is not timed."""
    many = system.bulk_enqueuer()
    if many is None:
        return None
    batches = [list(batch) for batch in batched(range(int(size) + int(count)), int(size))]
    many(batches.pop(0))

    def loop() -> None:
        for batch in batches:
            many(batch)

    return _timed(int(count), loop)


def trickle(system: System, first: str, count: str, least: str, most: str) -> list[tuple[int, float, float]]:
    """Enqueue single tasks, `least` to `most` milliseconds apart; say when each call began and ended."""
    one = system.enqueuer()
    pauses = random.Random(int(first))
    sent = []
    for number in range(int(first), int(first) + int(count)):
        time.sleep(pauses.uniform(float(least), float(most)) / 1_000)
        began = time.time()
        one(number)
        sent.append((number, began, time.time()))
    return sent


def claims(system: System, count: str) -> dict[str, list[float]]:
    """Claim over and over; return the seconds that each claim took, by the way it was made."""
    took: dict[str, list[float]] = {}
    for label, claim in system.claimers().items():
        for _ in range(10):
            claim(int(label))
        took[label] = []
        for _ in range(int(count) if label == "1" else int(count) // 10):
            start = time.perf_counter()
            claimed = claim(int(label))
            took[label].append(time.perf_counter() - start)
            if len(claimed) != int(label):
                raise RuntimeError(f"{system.label} claimed {len(claimed)} of {label}: the store was not deep enough")
    return took


def results(system: System) -> list[list[float]]:
    return system.results()


def _timed(count: int, loop: Callable[[], object]) -> dict[str, float]:
    server = int(os.environ.get(SERVER_VARIABLE, "0"))
    before, at_server = _own_cpu(), cpu_seconds(server)
    start = time.perf_counter()
    loop()
    seconds = time.perf_counter() - start
    at_client, at_server = _own_cpu() - before, cpu_seconds(server) - at_server
    return {
        "rate": count / seconds,
        "client_us": at_client / count * 1e6,
        "server_us": at_server / count * 1e6,
        "cpu_us": (at_client + at_server) / count * 1e6,
    }


def _own_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb for verb in (setup, fill, enqueue, enqueue_many, trickle, claims, results)
}


def main(verb: str, *arguments: str) -> None:
    system = SYSTEMS[os.environ[SYSTEM_VARIABLE]]
    json.dump(VERBS[verb](system, *arguments), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
