"""Notice who tries ids in number. Each process counts for itself, for a minute, and remembers so many addresses only.

A valid id is one of 2^160, so this is no defence: it is how one hears of an attempt (OWASP, "Session ID Guessing and
Brute Force Detection").
"""

from collections import OrderedDict
from typing import Final

from backroom.clock import Moment, after

WINDOW: Final = 60.0
"""Seconds."""
REMEMBERED: Final = 10_000
"""Addresses."""


class Guesses:
    """How often each address came with an unknown id."""

    def __init__(self) -> None:
        self._counts: OrderedDict[str, tuple[Moment, int]] = OrderedDict()

    def note(self, address: str, now: Moment, *, threshold: int) -> bool:
        """Count one more; tell whether that is the one at which somebody should hear of it."""
        began, count = self._counts.pop(address, (now, 0))
        if after(began, WINDOW) <= now:
            began, count = now, 0
        self._counts[address] = (began, count + 1)
        if len(self._counts) > REMEMBERED:
            self._counts.popitem(last=False)
        return count + 1 == threshold

    def count(self, address: str) -> int:
        """Return how many came from an address in its present minute."""
        return self._counts.get(address, (0, 0))[1]

    def forget(self) -> None:
        """Begin anew."""
        self._counts.clear()


guesses: Final = Guesses()
