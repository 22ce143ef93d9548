"""A map of the world made of dots. Knows where a place lies on it and where there is land, and nothing of pages.

The projection is Equal Earth (Šavrič, Patterson and Jenny, 2018): areas are true to one another, so that a dot is
the same share of the world wherever it lies. The dots stand in staggered rows, one unit apart.
"""

from functools import cache
from math import asin, cos, degrees, radians, sin, sqrt
from pathlib import Path
from typing import Final, NamedTuple

WIDTH: Final = 160.0
ROW_PITCH: Final = sqrt(3) / 2
EARTH_RADIUS_KM: Final = 6371.0088

_A: Final = (1.340264, -0.081106, 0.000893, 0.003796)
_SCALE: Final = WIDTH / 2 / 2.706630
HEIGHT: Final = 2 * 1.317363 * _SCALE
ROWS: Final = round(HEIGHT / ROW_PITCH)


class Dot(NamedTuple):
    """One dot of the map, counted from the top left."""

    row: int
    column: int

    @property
    def x(self) -> float:
        """Units from the left edge."""
        return self.column + 0.25 + self.row % 2 / 2

    @property
    def y(self) -> float:
        """Units from the top edge."""
        return (self.row + 0.5) * ROW_PITCH


def project(latitude: float, longitude: float) -> tuple[float, float]:
    """Return where a place, in degrees, lies on the map: units from its left and top edge."""
    t = asin(sqrt(3) / 2 * sin(radians(latitude)))
    x = 2 * sqrt(3) * radians(longitude) * cos(t) / (3 * _slope(t))
    return WIDTH / 2 + x * _SCALE, HEIGHT / 2 - _curve(t) * _SCALE


def unproject(x: float, y: float) -> tuple[float, float] | None:
    """Return the latitude and longitude of a point of the map, or None where the map has no world."""
    wanted = (HEIGHT / 2 - y) / _SCALE
    t = wanted / _A[0]
    for _ in range(12):
        t -= (_curve(t) - wanted) / _slope(t)
    sine = 2 * sin(t) / sqrt(3)
    if abs(sine) > 1 or cos(t) <= 0:
        return None
    longitude = degrees(3 * (x - WIDTH / 2) / _SCALE * _slope(t) / (2 * sqrt(3) * cos(t)))
    return (degrees(asin(sine)), longitude) if abs(longitude) <= 180 else None


def dot_at(latitude: float, longitude: float) -> Dot:
    """Return the dot that stands for a place."""
    x, y = project(latitude, longitude)
    row = min(max(round(y / ROW_PITCH - 0.5), 0), ROWS - 1)
    first, last = _ends(row)
    return Dot(row, min(max(round(x - 0.25 - row % 2 / 2), first), last))


def place_of(dot: Dot) -> tuple[float, float]:
    """Return the latitude and longitude that a dot stands for."""
    place = unproject(dot.x, dot.y)
    if place is None:
        msg = f"{dot} lies outside the world."
        raise ValueError(msg)
    return place


@cache
def land() -> frozenset[Dot]:
    """Return the dots that lie on land."""
    # Sampled from Natural Earth's land polygons at 1:50 million, which are in the public domain.
    lines = Path(__file__).with_name("land.txt").read_text(encoding="ascii").splitlines()
    return frozenset(
        Dot(row, column) for row, line in enumerate(lines) for column, mark in enumerate(line) if mark == "#"
    )


@cache
def outline() -> tuple[tuple[float, float], ...]:
    """Return the points of the world's edge, clockwise from the north."""
    east = [project(latitude, 180) for latitude in range(90, -91, -3)]
    west = [project(latitude, -180) for latitude in range(-90, 91, 3)]
    return (*east, *west)


@cache
def _ends(row: int) -> tuple[int, int]:
    dots = [column for column in range(-1, int(WIDTH) + 1) if unproject(Dot(row, column).x, Dot(row, column).y)]
    return dots[0], dots[-1]


def _curve(t: float) -> float:
    a1, a2, a3, a4 = _A
    return t * (a1 + a2 * t**2 + t**6 * (a3 + a4 * t**2))


def _slope(t: float) -> float:
    a1, a2, a3, a4 = _A
    return a1 + 3 * a2 * t**2 + t**6 * (7 * a3 + 9 * a4 * t**2)
