"""The Prefer header (RFC 7240)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backroom.offload.prefer import Preferences, parse

tokens = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,12}", fullmatch=True)
quoted = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E)).map(
    lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Preferences()),
        ("respond-async", Preferences(respond_async=True)),
        ("respond-async, wait=10", Preferences(respond_async=True, wait=10)),
        ("wait=10", Preferences(wait=10)),
        ('wait="10"', Preferences(wait=10)),
        ("WAIT = 10 ; foo=1", Preferences(wait=10)),
        ('respond-async=""', Preferences(respond_async=True)),
        ("respond-async; x, , wait=0", Preferences(respond_async=True, wait=0)),
        # The first one counts (RFC 7240, 2).
        ("wait=1, wait=2", Preferences(wait=1)),
        # A comma inside a quoted word ends nothing.
        ('foo="a, wait=5", wait=3', Preferences(wait=3)),
        ("return=minimal, handling=lenient", Preferences()),
        # Malformed or meaningless: passed over, for a preference is no order.
        ("wait", Preferences()),
        ("wait=soon", Preferences()),
        ("wait=-1", Preferences()),
        ("wait=1.5", Preferences()),
        ("wait=٣", Preferences()),
        ("=5, wait=4", Preferences(wait=4)),
        ('wait="5', Preferences()),
        ("respond-async=yes", Preferences()),
    ],
)
def test_preferences_are_read_as_the_rfc_says(header, expected):
    assert parse(header) == expected


@given(st.text())
def test_no_header_is_an_error(header):
    parse(header)


@given(st.integers(min_value=0))
def test_a_wait_of_any_length_is_read(seconds):
    wait = parse(f"wait={seconds}").wait
    assert wait == min(seconds, 10**9) or (wait == seconds)


@given(st.lists(st.tuples(tokens, st.one_of(st.none(), tokens, quoted)), max_size=5))
def test_preferences_that_mean_nothing_here_hide_none_that_do(others):
    named = [name if value is None else f"{name}={value}" for name, value in others if name.lower() not in KNOWN]
    assert parse(", ".join([*named, "wait=7", "respond-async"])) == Preferences(wait=7, respond_async=True)


KNOWN = {"wait", "respond-async"}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("", 0.2), ("wait=3", 3), ("wait=99", 10), ("wait=0", 0), ("respond-async", 0), ("respond-async, wait=3", 3)],
)
def test_a_request_is_held_as_long_as_both_sides_agree_on(header, seconds):
    assert parse(header).seconds(default=0.2, limit=10) == seconds


@pytest.mark.parametrize(
    ("header", "is_async", "applied"),
    [
        ("", True, ""),
        ("respond-async", True, "respond-async"),
        ("respond-async", False, ""),
        ("wait=99", False, "wait=10"),
        ("respond-async, wait=3", True, "respond-async, wait=3"),
        ("respond-async, wait=3", False, "wait=3"),
    ],
)
def test_the_client_is_told_what_was_honoured(header, is_async, applied):
    assert parse(header).applied(limit=10, is_async=is_async) == applied
