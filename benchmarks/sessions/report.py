"""The tables: medians with (min–max), how many times better Backroom is round by round, and what it set out to reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

Taken = dict[str, Any]
TITLES = {"load": "Load", "load_change_save": "Load, change one name, save", "create": "Create"}
GOALS = (
    ("sqlite", "django db", "load", 3.0),
    ("postgresql", "django db", "load", 2.0),
    ("sqlite", "django db", "load_change_save", 3.0),
    ("postgresql", "django db", "load_change_save", 3.0),
    ("redis", "django cache", "load", 1.5),
    ("redis", "django cache", "load_change_save", 2.5),
)


def report(taken: Taken) -> str:
    """Return the whole report in Markdown."""
    parts = [_heading(taken), *(_table(taken, metric) for metric in TITLES), _goals(taken)]
    return "\n\n".join(parts)


def _heading(taken: Taken) -> str:
    machine = taken["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in taken["versions"].items())
    return (
        f"# Sessions, side by side: {taken['taken']} UTC, {taken['rounds']} interleaved rounds of {taken['count']}\n\n"
        f"{machine['cores']} cores ({machine['cpu']}), {machine['memory']}, {machine['filesystem']}, kernel "
        f"{machine['kernel']}; Python {machine['python']}, SQLite {machine['sqlite']}, {versions}. Others used "
        f"{taken['foreign']:.0%} of the machine meanwhile.\n\n"
        "One process, one operation after the other. Operations a second: medians with (min–max) over the rounds. "
        "*Backroom* says how many times as many Backroom did in the same round. CPU is user and system time an "
        "operation in µs, of the client and of the server; where others use the machine, it says more than the rate "
        "does. *Sent* is statements, BEGIN and COMMIT among them, or commands, an operation."
    )


def _table(taken: Taken, metric: str) -> str:
    lines = [
        f"## {TITLES[metric]}",
        "",
        "| engine | stored | a second | Backroom | client CPU | server CPU | Backroom, by CPU | sent |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for system, depth in _measured(taken, metric):
        rates = _figures(taken, metric, system, depth, "rate")
        ours = f"backroom:{system.partition(':')[2]}"
        times = costs = "–"
        if system != ours and (mine := _figures(taken, metric, ours, depth, "rate")):
            times = f"× {_spread([a / b for a, b in zip(mine, rates, strict=True)])}"
            costs = f"× {_cost(taken, metric, system, depth) / _cost(taken, metric, ours, depth):.2f}"
        client, server = (median(_figures(taken, metric, system, depth, name)) for name in ("client_us", "server_us"))
        sent = next(iter(_figures(taken, "statements", system, depth, metric)), 0.0)
        lines.append(
            f"| {system} | {depth:,} | {_spread(rates)} | {times} | {client:.0f} | {server:.0f} | {costs} | {sent:.2g} |"
        )
    return "\n".join(lines)


def _goals(taken: Taken) -> str:
    lines = ["## Goals", "", "| goal | stored | wanted | by rate | by CPU | reached |", "|---|---:|---:|---:|---:|---|"]
    for store, peer, metric, wanted in GOALS:
        for depth in taken["depths"]:
            ours, theirs = f"backroom:{store}", f"{peer}:{store}"
            mine, peers = (_figures(taken, metric, label, depth, "rate") for label in (ours, theirs))
            if not mine or not peers:
                continue
            rate = median(a / b for a, b in zip(mine, peers, strict=True))
            cost = _cost(taken, metric, theirs, depth) / _cost(taken, metric, ours, depth)
            reached = "yes" if rate >= wanted else "**no**"
            lines.append(
                f"| {TITLES[metric]}, over {theirs} | {depth:,} | ≥ × {wanted:g} | × {rate:.2f} | × {cost:.2f} | {reached} |"
            )
    return "\n".join(lines)


def _cost(taken: Taken, metric: str, system: str, depth: int) -> float:
    client, server = (_figures(taken, metric, system, depth, name) for name in ("client_us", "server_us"))
    return median(a + b for a, b in zip(client, server, strict=True))


def _measured(taken: Taken, metric: str) -> Iterator[tuple[str, int]]:
    seen = dict.fromkeys(
        (sample["system"], sample["depth"]) for sample in taken["samples"] if sample["metric"] == metric
    )
    order: Callable[[tuple[str, int]], tuple[str, int]] = lambda each: (each[0].partition(":")[2], each[1])  # noqa: E731
    yield from sorted(seen, key=order)


def _figures(taken: Taken, metric: str, system: str, depth: int, name: str) -> list[float]:
    return [
        sample["figures"][name]
        for sample in taken["samples"]
        if sample["metric"] == metric and sample["system"] == system and sample["depth"] == depth
    ]


def _spread(values: list[float]) -> str:
    if len(values) == 1:
        return _number(values[0])
    return f"{_number(median(values))} ({_number(min(values))}–{_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
