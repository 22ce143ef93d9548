"""What a column holds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.columns import LARGEST, histogram, located, number, round_width, spread, understand

FLOATS = st.floats(min_value=-LARGEST, max_value=LARGEST, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12), ("-3.5", -3.5), ("+.5", 0.5), ("1e3", 1000), ("1,234.5", 1234.5), ("12,345,678", 12_345_678),
        ("00123", None), ("1_000", None), ("1,23", None), ("nan", None), ("inf", None), ("1e999", None), ("1e101", None),
        ("", None), ("12 km", None), ("١٢", None), ("0.5", 0.5), ("0", 0),
    ],
)  # fmt: skip
def test_a_number_is_what_people_write(text, value):
    assert number(text) == value


@pytest.mark.parametrize(("text", "value"), [("3,5", 3.5), ("1.234,5", 1234.5), ("1.5", 1.5), ("1,234", 1.234)])
def test_a_decimal_comma_is_read_where_cells_are_divided_by_something_else(text, value):
    assert number(text, decimal_comma=True) == value


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1.5", "2", "n/a", ""], "number"),
        (["1", "2", "1", "2", ""], "category"),
        ([str(value) for value in range(5, 40)], "identifier"),
        (["2024-01-31", "2024-02-29 12:00", ""], "date"),
        (["2024-02-30"], "category"),
        (["NA", "DE", "NA"], "category"),
        (["", "", ""], "empty"),
        (["00123", "00456"], "identifier"),
        ([f"word {index // 2}" for index in range(60)], "text"),
    ],
)
def test_the_kind_of_a_column(cells, kind):
    assert understand("column", cells).kind == kind


def test_na_is_missing_among_numbers_and_namibia_among_countries():
    assert understand("height", ["1", "2", "NA", "2.5"]).filled == 3
    assert understand("country", ["NA", "DE", "NA"]).counts["NA"] == 2


def test_latitude_and_longitude_are_known_by_name_and_range():
    kinds = lambda *columns: [column.kind for column in located(list(columns))]  # noqa: E731
    lat, lon = understand("Lat", ["1.5", "-90"]), understand("lng", ["180", "-3.2"])
    assert kinds(lat, lon) == ["latitude", "longitude"]
    assert kinds(understand("lat", ["1.5", "91.5"]), lon) == ["number", "number"]
    assert kinds(lat) == ["number"]


@given(st.lists(FLOATS, min_size=1, max_size=200), st.booleans())
def test_a_histogram_counts_every_value_once(values, whole):
    counted = histogram(sorted(values), whole=whole)
    assert sum(counted.counts) + counted.below + counted.above == len(values)
    assert len(counted.edges) == len(counted.counts) + 1 <= 90
    assert counted.edges == sorted(counted.edges)


def test_values_far_out_do_not_squeeze_a_histogram():
    counted = histogram([float(value) for value in range(1000)] + [1e9])
    assert counted.above >= 1
    assert len(counted.counts) > 20


@given(st.floats(min_value=1e-280, max_value=1e280))
def test_a_round_width_is_a_little_wider(width):
    assert width * 0.99 <= round_width(width) <= width * 2.6


@given(st.lists(FLOATS, min_size=1, max_size=50))
def test_a_spread_is_in_order(values):
    found = spread(sorted(values))
    slack = 1e-9 * max(1.0, *(abs(value) for value in values))
    assert found.smallest <= found.lower_quartile <= found.median <= found.upper_quartile <= found.largest
    assert found.smallest - slack <= found.mean <= found.largest + slack
    assert found.deviation >= 0
