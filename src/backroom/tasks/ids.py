"""Task ids: UUIDs of version 7 (RFC 9562) as 32 hexadecimal digits, so that sorting by id sorts by time."""

import os
import threading
import time

_lock = threading.Lock()
_last = 0


def new_id() -> str:
    """Return an id greater than every id that this process made before."""
    global _last  # noqa: PLW0603 - the one counter of this process
    # 48 bits of milliseconds and, in the 12 bits that RFC 9562 (6.2, method 3) sets free for it, fractions of one.
    moment = time.time_ns()
    ticks = moment // 1_000_000 << 12 | (moment % 1_000_000) * 4096 // 1_000_000
    with _lock:
        if ticks <= _last:
            ticks = _last + 1
        _last = ticks
    tail = int.from_bytes(os.urandom(8)) & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
    return f"{ticks >> 12:012x}7{ticks & 0xFFF:03x}{tail:016x}"
