"""The map, the neighbours on it, and how sure a mean is."""

from math import cos, radians, sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports import world
from reports.neighbours import nearest
from reports.sampling import bootstrap, quantile

PLACES = st.tuples(st.floats(min_value=-90, max_value=90), st.floats(min_value=-180, max_value=180))


@given(PLACES)
def test_a_place_is_on_the_map_and_finds_back(place):
    latitude, longitude = place
    x, y = world.project(latitude, longitude)
    assert -1e-6 <= x <= world.WIDTH + 1e-6
    assert -1e-6 <= y <= world.HEIGHT + 1e-6
    found = world.unproject(x, y)
    if found is not None and abs(latitude) < 89.9:
        assert found == pytest.approx((latitude, longitude), abs=1e-3)


@given(PLACES)
def test_a_dot_stands_for_a_place_that_has_that_dot(place):
    dot = world.dot_at(*place)
    assert world.dot_at(*world.place_of(dot)) == dot


@pytest.mark.parametrize(
    ("place", "is_land"),
    [((48.9, 2.3), True), ((39.9, -105), True), ((-25, 134), True), ((0, -140), False), ((0, -25), False)],
    ids=["Paris", "Denver", "Alice Springs", "Pacific", "Atlantic"],
)
def test_land_is_where_it_is(place, is_land):
    assert (world.dot_at(*place) in world.land()) == is_land


@given(st.lists(PLACES, min_size=2, max_size=40))
def test_the_nearest_neighbour_is_the_nearest(places):
    points = [
        (cos(radians(a)) * cos(radians(b)), cos(radians(a)) * sin(radians(b)), sin(radians(a))) for a, b in places
    ]
    for index, neighbour in enumerate(nearest(places)):
        squares = {
            other: sum((p - q) ** 2 for p, q in zip(points[index], points[other], strict=True))
            for other in range(len(points))
            if other != index
        }
        assert squares[neighbour.other] == pytest.approx(min(squares.values()), abs=1e-12)


def test_distances_are_those_of_the_globe():
    paris, london, sydney = (48.8566, 2.3522), (51.5074, -0.1278), (-33.8688, 151.2093)
    found = nearest([paris, london, sydney])
    assert found[0].other == 1
    assert found[0].kilometres == pytest.approx(343.6, abs=1)
    assert found[2].kilometres == pytest.approx(16_960, abs=30)


def test_neighbours_are_found_across_the_date_line_and_the_pole():
    assert nearest([(0, 179.9), (0, -179.9), (0, 170)])[0].other == 1
    assert nearest([(89.9, 0), (89.9, 180), (80, 0)])[0].other == 1


def test_one_place_alone_has_no_neighbour():
    assert nearest([(1, 2)]) == []


def test_an_interval_holds_its_estimate_and_is_the_same_each_time():
    values = [float(value % 17) for value in range(300)]
    heard: list[int] = []
    found = bootstrap(values, resamples=200, tick=heard.append)
    assert found.mean.low < found.mean.estimate < found.mean.high
    assert found.median.low <= found.median.estimate <= found.median.high
    assert found == bootstrap(values, resamples=200)
    assert heard == list(range(1, 201))


def test_more_values_make_a_narrower_interval():
    few, many = ([float(value % 10) for value in range(size)] for size in (30, 3000))
    narrow, wide = (bootstrap(values, resamples=100).mean for values in (many, few))
    assert narrow.high - narrow.low < (wide.high - wide.low) / 3


def test_a_bootstrap_agrees_with_theory():
    # Of 0 and 1 in equal parts the mean has a standard error of 0.5 / sqrt(n).
    found = bootstrap([0.0, 1.0] * 200, resamples=1000)
    assert found.mean.high - found.mean.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


def test_a_quantile_is_interpolated():
    assert [quantile([1, 2, 4], share) for share in (0, 0.25, 0.5, 0.75, 1)] == [1, 1.5, 2, 3, 4]
