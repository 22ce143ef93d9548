"""Hold a request for a moment, looking again and again, seldom enough to be cheap."""

import time
from collections.abc import Callable, Iterator
from typing import Final

FIRST_PAUSE: Final = 0.01
LONGEST_PAUSE: Final = 0.25
GROWTH: Final = 1.5

sleep = time.sleep
monotonic = time.monotonic


def pauses(first: float = FIRST_PAUSE, longest: float = LONGEST_PAUSE) -> Iterator[float]:
    """Yield how long to pause before each look: short at first, for most work that is quick is very quick."""
    pause = first
    while True:
        yield pause
        pause = min(pause * GROWTH, longest)


def look_until[T](look: Callable[[], T], is_enough: Callable[[T], bool], *, seconds: float) -> T:
    """Return what `look` finds as soon as that is enough, and after so many seconds whatever it finds."""
    deadline = monotonic() + seconds
    found = look()
    for pause in pauses():
        left = deadline - monotonic()
        if is_enough(found) or left <= 0:
            return found
        sleep(min(pause, left))
        found = look()
    raise AssertionError  # pauses() never ends
