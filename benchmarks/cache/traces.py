"""The hit ratio of what SQLiteCache forgets, beside LRU and FIFO, on three shapes of traces.

The shapes are generated, after those that the literature reports of published traces: Zipf's popularity (Twitter's cache
clusters, Yang, Yue and Rashmi, OSDI 2020), hot keys with scans and loops between (MSR Cambridge's block traces and ARC's
P- and S-traces, as in the evaluation of S3-FIFO, SOSP 2023), and popularity that moves on (Wikipedia's CDN and Meta's,
as in LRB, NSDI 2020). Ours is the backend itself, with its file, and MAX_ENTRIES.
"""

import itertools
import random
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path


def table(*, quick: bool = False) -> str:
    """Return the table in Markdown."""
    from django.conf import settings

    if not settings.configured:
        settings.configure(SECRET_KEY="benchmark")
    length = 20_000 if quick else 200_000
    lines = ["| trace | entries kept | FIFO | LRU | SQLiteCache |", "|---|---:|---:|---:|---:|"]
    for name, make in TRACES.items():
        trace = make(length)
        for kept in (500, 2_000, 5_000):
            ratios = (fifo(trace, kept), lru(trace, kept), ours(trace, kept))
            lines.append(f"| {name} | {kept:,} | {' | '.join(f'{ratio:.1%}' for ratio in ratios)} |")
    return "\n".join(lines)


def zipf(length: int, *, keys: int = 50_000, seed: int = 1) -> list[int]:
    weights = itertools.accumulate(1 / rank**0.9 for rank in range(1, keys + 1))
    return random.Random(seed).choices(range(keys), cum_weights=list(weights), k=length)


def scans_and_loops(length: int) -> list[int]:
    draw, hot = random.Random(2), iter(zipf(length, keys=20_000, seed=2))
    trace: list[int] = []
    scanned = 1_000_000
    while len(trace) < length:
        trace += itertools.islice(hot, 3_000)
        if draw.random() < 0.5:
            trace += range(scanned, scanned + 3_000)
            scanned += 3_000
        else:
            trace += range(500_000, 503_000)
    return trace[:length]


def moving_on(length: int, *, phases: int = 10, keys: int = 20_000) -> list[int]:
    trace: list[int] = []
    for phase in range(phases):
        trace += [key + phase * keys // 4 for key in zipf(length // phases, keys=keys, seed=3 + phase)]
    return trace


def lru(trace: Sequence[int], kept: int) -> float:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in cache:
            hits += 1
            cache.move_to_end(key)
            continue
        if len(cache) >= kept:
            cache.popitem(last=False)
        cache[key] = None
    return hits / len(trace)


def fifo(trace: Sequence[int], kept: int) -> float:
    cache: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for key in trace:
        if key in cache:
            hits += 1
            continue
        if len(cache) >= kept:
            cache.popitem(last=False)
        cache[key] = None
    return hits / len(trace)


def ours(trace: Sequence[int], kept: int) -> float:
    from backroom.cache.backends.sqlite import SQLiteCache

    hits = 0
    with tempfile.TemporaryDirectory() as folder:
        cache = SQLiteCache(Path(folder) / "cache.sqlite3", {"OPTIONS": {"MAX_ENTRIES": kept}, "TIMEOUT": None})
        for key in trace:
            if cache.get(key) is None:
                cache.set(key, 1)
            else:
                hits += 1
    return hits / len(trace)


TRACES: dict[str, Callable[[int], list[int]]] = {
    "Zipf": zipf,
    "scans and loops": scans_and_loops,
    "popularity moving on": moving_on,
}
