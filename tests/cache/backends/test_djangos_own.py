"""The contract of caches, on each of the seven ways of Django's own, with real servers.

What a way cannot do is listed with the reason, so that we know what stands under `cached()`, tags and pages there, and
learn when Django changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from django.core.cache.backends.base import BaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.management import call_command
from django.test import override_settings
from django.utils.module_loading import import_string

from backroom.testing.cache import CacheContract
from tests.services.memcached import MemcachedServer

NO_SCOPE: Final = "clear() ignores KEY_PREFIX and empties everything"
NO_COROUTINES: Final = "aget_or_set() pickles the coroutine"
WHOLE_SECONDS: Final = "a timeout is cut down to whole seconds, so half a second is none"
CUT_DEFAULT: Final = "TIMEOUT is cut down to whole seconds"
NOT_ATOMIC: Final = "incr() is a get and a set, so sums get lost"
NEW_LIFE: Final = "incr() sets, so the lifetime begins anew with the default"
RACE: Final = "add() looks and then writes, so that several succeed"
TOLD_TWICE: Final = "delete() tells several that there was something"
REVIVES: Final = "touch() does not look whether the entry has expired"
UNSIGNED: Final = "memcached's sums are unsigned 64-bit integers that stop at zero"
SIXTY_FOUR: Final = "the server's sums are 64-bit integers"
INTEGERS: Final = "the server adds to integers alone"
COUNTS_EXPIRED: Final = "delete() counts what has expired"
LAST_WRITER: Final = "get_or_set() rests on add(), which lets several in"

ALL: Final = {
    "test_clear_leaves_another_prefix_alone": NO_SCOPE,
    "test_a_coroutine_function_may_make_the_value": NO_COROUTINES,
    "test_half_a_second_may_be_the_default": CUT_DEFAULT,
}


class DjangosContract(CacheContract):
    """The contract, in a store that has whole seconds."""

    backend: str
    shortest = 1.0

    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.location = str(tmp_path)

    def make_cache(self, **params: Any) -> BaseCache:
        cache: BaseCache = import_string(f"django.core.cache.backends.{self.backend}")(self.location, {**params})
        return cache


def with_gaps(gaps: Mapping[str, str], *, by_chance: Mapping[str, str] | None = None) -> Any:
    """Mark the tests that this way does not pass; those `by_chance` are races that it may win."""

    def marked(case: type[CacheContract]) -> type[CacheContract]:
        for reasons, strict in ((ALL | dict(gaps), True), (by_chance or {}, False)):
            for name, reason in reasons.items():
                test = getattr(case, name)

                def again(self: Any, test: Any = test) -> None:
                    test(self)

                setattr(case, name, pytest.mark.xfail(reason=reason, strict=strict)(again))
        return case

    return marked


@with_gaps({"test_what_has_expired_was_not_there_to_delete": COUNTS_EXPIRED})
class TestLocMem(DjangosContract):
    backend = "locmem.LocMemCache"
    shortest = 0.1

    def make_cache(self, **params: Any) -> BaseCache:
        return super().make_cache(**{"OPTIONS": {"MAX_ENTRIES": 10_000}, **params})


@with_gaps(
    {
        "test_a_sum_lives_no_longer_than_what_was_added_to": NEW_LIFE,
        "test_a_sum_that_lives_for_ever_goes_on_doing_so": NEW_LIFE,
        "test_touch_does_not_bring_back_what_has_expired": "touch() raises ValueError of an expired entry",
    },
    by_chance={
        "test_sums_lose_nothing": NOT_ATOMIC,
        "test_many_at_a_time": NOT_ATOMIC,
        "test_of_several_who_add_one_succeeds": RACE,
        "test_of_several_who_add_after_an_expiry_one_succeeds": RACE,
        "test_of_several_who_delete_one_is_told_so": TOLD_TWICE,
        "test_all_get_the_value_that_was_stored_first": LAST_WRITER,
        "test_writers_do_not_disturb_readers": "a file that is being replaced may be missing",
        "test_what_has_expired_was_not_there_to_delete": COUNTS_EXPIRED,
    },
)
class TestFiles(DjangosContract):
    backend = "filebased.FileBasedCache"
    shortest = 0.1

    def make_cache(self, **params: Any) -> BaseCache:
        return super().make_cache(**{"OPTIONS": {"MAX_ENTRIES": 10_000}, **params})


@pytest.mark.django_db(transaction=True)
@with_gaps(
    {
        "test_a_sum_lives_no_longer_than_what_was_added_to": NEW_LIFE,
        "test_a_sum_that_lives_for_ever_goes_on_doing_so": NEW_LIFE,
        "test_touch_does_not_bring_back_what_has_expired": REVIVES,
    },
    by_chance={
        "test_sums_lose_nothing": NOT_ATOMIC,
        "test_many_at_a_time": NOT_ATOMIC,
        "test_half_a_second_is_not_nothing": WHOLE_SECONDS,
        "test_of_several_who_add_after_an_expiry_one_succeeds": "add() compares whole seconds",
        "test_what_has_expired_can_be_added_again": "add() compares whole seconds",
        "test_what_has_expired_was_not_there_to_delete": COUNTS_EXPIRED,
        "test_what_is_missing_or_has_expired_cannot_be_added_to": "it compares whole seconds",
    },
)
class TestDatabase(DjangosContract):
    backend = "db.DatabaseCache"

    @pytest.fixture(autouse=True)
    def _table(self, transactional_db: None) -> None:
        self.location = "contract_cache"
        table = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": self.location}}
        with override_settings(CACHES=table):
            call_command("createcachetable", verbosity=0)
        self.make_cache().clear()

    def make_cache(self, **params: Any) -> BaseCache:
        return super().make_cache(**{"OPTIONS": {"MAX_ENTRIES": 10_000}, **params})


MEMCACHED: Final = {
    "test_a_fraction_can_be_added_to": INTEGERS,
    "test_half_a_second_is_not_nothing": WHOLE_SECONDS,
    "test_below_zero": UNSIGNED,
    "test_beyond_sixty_four_bits": UNSIGNED,
    "test_text_that_is_no_utf_8_comes_back": "text is encoded as UTF-8",
}


# pymemcache leaves its sockets to the collector, and pylibmc trips over its own options in every client it makes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
class OnMemcached(DjangosContract):
    @pytest.fixture(autouse=True)
    def _server(self, memcached_server: MemcachedServer) -> None:
        self.location = memcached_server.location
        self.make_cache().clear()


@with_gaps(MEMCACHED)
class TestPyMemcache(OnMemcached):
    backend = "memcached.PyMemcacheCache"


@with_gaps(
    MEMCACHED
    | {
        "test_text_that_is_safe_for_a_page_stays_safe": "pylibmc takes a subclass of str for str",
        "test_a_value_comes_back_as_itself": "pylibmc takes True for 1",
        "test_values_come_back_as_themselves_when_stored_together": "pylibmc takes True for 1",
    }
)
class TestPyLibMC(OnMemcached):
    backend = "memcached.PyLibMCCache"


# A thread's client goes with the thread, and its sockets with the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@with_gaps(
    {
        "test_half_a_second_is_not_nothing": WHOLE_SECONDS,
        "test_beyond_sixty_four_bits": SIXTY_FOUR,
        "test_a_fraction_can_be_added_to": INTEGERS,
    }
)
class TestRedis(DjangosContract):
    backend = "redis.RedisCache"

    @pytest.fixture(autouse=True)
    def _server(self, redis_server: Any) -> None:
        self.location = redis_server.url
        self.make_cache().clear()


def test_the_dummy_keeps_nothing_and_complains_of_nothing():
    cache = DummyCache("", {})
    cache.set("key", 1)
    assert cache.add("key", 1) is True
    assert cache.get("key", "missing") == "missing"
    assert cache.get_many(["key"]) == {}
    assert cache.set_many({"key": 1}) == []
    assert cache.get_or_set("key", lambda: 7) == 7
    assert cache.touch("key") is cache.delete("key") is cache.has_key("key") is False
    cache.clear()
