from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backroom.clock import LAST, SECOND, SystemClock, after, from_datetime, seconds_between, to_datetime
from backroom.testing import FakeClock

zones = st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(-timedelta(hours=3, minutes=30))])


@given(st.datetimes(timezones=zones, min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1)))  # noqa: DTZ001
def test_a_datetime_comes_back_to_the_microsecond(value):
    assert to_datetime(from_datetime(value)) == value


@given(st.integers(0, LAST), st.integers(0, LAST))
def test_moments_sort_as_their_datetimes_do(one, other):
    assert (one < other) == (to_datetime(one) < to_datetime(other))


@given(st.integers(0, LAST))
def test_a_moment_comes_back(moment):
    assert from_datetime(to_datetime(moment)) == moment


@given(st.floats(allow_nan=False) | st.integers(-(10**400), 10**400))
def test_every_moment_that_is_reached_is_a_datetime(seconds):
    # A snooze of a thousand years, or a backoff that ran away, must not become a number that no store can hold.
    moment = after(from_datetime(datetime(2026, 1, 1, tzinfo=UTC)), seconds)
    assert from_datetime(to_datetime(moment)) == moment


def test_a_naive_datetime_is_no_moment():
    with pytest.raises(ValueError, match="no time zone"):
        from_datetime(datetime(2026, 1, 1))  # noqa: DTZ001


def test_seconds_are_counted_between_moments():
    assert after(1, 1.5) == 1 + 1_500_000
    assert after(5 * SECOND, -2) == 3 * SECOND
    assert seconds_between(5 * SECOND, 7 * SECOND + 1) == 2.000001


def test_the_system_clock_tells_the_time():
    assert abs(to_datetime(SystemClock().now()) - datetime.now(UTC)) < timedelta(minutes=1)


class TestFakeClock:
    def test_it_stands_still_until_it_is_moved(self):
        clock = FakeClock(datetime(2026, 1, 1, tzinfo=UTC))
        assert clock.now() == clock.now()
        clock.advance(1.5)
        clock.advance(timedelta(minutes=1))
        assert clock.today() == datetime(2026, 1, 1, 0, 1, 1, 500_000, tzinfo=UTC)
        clock.advance(-61.5)
        assert clock.today() == datetime(2026, 1, 1, tzinfo=UTC)
        assert to_datetime(clock.move_to(5 * SECOND)) == to_datetime(clock.now())

    def test_it_starts_now(self):
        assert abs(FakeClock().today() - datetime.now(UTC)) < timedelta(minutes=1)

    def test_installed_it_is_every_system_clock(self):
        kept = SystemClock()
        with FakeClock(7).installed() as clock:
            assert kept.now() == SystemClock().now() == 7
            clock.advance(1)
            assert kept.now() == 7 + SECOND
        assert kept.now() > 10**15
