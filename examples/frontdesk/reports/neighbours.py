"""The nearest neighbour of each of many places on the globe, by the great circle. Knows nothing but geometry.

A k-d tree over the places as points of the unit sphere, where the straight line through the globe grows with the way
round it: so there is no special case at the poles or at the date line.
"""

from collections.abc import Callable, Sequence
from math import asin, cos, radians, sin, sqrt
from typing import Final, NamedTuple

from reports.world import EARTH_RADIUS_KM

type Place = tuple[float, float]
"""Latitude and longitude in degrees."""

type _Point = tuple[float, float, float]

LEAF: Final = 8
"""Points that are compared one by one rather than divided further."""


class Neighbour(NamedTuple):
    """Who is nearest, by its place in the list, and how far away."""

    other: int
    kilometres: float


class _Branch(NamedTuple):
    axis: int
    border: float
    below: "_Tree"
    above: "_Tree"


type _Tree = _Branch | list[int]


def nearest(places: Sequence[Place], *, tick: Callable[[int], None] = lambda _done: None) -> list[Neighbour]:
    """Return each place's nearest other one. `tick` hears now and then how many are found."""
    if len(places) < 2:
        return []
    points = [_point(*place) for place in places]
    tree = _tree(points, list(range(len(points))))
    found = []
    for index in range(len(points)):
        other, square = _search(tree, points, index, -1, 5.0)
        found.append(Neighbour(other, kilometres(square)))
        if index % 250 == 0:
            tick(index)
    tick(len(points))
    return found


def kilometres(square: float) -> float:
    """Return the way round the globe between points whose straight distance has this square, on the unit sphere."""
    return 2 * asin(min(sqrt(square) / 2, 1.0)) * EARTH_RADIUS_KM


def _point(latitude: float, longitude: float) -> _Point:
    phi, theta = radians(latitude), radians(longitude)
    return cos(phi) * cos(theta), cos(phi) * sin(theta), sin(phi)


def _tree(points: Sequence[_Point], indices: list[int]) -> _Tree:
    if len(indices) <= LEAF:
        return indices
    axis = max(range(3), key=lambda each: _spread(points, indices, each))
    indices.sort(key=lambda index: points[index][axis])
    middle = len(indices) // 2
    border = points[indices[middle]][axis]
    return _Branch(axis, border, _tree(points, indices[:middle]), _tree(points, indices[middle:]))


def _spread(points: Sequence[_Point], indices: list[int], axis: int) -> float:
    along = [points[index][axis] for index in indices]
    return max(along) - min(along)


def _search(tree: _Tree, points: Sequence[_Point], index: int, best: int, square: float) -> tuple[int, float]:
    """Return the nearest point that the tree holds, or the best one so far, and the square of its distance."""
    x, y, z = points[index]
    if isinstance(tree, list):
        for other in tree:
            ox, oy, oz = points[other]
            distance = (x - ox) ** 2 + (y - oy) ** 2 + (z - oz) ** 2
            if distance < square and other != index:
                best, square = other, distance
        return best, square
    beyond = points[index][tree.axis] - tree.border
    near, far = (tree.below, tree.above) if beyond < 0 else (tree.above, tree.below)
    best, square = _search(near, points, index, best, square)
    # Points across the border are at least as far as the border is.
    return _search(far, points, index, best, square) if beyond * beyond < square else (best, square)
