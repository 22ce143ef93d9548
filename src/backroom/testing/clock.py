"""A clock that stands still until a test moves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Self
from unittest import mock

from backroom.clock import Moment, SystemClock, after, from_datetime, to_datetime


class FakeClock:
    """Tells the time that a test gives it; without one, the time at which it was made.

    Hand it in where a clock is asked for, or put it in the place of every system clock:

        with FakeClock().installed() as clock:
            remind.using(run_after=timedelta(days=3)).enqueue()
            clock.advance(timedelta(days=3))
            run_tasks()
    """

    def __init__(self, start: datetime | Moment | None = None) -> None:
        self._now = SystemClock().now() if start is None else _moment(start)

    def now(self) -> Moment:
        """Return the moment that this clock shows."""
        return self._now

    def today(self) -> datetime:
        """Return the moment that this clock shows as an aware UTC datetime."""
        return to_datetime(self._now)

    def advance(self, by: float | timedelta) -> Moment:
        """Move by so many seconds, or by a timedelta (back, when negative), and return the new moment."""
        self._now = after(self._now, by.total_seconds() if isinstance(by, timedelta) else by)
        return self._now

    def move_to(self, moment: datetime | Moment) -> Moment:
        """Show this moment from now on, and return it."""
        self._now = _moment(moment)
        return self._now

    @contextmanager
    def installed(self) -> Iterator[Self]:
        """Have every `SystemClock` of this process show this clock's time inside the block."""

        def now(_clock: SystemClock) -> Moment:
            return self.now()

        with mock.patch.object(SystemClock, "now", now):
            yield self


def _moment(value: datetime | Moment) -> Moment:
    return from_datetime(value) if isinstance(value, datetime) else value
