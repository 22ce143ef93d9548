"""How far a piece of work has come, for a bar that moves evenly."""

from collections.abc import Callable

type Report = Callable[[float, str], None]
"""Hears how far the work has come: percent, and a word about it."""


class Meter:
    """How far the work has come, over stages that each take a share of the whole."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._behind = 0.0

    def stage(self, share: float, message: str, total: int) -> Callable[[int], None]:
        """Begin the next stage; return what is to be told how much of its total is done."""
        start, self._behind = self._behind, self._behind + share

        def tick(done: int) -> None:
            self._report(round(100 * (start + share * done / max(total, 1)), 1), f"{message}: {done:,} of {total:,}")

        return tick
