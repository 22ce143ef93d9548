"""What a column of text cells holds: its kind, its values, and how they are distributed. Pure functions."""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import pairwise
from math import ceil, floor, isfinite, log10, sqrt
from statistics import fmean
from typing import Final, Literal, NamedTuple

from reports.sampling import quantile

type Kind = Literal["number", "date", "latitude", "longitude", "category", "text", "identifier", "empty"]

# Only beside numbers or dates: elsewhere NA is Namibia, and None a village in Piedmont.
MISSING: Final = {"na", "n/a", "n.a.", "nan", "null", "none", "-", "--", "?", "."}
LARGEST: Final = 1e100
"""Larger numbers are read as text: their squares would not fit a float."""

_PLAIN: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_GROUPED: Final = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?", re.ASCII)
_CONTINENTAL: Final = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d+),\d+", re.ASCII)
_CODE: Final = re.compile(r"[+-]?0\d+", re.ASCII)
_DATE: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2})(?:[ T]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?", re.ASCII
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column, understood. `values` has a number for each row, None where it is missing; dates count days."""

    name: str
    kind: Kind
    cells: list[str] = field(repr=False)
    counts: Mapping[str, int] = field(repr=False)
    """How often each cell occurs that is not missing."""
    values: list[float | None] = field(default_factory=list, repr=False)

    @property
    def filled(self) -> int:
        """How many cells are not missing."""
        return sum(self.counts.values())

    @property
    def ordered(self) -> list[float]:
        """The values that are there, in ascending order."""
        return sorted(value for value in self.values if value is not None)


class Histogram(NamedTuple):
    """Counts between edges, and how many values lie outside of the first and last edge."""

    edges: list[float]
    counts: list[int]
    below: int
    above: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The usual figures of sorted values."""

    smallest: float
    lower_quartile: float
    median: float
    mean: float
    upper_quartile: float
    largest: float
    deviation: float


def understand(name: str, cells: list[str], *, decimal_comma: bool = False) -> Column:
    """Find out what a column holds. `decimal_comma` reads 3,5 as three and a half."""
    counts = Counter(cells)
    del counts[""]
    if not counts:
        return Column(name=name, kind="empty", cells=cells, counts=counts)
    measured = {text: count for text, count in counts.items() if text.lower() not in MISSING}
    if parsed := _all_parsed(measured, lambda text: number(text, decimal_comma=decimal_comma)):
        return _numeric(name, cells, measured, parsed)
    if parsed := _all_parsed(measured, day):
        values = [parsed.get(cell) for cell in cells]
        return Column(name=name, kind="date", cells=cells, counts=measured, values=values)
    return Column(name=name, kind=_kind_of_text(counts), cells=cells, counts=counts)


def number(text: str, *, decimal_comma: bool = False) -> float | None:
    """Return the number that a cell says, or None. A code such as 00123 is none."""
    if _CODE.fullmatch(text):
        return None
    if not _PLAIN.fullmatch(text):
        if decimal_comma and _CONTINENTAL.fullmatch(text):
            text = text.replace(".", "").replace(",", ".")
        elif not decimal_comma and _GROUPED.fullmatch(text):
            text = text.replace(",", "")
        else:
            return None
    value = float(text)
    return value if isfinite(value) and abs(value) <= LARGEST else None


def day(text: str) -> float | None:
    """Return the day of an ISO date, with or without a time, as a count of days; or None."""
    if not (match := _DATE.fullmatch(text)):
        return None
    try:
        return float(date.fromisoformat(match[1]).toordinal())
    except ValueError:
        return None


def located(columns: Sequence[Column]) -> list[Column]:
    """Return the columns with the first pair of latitude and longitude, if there is one, marked as such."""
    latitude = next((each for each in columns if _is_angle(each, {"lat", "latitude", "breite"}, 90)), None)
    longitude = next((each for each in columns if _is_angle(each, {"lon", "lng", "long", "longitude"}, 180)), None)
    if latitude is None or longitude is None:
        return list(columns)
    marks: dict[str, Kind] = {latitude.name: "latitude", longitude.name: "longitude"}
    return [replace(each, kind=marks[each.name]) if each.name in marks else each for each in columns]


def spread(ordered: Sequence[float]) -> Spread:
    """Return the figures of sorted values, of which there is at least one."""
    mean = fmean(ordered)
    squares = sum((value - mean) ** 2 for value in ordered)
    return Spread(
        smallest=ordered[0],
        lower_quartile=quantile(ordered, 0.25),
        median=quantile(ordered, 0.5),
        mean=mean,
        upper_quartile=quantile(ordered, 0.75),
        largest=ordered[-1],
        deviation=sqrt(squares / (len(ordered) - 1)) if len(ordered) > 1 else 0.0,
    )


def histogram(ordered: Sequence[float], *, bins: int = 40, whole: bool = False) -> Histogram:
    """Count sorted values in about `bins` bins with round edges. `whole` keeps the edges whole numbers.

    Values far out are counted beside it rather than drawn, so that a few of them do not squeeze the rest into one bar.
    """
    low, high = ordered[0], ordered[-1]
    inner_low, inner_high = quantile(ordered, 0.005), quantile(ordered, 0.995)
    if high - low > 1.5 * (inner_high - inner_low) > 0:
        low, high = inner_low, inner_high
    width = round_width((high - low) / bins)
    if whole:
        width = max(1.0, ceil(width))
    first = floor(low / width)
    last = max(floor(high / width) + 1, first + 1)
    edges = [_tidy(step * width, width) for step in range(first, last + 1)]
    borders = [bisect_left(ordered, edge) for edge in edges]
    counts = [right - left for left, right in pairwise(borders)]
    return Histogram(edges, counts, borders[0], len(ordered) - borders[-1])


def round_width(width: float) -> float:
    """Return the round number (1, 2, 2.5 or 5 times a power of ten) at or above a width."""
    if width < 1e-290:
        return 1.0
    power = 10.0 ** floor(log10(width))
    return next((step * power for step in (1, 2, 2.5, 5, 10) if step * power >= width * 0.999), 10 * power)


def _tidy(value: float, width: float) -> float:
    """Take the noise of binary fractions off a multiple of a round width."""
    return round(value, max(0, 2 - floor(log10(width))))


def _all_parsed(counts: Mapping[str, int], parse: Callable[[str], float | None]) -> dict[str, float] | None:
    parsed: dict[str, float] = {}
    for text in counts:
        value = parse(text)
        if value is None:
            return None
        parsed[text] = value
    return parsed or None


def _numeric(name: str, cells: list[str], counts: Mapping[str, int], parsed: Mapping[str, float]) -> Column:
    is_whole = all(value.is_integer() for value in parsed.values())
    filled = sum(counts.values())
    kind: Kind = "number"
    if is_whole and filled == len(counts) == max(parsed.values()) - min(parsed.values()) + 1 and filled > 20:
        kind = "identifier"
    elif is_whole and len(counts) <= 8:
        kind = "category"
    return Column(name=name, kind=kind, cells=cells, counts=counts, values=[parsed.get(cell) for cell in cells])


def _kind_of_text(counts: Mapping[str, int]) -> Kind:
    filled = sum(counts.values())
    if filled == len(counts) and filled > 1:
        return "identifier"
    return "category" if len(counts) <= 12 or filled / len(counts) >= 5 else "text"


def _is_angle(column: Column, names: set[str], limit: float) -> bool:
    return (
        column.kind == "number"
        and column.name.lower() in names
        and all(abs(value) <= limit for value in column.values if value is not None)
    )
