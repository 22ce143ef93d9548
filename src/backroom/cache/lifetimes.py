"""How long an entry lives: a timeout as Django has it, to the millisecond, and spread a little when asked for."""

import math
import random
import time
from typing import Final

FOREVER: Final = 2**63 - 1
"""The moment of an entry that does not expire: milliseconds since 1970, like every other one here."""
LONGEST: Final = 1e12
"""The seconds beyond which a lifetime is for ever: thirty thousand years. Infinity is among them."""
GONE: Final = 0
"""The moment of an entry that has expired before it was stored."""


def now() -> int:
    """Return the present moment in milliseconds since 1970."""
    return time.time_ns() // 1_000_000


def expiry(timeout: float | None, moment: int, *, jitter: float = 0.0) -> int:
    """Return the moment at which something stored now expires; `GONE` when it must not be stored at all.

    `jitter` is the largest share by which the lifetime may be shortened, by chance, so that what was stored together does
    not expire together. It never lives longer than was said.
    """
    if timeout is None:
        return FOREVER
    if timeout <= 0:
        return GONE
    if jitter:
        timeout *= 1 - jitter * random.random()  # noqa: S311 - no secret
    if timeout > LONGEST:
        return FOREVER
    # Rounded up: what is stored for half a millisecond is stored.
    return moment + math.ceil(timeout * 1000)
