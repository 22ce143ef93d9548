"""How much memory this process has, and whether it has grown by more than it may."""

import resource
import sys
import time
from pathlib import Path
from typing import Final

SECONDS: Final = 5.0
"""Between two looks; the first one, some seconds after the start, is what growth is measured from."""


class MemoryWatch:
    """Tells when this process has grown by more than it may since it had warmed up."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._first: int | None = None
        self._next_at = time.monotonic() + SECONDS

    def has_grown(self) -> bool:
        """Tell whether the growth is more than allowed."""
        if self._most is None or time.monotonic() < self._next_at:
            return False
        self._next_at = time.monotonic() + SECONDS
        now = resident_bytes()
        if self._first is None:
            self._first = now
        return now - self._first > self._most


def resident_bytes() -> int:
    """Return the resident set size of this process."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        # Without /proc there is only the highest size so far; macOS counts it in bytes, others in kilobytes.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * resource.getpagesize()
