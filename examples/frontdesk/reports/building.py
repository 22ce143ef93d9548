"""The slow part: everything that is found out about a table. See `figures` for what comes of it.

It runs in a worker, or in the request on the page that shows why it should not. It knows neither: whoever calls it
hears how far it has come, and stops it by raising from there.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import date
from typing import IO, Final

from reports import world
from reports.columns import Column, Histogram, histogram, located, spread, understand
from reports.encodings import ENCODINGS
from reports.figures import (
    ColumnFigures,
    ComparisonFigures,
    DateFigures,
    Figures,
    GroupFigures,
    HistogramFigures,
    IntervalFigures,
    MapFigures,
    NumberFigures,
)
from reports.neighbours import nearest
from reports.progress import Meter, Report
from reports.sampling import Interval, bootstrap, quantile
from reports.table import Layout, read, survey

COMMON: Final = 10
GROUPS: Final = 12
LONELIEST: Final = 10
LONGEST: Final = 80

RESAMPLES: Final = 1_000
GROUP_RESAMPLES: Final = 400
# Beyond so many drawn numbers a table gets fewer resamples, so that the largest file takes minutes, not hours.
DRAWS: Final = 60_000_000
WITH_INTERVALS: Final = 12
GROUPED: Final = 3


def build(source: IO[bytes], *, name: str, report: Report = lambda _percent, _message: None) -> Figures:
    """Read all of a CSV file and return its report; raise `NotATable` if it is none."""
    layout = survey(source)
    meter = Meter(report)
    cells = read(source, layout, tick=meter.stage(0.04, "Reading rows", layout.rows))
    columns = _understood(layout, cells, meter.stage(0.04, "Looking at columns", len(cells)))
    work = _Work(columns, meter, share=0.92)
    mapped = _map(columns, work)
    found = [_column(column, work) for column in columns]
    comparisons = _comparisons(work)
    return {
        "name": printable(name),
        "rows": layout.rows,
        "cells": layout.rows * len(columns),
        "missing": sum(column["missing"] for column in found),
        "repeated_rows": layout.rows - len({hash(row) for row in zip(*cells, strict=True)}),
        "resamples": work.drawn,
        "file": {
            "size": layout.size,
            "encoding": ENCODINGS[layout.encoding],
            "is_encoding_assumed": layout.is_encoding_assumed,
            "delimiter": layout.delimiter,
        },
        "columns": found,
        "comparisons": comparisons,
        "map": mapped,
    }


def printable(text: str, limit: int = LONGEST) -> str:
    """Return text fit for a label: without marks that turn the direction of what follows, and not too long."""
    shown = "".join(character if character.isprintable() else " " for character in text)
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


class _Work:
    """What is still to be done after reading, and how the progress bar is divided among it."""

    def __init__(self, columns: Sequence[Column], meter: Meter, *, share: float) -> None:
        self._meter = meter
        self.drawn = 0
        numeric = [column for column in columns if column.kind == "number"]
        self.with_intervals = {column.name for column in numeric[:WITH_INTERVALS]}
        drawn_from = sum(column.filled for column in numeric[:WITH_INTERVALS])
        self.resamples = min(RESAMPLES, max(100, DRAWS // max(drawn_from, 1)))
        self.categories = _categories(columns)
        self.grouped = numeric[:GROUPED] if self.categories else []
        self.groups = {column.name: _groups(column, self.categories) for column in self.grouped if self.categories}
        grouped_from = sum(len(values) for groups in self.groups.values() for _, values in groups)
        self.group_resamples = min(GROUP_RESAMPLES, max(60, DRAWS // 2 // max(grouped_from, 1)))
        # In millionths of a second on an ordinary machine; only their proportion matters.
        places = len(columns[0].cells) if any(column.kind == "latitude" for column in columns) else 0
        cost = 30 * places + 0.4 * (drawn_from * self.resamples + grouped_from * self.group_resamples)
        self._scale = share / max(cost, 1)

    def measuring(self, places: int) -> Callable[[int], None]:
        """Begin to look for neighbours."""
        return self._meter.stage(self._scale * 30 * places, "Looking for the nearest neighbour of places", places)

    def drawing(self, what: str, size: int, resamples: int) -> Callable[[int], None]:
        """Begin to draw samples."""
        self.drawn += resamples
        message = f"Drawing samples of {printable(what, 40)}"
        return self._meter.stage(self._scale * 0.4 * size * resamples, message, resamples)


def _understood(layout: Layout, cells: list[list[str]], tick: Callable[[int], None]) -> list[Column]:
    columns = []
    for index, (name, column) in enumerate(zip(layout.header, cells, strict=True), start=1):
        columns.append(understand(name, column, decimal_comma=layout.delimiter == ";"))
        tick(index)
    return located(columns)


# ── Columns ──────────────────────────────────────────────────────────────────────────────────────


def _column(column: Column, work: _Work) -> ColumnFigures:
    counts = Counter(column.counts)
    figures: ColumnFigures = {
        "name": printable(column.name),
        "kind": column.kind,
        "filled": column.filled,
        "missing": len(column.cells) - column.filled,
        "distinct": len(counts),
        "common": [{"value": printable(value), "count": count} for value, count in counts.most_common(COMMON)],
    }
    if column.kind in {"number", "latitude", "longitude"}:
        figures["numbers"] = _numbers(column, work)
    elif column.kind == "date":
        figures["dates"] = _dates(column)
    return figures


def _numbers(column: Column, work: _Work) -> NumberFigures:
    ordered = column.ordered
    shape = spread(ordered)
    is_whole = all(value.is_integer() for value in ordered)
    figures: NumberFigures = {
        "smallest": shape.smallest,
        "lower_quartile": shape.lower_quartile,
        "median": shape.median,
        "mean": shape.mean,
        "upper_quartile": shape.upper_quartile,
        "largest": shape.largest,
        "deviation": shape.deviation,
        "histogram": _histogram(histogram(ordered, whole=is_whole)),
    }
    if column.name in work.with_intervals and len(ordered) > 1:
        tick = work.drawing(column.name, len(ordered), work.resamples)
        drawn = bootstrap(ordered, resamples=work.resamples, tick=tick)
        figures["mean_interval"] = _interval(drawn.mean)
        figures["median_interval"] = _interval(drawn.median)
        figures["resampled_means"] = _histogram(histogram(drawn.means, bins=24))
        figures["resamples"] = work.resamples
    return figures


def _dates(column: Column) -> DateFigures:
    ordered = column.ordered
    return {
        "earliest": date.fromordinal(int(ordered[0])).isoformat(),
        "latest": date.fromordinal(int(ordered[-1])).isoformat(),
        "histogram": _histogram(histogram(ordered, whole=True)),
    }


def _histogram(counted: Histogram) -> HistogramFigures:
    return {"edges": counted.edges, "counts": counted.counts, "below": counted.below, "above": counted.above}


def _interval(interval: Interval) -> IntervalFigures:
    return {"estimate": interval.estimate, "low": interval.low, "high": interval.high}


# ── Comparisons ──────────────────────────────────────────────────────────────────────────────────


def _categories(columns: Sequence[Column]) -> Column | None:
    """Return the column that divides the table into the fewest groups, of at least three."""
    usable = [column for column in columns if column.kind == "category" and len(column.counts) >= 3]
    return min(usable, key=lambda column: len(column.counts), default=None)


def _groups(column: Column, categories: Column | None) -> list[tuple[str, list[float]]]:
    """Return the largest groups and their numbers."""
    if categories is None:
        return []
    groups: dict[str, list[float]] = defaultdict(list)
    for cell, value in zip(categories.cells, column.values, strict=True):
        if value is not None and cell in categories.counts:
            groups[cell].append(value)
    largest = sorted(groups.items(), key=lambda group: (-len(group[1]), group[0]))[:GROUPS]
    return [(name, values) for name, values in largest if len(values) >= 5]


def _comparisons(work: _Work) -> list[ComparisonFigures]:
    comparisons: list[ComparisonFigures] = []
    for column in work.grouped:
        groups = [_group(name, values, column, work) for name, values in work.groups[column.name]]
        if len(groups) > 1 and work.categories:
            comparisons.append(
                {
                    "numbers": printable(column.name),
                    "categories": printable(work.categories.name),
                    "resamples": work.group_resamples,
                    "groups": groups,
                }
            )
    return comparisons


def _group(name: str, values: list[float], column: Column, work: _Work) -> GroupFigures:
    tick = work.drawing(f"{column.name} in {name}", len(values), work.group_resamples)
    drawn = bootstrap(values, resamples=work.group_resamples, tick=tick)
    return {"name": printable(name), "count": len(values), "median": _interval(drawn.median)}


# ── Map ──────────────────────────────────────────────────────────────────────────────────────────


def _map(columns: Sequence[Column], work: _Work) -> MapFigures | None:
    by_kind = {column.kind: column for column in columns}
    if "latitude" not in by_kind or "longitude" not in by_kind:
        return None
    names = _names(columns)
    placed = [
        (latitude, longitude, name)
        for latitude, longitude, name in zip(
            by_kind["latitude"].values, by_kind["longitude"].values, names, strict=True
        )
        if latitude is not None and longitude is not None
    ]
    places = [(latitude, longitude) for latitude, longitude, _ in placed]
    dots = Counter(world.dot_at(*place) for place in places)
    neighbours = nearest(places, tick=work.measuring(len(places)))
    furthest = sorted(range(len(neighbours)), key=lambda index: -neighbours[index].kilometres)[:LONELIEST]
    return {
        "places": len(places),
        "dots": [_dot(dot, count) for dot, count in sorted(dots.items())],
        "median_kilometres": quantile(sorted(each.kilometres for each in neighbours), 0.5) if neighbours else 0.0,
        "loneliest": [
            {
                "name": printable(placed[index][2]),
                "latitude": places[index][0],
                "longitude": places[index][1],
                "nearest": printable(placed[neighbours[index].other][2]),
                "kilometres": neighbours[index].kilometres,
            }
            for index in furthest
        ],
    }


def _dot(dot: world.Dot, count: int) -> tuple[float, float, int]:
    latitude, longitude = world.place_of(dot)
    return round(latitude, 2), round(longitude, 2), count


def _names(columns: Sequence[Column]) -> list[str]:
    """Return what to call each row: its name, with its category if there is one."""
    words = [column for column in columns if column.kind in {"text", "identifier", "category"} and not column.values]
    named = [column for column in words if column.name.lower() in {"name", "title", "label"}]
    best = next(iter(named + [column for column in words if column.kind != "category"]), None)
    if best is None:
        return [f"Row {index:,}" for index in range(1, len(columns[0].cells) + 1)]
    categories = _categories(columns)
    if categories is None or categories is best:
        return best.cells
    return [", ".join(filter(None, pair)) for pair in zip(best.cells, categories.cells, strict=True)]
