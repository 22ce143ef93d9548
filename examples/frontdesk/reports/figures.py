"""A report in figures: what is found out about a table, as values that JSON can carry."""

from typing import NotRequired, TypedDict

from reports.columns import Kind


class HistogramFigures(TypedDict):
    """Counts between edges; `below` and `above` are beyond the first and last edge."""

    edges: list[float]
    counts: list[int]
    below: int
    above: int


class IntervalFigures(TypedDict):
    """An estimate with its 95 % bootstrap interval."""

    estimate: float
    low: float
    high: float


class NumberFigures(TypedDict):
    """What is known of a column of numbers."""

    smallest: float
    lower_quartile: float
    median: float
    mean: float
    upper_quartile: float
    largest: float
    deviation: float
    histogram: HistogramFigures
    mean_interval: NotRequired[IntervalFigures]
    median_interval: NotRequired[IntervalFigures]
    resampled_means: NotRequired[HistogramFigures]
    resamples: NotRequired[int]


class DateFigures(TypedDict):
    """What is known of a column of dates; the histogram's edges count days since the year 1."""

    earliest: str
    latest: str
    histogram: HistogramFigures


class Common(TypedDict):
    """A value and how often it occurs."""

    value: str
    count: int


class ColumnFigures(TypedDict):
    """What is known of a column."""

    name: str
    kind: Kind
    filled: int
    missing: int
    distinct: int
    common: list[Common]
    numbers: NotRequired[NumberFigures]
    dates: NotRequired[DateFigures]


class Lonely(TypedDict):
    """A place and the one nearest to it."""

    name: str
    latitude: float
    longitude: float
    nearest: str
    kilometres: float


class MapFigures(TypedDict):
    """Where a table's places are. `dots` are latitude, longitude and count of each dot of the map that has any."""

    places: int
    dots: list[tuple[float, float, int]]
    median_kilometres: float
    loneliest: list[Lonely]


class GroupFigures(TypedDict):
    """A group's size and the interval of its median."""

    name: str
    count: int
    median: IntervalFigures


class ComparisonFigures(TypedDict):
    """One column of numbers, in the groups that a column of categories makes."""

    numbers: str
    categories: str
    resamples: int
    groups: list[GroupFigures]


class FileFigures(TypedDict):
    """How the file was written."""

    size: int
    encoding: str
    is_encoding_assumed: bool
    delimiter: str


class Figures(TypedDict):
    """The whole report."""

    name: str
    rows: int
    cells: int
    missing: int
    repeated_rows: int
    resamples: int
    file: FileFigures
    columns: list[ColumnFigures]
    comparisons: list[ComparisonFigures]
    map: MapFigures | None
