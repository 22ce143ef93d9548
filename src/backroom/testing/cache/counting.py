"""Sums: exact, of numbers alone, of any size."""

import pytest

from backroom.testing.cache.case import CacheCase


class Counting(CacheCase):
    """`incr` and `decr`."""

    def test_adding_and_taking_away(self) -> None:
        self.cache.set("key", 41)
        assert self.cache.incr("key") == 42
        assert self.cache.get("key") == 42
        assert self.cache.incr("key", 10) == 52
        assert self.cache.decr("key") == 51
        assert self.cache.incr("key", -50) == 1

    def test_below_zero(self) -> None:
        self.cache.set("key", 1)
        assert self.cache.decr("key", 3) == -2
        assert self.cache.get("key") == -2

    def test_what_is_missing_or_has_expired_cannot_be_added_to(self) -> None:
        self.expire("expired")
        for key in ("missing", "expired"):
            with pytest.raises(ValueError, match=key):
                self.cache.incr(key)
            assert self.is_gone(key)

    def test_text_cannot_be_added_to_and_stays(self) -> None:
        self.cache.set("key", "text")
        with pytest.raises(Exception, match=r"."):
            self.cache.incr("key")
        assert self.cache.get("key") == "text"

    def test_beyond_sixty_four_bits(self) -> None:
        self.cache.set("key", 2**63 - 1)
        assert self.cache.incr("key") == 2**63
        assert self.cache.incr("key", 2**70) == 2**63 + 2**70
        assert self.cache.decr("key", 2**70) == 2**63
        assert self.cache.get("key") == 2**63

    def test_a_fraction_can_be_added_to(self) -> None:
        self.cache.set("key", 1.5)
        assert self.cache.incr("key") == 2.5
        assert self.cache.get("key") == 2.5

    def test_a_number_that_was_added_to_is_an_integer_still(self) -> None:
        self.cache.set("key", 0)
        for _ in range(3):
            self.cache.incr("key")
        assert type(self.cache.get("key")) is int
        assert self.cache.get_many(["key"]) == {"key": 3}
