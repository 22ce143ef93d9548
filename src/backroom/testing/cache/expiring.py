"""How long an entry lives: to the millisecond, and never again once it is over."""

from typing import Any, Final

from backroom.testing.cache.case import CacheCase, promptly

SHORT: Final = 0.03


class Expiring(CacheCase):
    """Lifetimes."""

    def test_a_lifetime_of_milliseconds(self) -> None:
        self.cache.set("short", 1, SHORT)
        self.cache.set("long", 1, 60)
        self.wait_until_gone("short")
        assert self.cache.get("long") == 1

    def test_a_lifetime_ends(self) -> None:
        def stored() -> Any:
            self.cache.delete("added")
            self.cache.set("set", 1, self.brief)
            self.cache.add("added", 1, self.brief)
            self.cache.set_many({"many": 1}, self.brief)
            return self.cache.get_many(["set", "added", "many"])

        assert promptly(stored, within=self.shortest) == {"set": 1, "added": 1, "many": 1}
        for key in ("set", "added", "many"):
            self.wait_until_gone(key)

    def test_half_a_second_is_not_nothing(self) -> None:
        def stored() -> Any:
            self.cache.set("key", 1, 0.5)
            return self.cache.get("key")

        assert promptly(stored, within=0.4) == 1

    def test_half_a_second_may_be_the_default(self) -> None:
        cache = self.make_cache(TIMEOUT=0.5)

        def stored() -> Any:
            cache.set("key", 1)
            return cache.get("key")

        assert promptly(stored, within=0.4) == 1

    def test_zero_and_less_store_nothing_and_remove_what_was_there(self) -> None:
        for timeout in (0, -1, -100):
            self.cache.set("key", 1)
            self.cache.set("key", 2, timeout)
            assert self.is_gone("key")
            self.cache.set_many({"key": 1})
            self.cache.set_many({"key": 2}, timeout)
            assert self.is_gone("key")

    def test_none_and_years_are_long(self) -> None:
        self.cache.set("none", 1, None)
        self.cache.set("years", 1, 60 * 60 * 24 * 365 * 3)
        assert self.cache.get_many(["none", "years"]) == {"none": 1, "years": 1}

    def test_touch_makes_a_life_longer_or_shorter(self) -> None:
        self.cache.set_many({"shorter": 1, "longer": 1}, 50)
        assert self.cache.touch("longer", 90) is True
        assert self.cache.touch("shorter", self.shortest) is True
        self.wait_until_gone("shorter")
        assert self.cache.get("longer") == 1

    def test_touch_with_zero_is_the_end(self) -> None:
        self.cache.set("key", 1)
        assert self.cache.touch("key", 0) is True
        assert self.is_gone("key")
        assert self.cache.touch("key", 0) is False

    def test_touch_does_not_bring_back_what_has_expired(self) -> None:
        self.expire("key")
        assert self.cache.touch("key", 60) is False
        assert self.is_gone("key")

    def test_touch_of_nothing_is_false(self) -> None:
        assert self.cache.touch("key", 60) is False

    def test_what_has_expired_can_be_added_again(self) -> None:
        self.expire("key")
        assert self.cache.add("key", 2) is True
        assert self.cache.get("key") == 2

    def test_what_has_expired_was_not_there_to_delete(self) -> None:
        self.expire("key")
        assert self.cache.delete("key") is False

    def test_a_sum_lives_no_longer_than_what_was_added_to(self) -> None:
        def added() -> Any:
            self.cache.set("key", 1, self.brief)
            return self.cache.incr("key")

        assert promptly(added, within=self.shortest) == 2
        self.expire("later", self.brief)
        assert self.is_gone("key")

    def test_a_sum_that_lives_for_ever_goes_on_doing_so(self) -> None:
        cache = self.make_cache(TIMEOUT=self.shortest)
        cache.set("for-ever", 1, None)
        cache.set("a-second", 1)
        cache.incr("for-ever")
        self.wait_until_gone("a-second")
        assert cache.get("for-ever") == 2
