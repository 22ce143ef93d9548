"""The shapes that the pages of reports are drawn from. Positions are text for SVG attributes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A labelled place on an axis."""

    at: str
    label: str
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar that stands on the ground line."""

    x: str
    width: str
    y: str
    height: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """The middle half of the values, and their median."""

    x: str
    width: str
    median: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramChart:
    """Bars over an axis."""

    bars: list[Bar]
    ticks: list[Tick]
    box: Box | None
    label: str
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisker:
    """An interval, its estimate, and both in words."""

    low: str
    high: str
    width: str
    at: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalChart:
    """How resampled means are spread, and the interval that this makes."""

    bars: list[Bar]
    ticks: list[Tick]
    whisker: Whisker
    mean: str
    median: str
    resamples: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCard:
    """A column of numbers."""

    name: str
    histogram: HistogramChart
    interval: IntervalChart | None
    facts: list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A labelled bar that lies, with its count."""

    label: str
    width: str
    count: str
    share: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ValuesCard:
    """The most common values of a column."""

    name: str
    distinct: str
    rows: list[Row]
    rest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """A group and the whisker of its median."""

    name: str
    count: str
    whisker: Whisker


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestChart:
    """Groups under each other on one axis."""

    numbers: str
    categories: str
    rows: list[ForestRow]
    ticks: list[Tick]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dots:
    """The dots of one strength, as an SVG path of points."""

    level: int
    path: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A place that the map points out."""

    number: int
    x: str
    y: str
    name: str
    kilometres: str
    nearest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MapChart:
    """The dotted map of the world."""

    view_box: str
    outline: str
    land: str
    dots: list[Dots]
    rings: list[Ring]
    places: str
    median: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRow:
    """A line of the table of all columns."""

    name: str
    kind: str
    filled: str
    width: str
    distinct: str
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charts:
    """Everything that a report's page draws."""

    filled: str
    map: MapChart | None
    numbers: list[NumberCard]
    dates: list[tuple[str, HistogramChart]]
    comparisons: list[ForestChart]
    values: list[ValuesCard]
    columns: list[ColumnRow]
