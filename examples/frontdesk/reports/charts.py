"""Figures as shapes: where each bar, dot and whisker stands. Knows neither how a worker found them nor what a page is.

Positions are text for SVG attributes. Most are percentages, so that a chart fills any width and its words keep their
size on a phone. There are no style attributes: a strict Content-Security-Policy forbids them.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable
from datetime import date
from itertools import pairwise
from math import ceil, floor
from typing import Final

from reports import world
from reports.columns import round_width
from reports.figures import (
    ColumnFigures,
    ComparisonFigures,
    Figures,
    HistogramFigures,
    IntervalFigures,
    Lonely,
    MapFigures,
    NumberFigures,
)
from reports.shapes import (
    Bar,
    Box,
    Charts,
    ColumnRow,
    Dots,
    ForestChart,
    ForestRow,
    HistogramChart,
    IntervalChart,
    MapChart,
    NumberCard,
    Ring,
    Row,
    Tick,
    ValuesCard,
    Whisker,
)

DOT_LEVELS: Final = (1, 2, 5, 20, 100)
"""From how many places on a dot is drawn stronger."""


def charts_of(figures: Figures) -> Charts:
    """Return the shapes of a report."""
    columns = figures["columns"]
    return Charts(
        filled=_share(figures["cells"] - figures["missing"], figures["cells"]),
        map=_map(figures["map"]) if figures["map"] else None,
        numbers=[
            _number_card(each, each["numbers"]) for each in columns if each["kind"] == "number" and "numbers" in each
        ],
        dates=[(each["name"], _date_histogram(each["dates"]["histogram"])) for each in columns if "dates" in each],
        comparisons=[_forest(each) for each in figures["comparisons"]],
        values=[_values_card(each, figures["rows"]) for each in columns if _repeats(each)],
        columns=[_column_row(each, figures["rows"]) for each in columns],
    )


def shown(value: float) -> str:
    """Return a number for people: about four digits that count, and a true minus sign."""
    if value != 0 and not 1e-4 <= abs(value) < 1e15:
        text = f"{value:.3g}"
    elif value == int(value):
        text = f"{int(value):,}"
    elif abs(value) >= 1000:
        text = f"{value:,.0f}"
    else:
        text = f"{value:.4g}"
    return text.replace("-", "−")


# ── Axes ─────────────────────────────────────────────────────────────────────────────────────────


class _Axis:
    """A range of numbers laid over 100 percent."""

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.length = high - low if high > low else 1.0

    def share(self, value: float) -> float:
        return min(max(100 * (value - self.low) / self.length, 0.0), 100.0)

    def at(self, value: float) -> str:
        return _percent(self.share(value))

    def ticks(self, label: Callable[[float], str] = shown, *, about: int = 5) -> list[Tick]:
        step = round_width(self.length / about)
        first, last = ceil(self.low / step - 1e-9), floor((self.low + self.length) / step + 1e-9)
        values = [number * step for number in range(first, last + 1)]
        return [Tick(at=self.at(value), label=label(value), anchor=self._anchor(value)) for value in values]

    def _anchor(self, value: float) -> str:
        share = self.share(value)
        return "start" if share < 3 else "end" if share > 94 else "middle"


def _percent(share: float) -> str:
    return f"{share:.2f}%"


def _bars(histogram: HistogramFigures, axis: _Axis, label: Callable[[float], str]) -> list[Bar]:
    tallest = max(histogram["counts"], default=0) or 1
    bars = []
    for (left, right), count in zip(pairwise(histogram["edges"]), histogram["counts"], strict=True):
        # A bin that is not empty stays visible beside one with ten thousand times as many.
        height = max(100 * count / tallest, 1.0) if count else 0.0
        bars.append(
            Bar(
                x=axis.at(left),
                width=_percent(axis.share(right) - axis.share(left)),
                y=_percent(100 - height),
                height=_percent(height),
                title=f"{label(left)} to {label(right)}: {count:,}",
            )
        )
    return bars


# ── Numbers and dates ────────────────────────────────────────────────────────────────────────────


def _number_card(column: ColumnFigures, numbers: NumberFigures) -> NumberCard:
    return NumberCard(
        name=column["name"],
        histogram=_histogram(column["name"], numbers),
        interval=_interval(column["name"], numbers),
        facts=[
            ("smallest", shown(numbers["smallest"])),
            ("median", shown(numbers["median"])),
            ("mean", shown(numbers["mean"])),
            ("largest", shown(numbers["largest"])),
        ],
    )


def _histogram(name: str, numbers: NumberFigures) -> HistogramChart:
    histogram = numbers["histogram"]
    axis = _Axis(histogram["edges"][0], histogram["edges"][-1])
    low, high = axis.share(numbers["lower_quartile"]), axis.share(numbers["upper_quartile"])
    return HistogramChart(
        bars=_bars(histogram, axis, shown),
        ticks=axis.ticks(),
        box=Box(x=_percent(low), width=_percent(high - low), median=axis.at(numbers["median"])),
        label=(
            f"Distribution of {name}: from {shown(numbers['smallest'])} to {shown(numbers['largest'])}, half of the "
            f"values between {shown(numbers['lower_quartile'])} and {shown(numbers['upper_quartile'])}."
        ),
        note=_outside(histogram, shown),
    )


def _date_histogram(histogram: HistogramFigures) -> HistogramChart:
    edges = histogram["edges"]
    axis = _Axis(edges[0], edges[-1])
    ticks = [
        Tick(at=axis.at(edge), label=_date(edge), anchor=anchor)
        for edge, anchor in ((edges[0], "start"), (edges[len(edges) // 2], "middle"), (edges[-1], "end"))
    ]
    return HistogramChart(
        bars=_bars(histogram, axis, _date),
        ticks=ticks,
        box=None,
        label=f"How many rows fall on each time from {_date(edges[0])} to {_date(edges[-1])}.",
        note=_outside(histogram, _date),
    )


def _date(day: float) -> str:
    return date.fromordinal(min(max(round(day), 1), date.max.toordinal())).isoformat()


def _outside(histogram: HistogramFigures, label: Callable[[float], str]) -> str:
    edges = histogram["edges"]
    parts = []
    if below := histogram["below"]:
        parts.append(f"{below:,} below {label(edges[0])}")
    if above := histogram["above"]:
        parts.append(f"{above:,} above {label(edges[-1])}")
    return f"Not drawn: {' and '.join(parts)}." if parts else ""


def _interval(name: str, numbers: NumberFigures) -> IntervalChart | None:
    if "mean_interval" not in numbers or "median_interval" not in numbers or "resampled_means" not in numbers:
        return None
    mean, median = numbers["mean_interval"], numbers["median_interval"]
    edges = numbers["resampled_means"]["edges"]
    axis = _Axis(min(edges[0], mean["low"]), max(edges[-1], mean["high"]))
    return IntervalChart(
        bars=_bars(numbers["resampled_means"], axis, shown),
        ticks=axis.ticks(about=4),
        whisker=_whisker(mean, axis),
        mean=_words(mean),
        median=_words(median),
        resamples=f"{numbers.get('resamples', 0):,}",
        label=f"The mean of {name} is {_words(mean)}, with 95 % confidence.",
    )


def _whisker(interval: IntervalFigures, axis: _Axis) -> Whisker:
    low, high = axis.share(interval["low"]), axis.share(interval["high"])
    return Whisker(
        low=_percent(low),
        high=_percent(high),
        width=_percent(high - low),
        at=axis.at(interval["estimate"]),
        label=_words(interval),
    )


def _words(interval: IntervalFigures) -> str:
    low, estimate, high = (shown(interval[key]) for key in ("low", "estimate", "high"))
    return f"{estimate} ({low} to {high})"


# ── Groups and values ────────────────────────────────────────────────────────────────────────────


def _forest(comparison: ComparisonFigures) -> ForestChart:
    groups = sorted(comparison["groups"], key=lambda group: -group["median"]["estimate"])
    low = min(group["median"]["low"] for group in groups)
    high = max(group["median"]["high"] for group in groups)
    step = round_width((high - low) / 5)
    axis = _Axis(floor(low / step) * step, ceil(high / step) * step)
    return ForestChart(
        numbers=comparison["numbers"],
        categories=comparison["categories"],
        rows=[
            ForestRow(name=group["name"], count=f"{group['count']:,}", whisker=_whisker(group["median"], axis))
            for group in groups
        ],
        ticks=axis.ticks(),
    )


def _repeats(column: ColumnFigures) -> bool:
    is_text = column["kind"] in {"category", "text"}
    return is_text and bool(column["common"]) and column["common"][0]["count"] > 1


def _values_card(column: ColumnFigures, rows: int) -> ValuesCard:
    common = column["common"]
    largest = common[0]["count"]
    left = column["distinct"] - len(common)
    others = column["filled"] - sum(each["count"] for each in common)
    return ValuesCard(
        name=column["name"],
        distinct=f"{column['distinct']:,}",
        rows=[
            Row(
                label=each["value"],
                width=_percent(max(100 * each["count"] / largest, 0.5)),
                count=f"{each['count']:,}",
                share=_share(each["count"], rows),
            )
            for each in common
        ],
        rest=f"{left:,} other values in {others:,} rows" if left else "",
    )


def _column_row(column: ColumnFigures, rows: int) -> ColumnRow:
    filled = 100 * column["filled"] / rows
    return ColumnRow(
        name=column["name"],
        kind=column["kind"],
        filled=_share(column["filled"], rows),
        width=_percent(filled),
        distinct=f"{column['distinct']:,}",
        example=_example(column),
    )


def _example(column: ColumnFigures) -> str:
    if "numbers" in column:
        return f"{shown(column['numbers']['smallest'])} to {shown(column['numbers']['largest'])}"
    if "dates" in column:
        return f"{column['dates']['earliest']} to {column['dates']['latest']}"
    return ", ".join(each["value"] for each in column["common"][:3])


def _share(count: int, rows: int) -> str:
    share = 100 * count / rows
    # 99.96 percent is not all of them.
    if 0 < share < 0.1:
        return "< 0.1 %"
    digits = 0 if share in {0, 100} or 1 <= share <= 99 else 1
    return f"{min(share, 99.9) if count < rows else share:.{digits}f} %"


# ── Map ──────────────────────────────────────────────────────────────────────────────────────────


def _map(figures: MapFigures) -> MapChart:
    counts = {world.dot_at(latitude, longitude): count for latitude, longitude, count in figures["dots"]}
    by_level: list[list[world.Dot]] = [[] for _ in DOT_LEVELS]
    for dot, count in sorted(counts.items()):
        by_level[bisect_right(DOT_LEVELS, count) - 1].append(dot)
    points = [f"{x:.1f} {y:.1f}" for x, y in world.outline()]
    return MapChart(
        view_box=f"0 0 {world.WIDTH:.0f} {world.HEIGHT:.1f}",
        outline=f"M{'L'.join(points)}Z",
        land=path_of(world.land() - counts.keys()),
        dots=[
            Dots(level=level, path=path_of(dots), legend=_legend(level)) for level, dots in enumerate(by_level) if dots
        ],
        rings=[_ring(number, lonely) for number, lonely in enumerate(figures["loneliest"], start=1)],
        places=f"{figures['places']:,}",
        median=shown(round(figures["median_kilometres"], 0 if figures["median_kilometres"] >= 10 else 1)),
        label=f"Map of the world with {figures['places']:,} places on {len(counts):,} dots.",
    )


def path_of(dots: Iterable[world.Dot]) -> str:
    """Return a line through each run of neighbouring dots, to be drawn with dashes of no length, one unit apart."""
    runs: list[list[world.Dot]] = []
    for dot in sorted(dots):
        if runs and runs[-1][-1] == (dot.row, dot.column - 1):
            runs[-1].append(dot)
        else:
            runs.append([dot])
    # A little longer than the run, so that the last dash does not fall off its end.
    return "".join(f"M{run[0].x:g} {run[0].y:.1f}h{len(run) - 0.9:.1f}" for run in runs)


def _legend(level: int) -> str:
    first = DOT_LEVELS[level]
    if level + 1 == len(DOT_LEVELS):
        return f"{first} or more"
    last = DOT_LEVELS[level + 1] - 1
    return str(first) if first == last else f"{first} to {last}"


def _ring(number: int, lonely: Lonely) -> Ring:
    x, y = world.project(lonely["latitude"], lonely["longitude"])
    return Ring(
        number=number,
        x=_percent(100 * x / world.WIDTH),
        y=_percent(100 * y / world.HEIGHT),
        name=lonely["name"],
        kilometres=f"{lonely['kilometres']:,.0f}",
        nearest=lonely["nearest"],
    )
