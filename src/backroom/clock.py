"""Time as a value: a moment is an integer, so it is exact, sorts, and travels through JSON and every database."""

import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Protocol

type Moment = int
"""Microseconds since 1970-01-01T00:00:00 UTC."""

SECOND = 1_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
FIRST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
LAST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // MICROSECOND
"""The last moment that a datetime can name. Every store can hold it, so no wait, however long, is refused late."""
SECONDS_OF_DATETIMES = (LAST - FIRST) // SECOND


class Clock(Protocol):
    """Tells the time; tests hand in one that stands still."""

    def now(self) -> Moment:
        """Return the present moment."""


class SystemClock:
    """The clock of this machine."""

    def now(self) -> Moment:
        """Return the present moment."""
        return time.time_ns() // 1000


def after(moment: Moment, seconds: float) -> Moment:
    """Return the moment `seconds` later (earlier, when negative), at most as far as datetimes go."""
    if abs(seconds) > SECONDS_OF_DATETIMES:
        # Infinity among them, which cannot be rounded.
        return LAST if seconds > 0 else FIRST
    return min(max(moment + round(seconds * SECOND), FIRST), LAST)


def seconds_between(earlier: Moment, later: Moment) -> float:
    """Return the seconds from one moment to another."""
    return (later - earlier) / SECOND


@lru_cache(maxsize=256)
def to_datetime(moment: Moment) -> datetime:
    """Return the aware UTC datetime of a moment."""
    return EPOCH + timedelta(microseconds=moment)


def from_datetime(value: datetime) -> Moment:
    """Return the moment of an aware datetime; raise `ValueError` for a naive one."""
    if value.tzinfo is None:
        msg = f"{value!r} has no time zone. Pass an aware datetime."
        raise ValueError(msg)
    return (value - EPOCH) // MICROSECOND
