"""cached() and fetch(): hits, staleness, errors, keys, and one computation at a time."""

from __future__ import annotations

import asyncio
import inspect
import re
import threading
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import UUID

import pytest
from django.core.cache import cache, caches
from django.db.transaction import TransactionManagementError
from django.test import override_settings
from django.utils import translation

from backroom.cache import (
    InvalidationFailed,
    adepend_on,
    afetch,
    aforget,
    ainvalidate,
    cached,
    computing,
    depend_on,
    failures,
    fetch,
    forget,
    invalidate,
    locks,
    waiting,
)
from backroom.cache.arguments import UncacheableArgument, pack, unpack
from backroom.cache.entries import Entry, Lifetime, Standing
from backroom.cache.functions import UnusableFunction
from backroom.cache.generations import current, tag_key
from backroom.cache.steps import run
from backroom.cache.waiting import Waiting
from backroom.errors import FromOutside
from backroom.redis import RedisUnavailable

INLINE = override_settings(BACKROOM={"CACHE_REFRESH": "requests"})


def counting(**options: Any) -> Any:
    numbers = count(1)

    @cached(options.pop("timeout", 100), key="counting", early=0, **options)
    def number(name="a"):
        return f"{name}{next(numbers)}"

    return number


# ── Hits ────────────────────────────────────────────────────────────────────────────────────────


def test_a_result_is_computed_once_for_each_set_of_arguments(any_cache):
    number = counting()
    assert [number("a"), number("a"), number("b"), number(name="a"), number()] == ["a1", "a1", "b2", "a1", "a1"]


def test_none_and_every_other_value_that_is_false_are_kept(any_cache):
    calls = []

    @cached(100, key="nothing")
    def nothing(value: Any) -> Any:
        calls.append(value)
        return value

    values: list[Any] = [None, 0, "", [], False]
    for value in values:
        assert nothing(value) == nothing(value) == value
    assert len(calls) == 5


def test_a_result_expires(clock):
    number = counting(timeout=10)
    assert number() == "a1"
    clock.go_on(9.9)
    assert number() == "a1"
    clock.go_on(0.2)
    assert number() == "a2"


def test_without_a_timeout_a_result_stays_and_with_none_at_all_it_does_not(clock):
    forever = counting(timeout=None)
    assert forever() == "a1"
    clock.go_on(10**9)
    assert forever() == "a1"
    never = counting(timeout=0, tags="never")
    invalidate("never")
    forever.invalidate()
    assert [never(), never()] == ["a1", "a2"]


def test_jitter_shortens_a_timeout_and_never_lengthens_it(clock):
    made = [counting(timeout=100, jitter=0.5).policy._lifetime_of("x", False).fresh for _ in range(200)]
    assert all(50 <= fresh <= 100 for fresh in made)
    assert len(set(made)) > 100


def test_nothing_found_has_a_lifetime_of_its_own(clock):
    answers = iter([None, "found"])

    @cached(100, negative=5, key="negative")
    def look():
        return next(answers)

    assert look() is None
    clock.go_on(4)
    assert look() is None
    clock.go_on(2)
    assert look() == "found"


def test_an_error_that_is_an_answer_is_remembered(clock):
    calls = []

    @cached(100, negative=5, errors=(LookupError,), key="errors")
    def look(name):
        calls.append(name)
        raise LookupError(name)

    for _ in range(2):
        with pytest.raises(LookupError, match="nobody"):
            look("nobody")
    assert calls == ["nobody"]
    clock.go_on(6)
    with pytest.raises(LookupError):
        look("nobody")
    assert len(calls) == 2


def test_what_is_not_to_be_kept_is_not():
    number = counting(keep=lambda value: value != "a1")
    assert [number(), number(), number()] == ["a1", "a2", "a2"]


def test_what_else_lies_under_the_key_is_a_miss():
    number = counting()
    cache.set(number.key("a"), ["rubbish"])
    assert number() == "a1"


def test_fetch_keeps_what_is_computed_for_a_key(any_cache):
    numbers = count(1)
    assert [fetch("some key with spaces", lambda: next(numbers)) for _ in range(3)] == [1, 1, 1]
    forget("some key with spaces")
    assert fetch("some key with spaces", lambda: next(numbers)) == 2


def test_an_alias_is_where_it_is_kept():
    numbers = count(1)
    assert fetch("k", lambda: next(numbers), alias="other") == 1
    assert fetch("k", lambda: next(numbers)) == 2
    caches["other"].clear()
    assert fetch("k", lambda: next(numbers), alias="other") == 3


def test_methods_are_cached_with_their_instance_as_an_argument():
    class Shop:
        pk = 1

        @cached(100, key=lambda self, day: [self.pk, day])
        def takings(self, day):
            return object() is None, day

    assert Shop().takings(1) == Shop().takings(1)
    assert inspect.ismethod(Shop().takings)


# ── Staleness ───────────────────────────────────────────────────────────────────────────────────


@INLINE
def test_a_stale_value_is_computed_anew_by_one_caller(clock):
    number = counting(timeout=10, stale=60)
    assert number() == "a1"
    clock.go_on(11)
    assert number() == "a2"


@INLINE
def test_the_others_get_the_stale_value_while_one_computes_it(clock):
    inside, go_on = threading.Event(), threading.Event()
    answers = iter(["old", "new"])

    @cached(10, stale=60, key="slow")
    def slow():
        answer = next(answers)
        if answer == "new":
            inside.set()
            go_on.wait(20)
        return answer

    assert slow() == "old"
    clock.go_on(11)
    renewing = threading.Thread(target=slow)
    renewing.start()
    assert inside.wait(20)
    assert slow() == "old"
    go_on.set()
    renewing.join(20)
    assert slow() == "new"


@override_settings(BACKROOM={"CACHE_REFRESH": "threads"})
def test_a_thread_computes_a_stale_value_behind_the_callers_back(clock):
    done = threading.Event()
    answers = iter(["old", "new"])

    @cached(10, stale=60, key="behind")
    def behind():
        answer = next(answers)
        if answer == "new":
            done.set()
        return answer

    assert behind() == "old"
    clock.go_on(11)
    assert behind() == "old"
    assert done.wait(20)
    join_refreshers()
    assert behind() == "new"


def join_refreshers() -> None:
    for thread in threading.enumerate():
        if thread.name == "backroom-cache":
            thread.join(20)


def test_after_the_stale_time_a_caller_waits_for_the_new_value(clock):
    number = counting(timeout=10, stale=60)
    assert number() == "a1"
    clock.go_on(71)
    assert number() == "a2"


@INLINE
def test_a_value_stands_in_for_an_error_as_long_as_it_may_and_the_error_reaches_the_caller_after(clock, caplog):
    answers: list[Any] = ["old", OSError("down"), OSError("down"), OSError("down for good")]
    calls = []

    @cached(10, stale_if_error=100, key="down")
    def down():
        calls.append(1)
        answer = answers[len(calls) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert down() == "old"
    clock.go_on(11)
    assert down() == "old"
    assert "action=served-stale" in caplog.text
    # Not everybody tries a service that is down.
    assert [down(), down()] == ["old", "old"]
    assert len(calls) == 2
    clock.go_on(6)
    assert down() == "old"
    assert len(calls) == 3
    clock.go_on(100)
    with pytest.raises(OSError, match="for good"):
        down()


def test_an_error_reaches_its_caller_and_leaves_no_lock():
    def broken():
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fetch("broken", broken)
    assert fetch("broken", lambda: "mended") == "mended"


def test_the_nearer_the_end_and_the_dearer_the_likelier_a_value_is_computed_early():
    def standing(age, cost, chance):
        life = Lifetime(fresh=100, early=1.0)
        entry = Entry(value=1, made_at=0.0, cost=cost, lifetime=life, generations={})
        return entry.standing(age, chance)

    assert standing(1, 2.0, 0.5) is Standing.FRESH
    assert standing(99, 2.0, 0.5) is Standing.EARLY
    assert standing(99, 0.001, 0.5) is Standing.FRESH
    assert standing(60, 20.0, 0.01) is Standing.EARLY
    # P(age - cost·ln(chance) ≥ fresh) = e^(-(fresh - age)/cost): the paper's law, on a grid of chances.
    drawn = [standing(97, 3.0, (n + 0.5) / 1000) for n in range(1000)].count(Standing.EARLY)
    assert abs(drawn - 368) <= 1


def test_beta_nought_never_computes_early():
    entry = Entry(value=1, made_at=0.0, cost=50, lifetime=Lifetime(fresh=100, early=0), generations={})
    assert entry.standing(99.99, 0.0001) is Standing.FRESH


def test_refresh_computes_now():
    number = counting()
    assert [number(), number.refresh(), number()] == ["a1", "a2", "a2"]


# ── Invalidation ────────────────────────────────────────────────────────────────────────────────


def test_a_call_is_invalidated_by_its_arguments(any_cache):
    number = counting()
    assert [number("a"), number("b")] == ["a1", "b2"]
    number.invalidate("a")
    assert [number("a"), number("b")] == ["a3", "b2"]


def test_tags_invalidate_what_has_one_of_them(any_cache):
    number = counting(tags=["prices", "user:{name}"])
    other = cached(100, key="other", tags="news")(lambda: object() is None)
    other()
    assert [number("a"), number("b")] == ["a1", "b2"]
    invalidate("user:a")
    assert [number("a"), number("b")] == ["a3", "b2"]
    invalidate("prices")
    assert [number("a"), number("b")] == ["a4", "b5"]


def test_tags_may_come_from_a_function_of_the_arguments():
    number = counting(tags=lambda name: [f"is:{name}"])
    assert number("a") == "a1"
    invalidate("is:b")
    assert number("a") == "a1"
    invalidate("is:a")
    assert number("a") == "a2"


def noting(name, original, asked):
    def method(self, *args, **kwargs):
        asked.append(name)
        return original(self, *args, **kwargs)

    return method


def test_invalidating_costs_the_same_however_much_there_is(monkeypatch):
    number = counting(tags="all")
    for place in range(50):
        number(f"n{place}")
    asked: list[str] = []
    backend = type(caches["default"])
    for method in ("get", "set", "add", "delete", "touch", "incr"):
        monkeypatch.setattr(backend, method, noting(method, getattr(backend, method), asked))
    invalidate("all", alias="default")
    assert asked == ["set", "get"]


def test_a_tag_that_was_lost_revives_nothing(any_cache):
    number = counting(tags="prices")
    assert number() == "a1"
    invalidate("prices")
    cache.delete(tag_key("prices"))
    assert number() == "a2"
    cache.delete(tag_key("prices"))
    assert number() == "a3"


def test_an_invalidation_during_a_computation_is_not_hidden_by_its_result(any_cache):
    def computing():
        invalidate("prices")
        return "from before"

    assert fetch("race", computing, tags="prices") == "from before"
    assert fetch("race", lambda: "from after", tags="prices") == "from after"


def test_a_call_invalidated_while_it_is_computed_is_not_kept():
    answers = iter(["old", "new"])

    @cached(100, key="racing")
    def racing():
        answer = next(answers)
        if answer == "old":
            racing.invalidate()
        return answer

    assert [racing(), racing(), racing()] == ["old", "new", "new"]


def test_what_encloses_a_computation_is_invalidated_with_it():
    numbers = count(1)

    def inner():
        return fetch("inner", lambda: next(numbers), tags="inner")

    def outer():
        return fetch("outer", inner, alias="other")

    assert [outer(), outer()] == [1, 1]
    invalidate("inner")
    assert outer() == 2


def test_what_a_computation_says_it_depends_on_invalidates_it():
    numbers = count(1)

    def compute():
        depend_on("late")
        depend_on()
        return next(numbers)

    assert [fetch("k", compute), fetch("k", compute)] == [1, 1]
    invalidate("late")
    assert fetch("k", compute) == 2
    depend_on("outside")


def test_every_cache_is_told_unless_one_is_named():
    fetch("k", lambda: 1, tags="t")
    fetch("k", lambda: 1, tags="t", alias="other")
    invalidate("t", alias="default")
    assert fetch("k", lambda: 2, tags="t", alias="other") == 1
    assert fetch("k", lambda: 2, tags="t") == 2
    invalidate("t")
    assert fetch("k", lambda: 3, tags="t", alias="other") == 3


@pytest.mark.parametrize("say", [lambda: invalidate("t"), lambda: asyncio.run(ainvalidate("t"))])
def test_a_cache_that_is_down_keeps_no_other_from_being_told_and_is_named(settings, say):
    down = {"BACKEND": "backroom.cache.backends.redis.RedisCache", "LOCATION": "redis://127.0.0.1:1/0"}
    settings.CACHES = {"down": down, **settings.CACHES}
    assert fetch("k", lambda: 1, tags="t") == 1
    with pytest.raises(InvalidationFailed, match=r"CACHES\['down'\] \(RedisUnavailable\)") as found:
        say()
    assert isinstance(found.value.__cause__, RedisUnavailable)
    assert fetch("k", lambda: 2, tags="t") == 2
    with pytest.raises(RedisUnavailable):
        invalidate("t", alias="down")


@pytest.mark.parametrize("say", [lambda: invalidate("t"), lambda: asyncio.run(ainvalidate("t"))])
def test_an_invalidation_that_others_overtake_each_time_is_no_failure(monkeypatch, say):
    backend, others = type(caches["default"]), count(1)

    def set_many(self, data, *args, original=backend.set_many, **options):
        failed = original(self, data, *args, **options)
        original(self, {key: f"another's, number {next(others)}" for key in data}, None)
        return failed

    assert fetch("k", lambda: 1, tags="t") == 1
    monkeypatch.setattr(backend, "set_many", set_many)
    say()
    monkeypatch.undo()
    assert fetch("k", lambda: 2, tags="t") == 2


def test_an_invalidation_that_is_never_taken_is_told_however_the_old_generation_is_read(monkeypatch):
    backend, looks = type(caches["default"]), count(1)
    assert fetch("k", lambda: 1, tags="t") == 1

    def get_many(self, keys, version=None, original=backend.get_many):
        # It cannot be read the first time.
        return {} if next(looks) == 1 else original(self, keys, version)

    monkeypatch.setattr(backend, "set_many", lambda _self, data, *_args, **_options: list(data))
    monkeypatch.setattr(backend, "get_many", get_many)
    with pytest.raises(InvalidationFailed, match="did not take the new generation of 1 tag"):
        invalidate("t", alias="default")


def test_of_two_who_make_the_generation_of_a_tag_the_first_ones_counts(monkeypatch):
    cache.set(tag_key("t"), "the first one's")
    backend, looks = type(caches["default"]), []

    def get_many(self, keys, version=None, original=backend.get_many):
        looks.append(keys)
        # It came after the other one had looked.
        return {} if len(looks) == 1 else original(self, keys, version)

    monkeypatch.setattr(backend, "get_many", get_many)
    assert run(current("default", ["t"])) == {"t": "the first one's"}


def test_a_hit_is_one_read_and_no_write(monkeypatch):
    number = counting(tags="all")
    number()
    asked: list[str] = []
    backend = type(caches["default"])
    for method in ("get_many", "set", "add", "delete", "touch", "incr", "set_many"):
        monkeypatch.setattr(backend, method, noting(method, getattr(backend, method), asked))
    assert number() == "a1"
    assert asked == ["get_many"]


@INLINE
def test_a_stale_value_that_is_forgotten_before_it_is_computed_anew_is_computed(clock, monkeypatch):
    number = counting(timeout=10, stale=60)
    assert number() == "a1"
    clock.go_on(11)

    def forgetful(alias, key, lease, original=locks.claim):
        cache.clear()
        return (yield from original(alias, key, lease))

    monkeypatch.setattr(computing, "claim", forgetful)
    assert number() == "a2"


# ── Keys ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, 1.5, "text", "ünïcode \x00 and spaces"),
        *([1, [2]], (1, "2"), {"b": 1, "a": [None]}, {3, 1, 2}),
        *(datetime(2026, 1, 2, tzinfo=UTC), date(2026, 1, 2), timedelta(days=1, microseconds=1), Decimal("1.10")),
        *(UUID(int=7), b"\xff\x00"),
    ],
)
def test_an_argument_travels_as_json_and_comes_back(value):
    import json

    assert unpack(json.loads(json.dumps(pack(value, "x")))) == value


def test_different_arguments_have_different_keys_and_equal_ones_the_same():
    number = counting()
    values = [
        1,
        True,
        1.0,
        "1",
        [1],
        (1,),
        None,
        "None",
        {"a": 1},
        [["a", 1]],
        Decimal(1),
        ["tuple", 1],
        date(2026, 1, 1),
    ]
    keys = [number.key(value) for value in values]
    assert len(set(keys)) == len(values)
    assert number.key({"a": 1, "b": 2}) == number.key({"b": 2, "a": 1})
    assert all(len(key) < 200 and " " not in key for key in keys)


def test_an_argument_without_a_text_is_refused_by_name():
    number = counting()
    with pytest.raises(UncacheableArgument, match=r"'name' is a object.*ignore=\['name'\]"):
        number(object())


def test_a_parameter_can_be_left_out_of_the_key_and_a_wrong_name_is_refused():
    @cached(100, key="ignoring", ignore=["request"])
    def page(request, name):
        return request

    assert page("first", "x") == page("second", "x") == "first"
    with pytest.raises(UnusableFunction, match="no parameter reqest"):
        cached(100, key="x", ignore=["reqest"])(lambda: 1)


def test_what_surrounds_a_call_can_be_part_of_its_key():
    @cached(100, key="around", vary_on=[translation.get_language])
    def language():
        return translation.get_language()

    with translation.override("de"):
        assert language() == "de"
    with translation.override("fr"):
        assert language() == "fr"


@pytest.mark.parametrize("name", ["with spaces", "line\r\nset evil 0 0 1", "übersicht", "x" * 300])
def test_cve_2020_13254_no_name_and_no_argument_makes_a_key_that_memcached_would_misread(name):
    number = cached(100, key=name)(lambda text: text)
    keys = [number.key(text) for text in ("\r\nflush_all\r\n", " ", "\x7f", "ü" * 300)]
    assert len(set(keys)) == 4
    for key in keys:
        assert re.fullmatch(r"[!-~]{1,200}", key)
    assert number.key("a") != cached(100, key=f"{name}_")(lambda text: text).key("a")


def test_a_function_that_is_made_anew_each_time_needs_a_name():
    with pytest.raises(UnusableFunction, match=r"key=…"):
        cached(100)(lambda: 1)


# ── One at a time ───────────────────────────────────────────────────────────────────────────────


def test_threads_that_want_the_same_cause_one_computation(any_cache, together):
    calls = []
    started = threading.Event()

    def compute():
        calls.append(1)
        # All of the others are on their way by then, or find the value: either way there is one call.
        started.wait(0.2)
        return "value"

    assert together(12, lambda _n: fetch("stampede", compute)) == ["value"] * 12
    assert len(calls) == 1


def test_who_died_while_computing_is_waited_for_no_longer_than_its_lease(any_cache):
    from backroom.cache.computing import Recipe, obtained
    from backroom.cache.locks import claim
    from backroom.cache.steps import run

    recipe = Recipe(alias="default", key="dead", compute=lambda: "alive", lifetime=Lifetime(fresh=100), lease=1)
    left_behind = run(claim("default", "dead", 1))
    assert left_behind is not None
    if any_cache == "file":
        # There the system gives back what a process held; this process still lives.
        run(left_behind.give_back())
    assert run(obtained(recipe)).value == "alive"


def test_patience_ends_before_the_lease_does(caplog):
    from backroom.cache.functions import _bucket_of, _recipe  # noqa: F401 - the key of fetch()
    from backroom.cache.locks import claim
    from backroom.cache.policies import Policy
    from backroom.cache.steps import run

    recipe = _recipe(Policy(), "default", "slow", lambda: 1, ())
    assert run(claim("default", recipe.key, 100)) is not None
    assert fetch("slow", lambda: "my own", patience=0.05) == "my own"
    assert "action=gave-up-waiting" in caplog.text


@override_settings(CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}})
def test_a_cache_that_keeps_nothing_is_computed_each_time():
    numbers = count(1)
    assert [fetch("k", lambda: next(numbers), tags="t") for _ in range(3)] == [1, 2, 3]
    invalidate("t")


def test_who_finds_the_lock_with_others_each_time_and_gone_at_each_look_still_waits_for_it(monkeypatch, caplog):
    backend, turns = type(caches["default"]), iter(range(9))
    add, locks = backend.add, []

    def busy(cache, key, *args, **kwargs):
        # The first that is asked for; others take it, and give it back at once.
        locks.append(key)
        return add(cache, key, *args, **kwargs) if key != locks[0] or next(turns, None) is None else False

    monkeypatch.setattr(backend, "add", busy)
    monkeypatch.setattr("backroom.cache.steps.time.sleep", lambda _seconds: None)
    assert fetch("k", lambda: "computed") == "computed"
    assert locks.count(locks[0]) == 10
    assert "cache_no_lock" not in caplog.text


def test_a_cache_that_takes_no_writes_holds_nobody_up(monkeypatch, caplog):
    backend = type(caches["default"])
    monkeypatch.setattr(backend, "add", lambda *_args, **_kwargs: False)
    monkeypatch.setattr(backend, "set", lambda *_args, **_kwargs: None)
    for _ in range(3):
        assert fetch("k", lambda: "computed") == "computed"
    # Once a minute is enough.
    assert caplog.text.count("action=cache_no_lock cache=default key=") == 1
    assert "gave-up-waiting" not in caplog.text


def waiting_for(monkeypatch, number):
    """Return an event that is set when so many have found the lock taken."""
    seen: set[int] = set()
    all_wait = threading.Event()

    def look(self, key, original=Waiting.look):
        yield from original(self, key)
        seen.add(threading.get_ident())
        if len(seen) == number:
            all_wait.set()

    monkeypatch.setattr(Waiting, "look", look)
    # A machine that stands still for seconds loses nothing of what they wait for.
    monkeypatch.setattr(waiting, "AFTER_A_FAILURE", 600)
    return all_wait


def test_those_who_wait_for_what_is_not_kept_do_not_compute_one_after_the_other(monkeypatch, together):
    all_wait, first = waiting_for(monkeypatch, 3), threading.Lock()
    # All of the others have to be inside at once.
    inside = threading.Barrier(3)

    def compute():
        if first.acquire(blocking=False):
            assert all_wait.wait(30)
        else:
            inside.wait(30)
        return "not kept"

    answers = together(4, lambda _n: fetch("k", compute, keep=lambda value: value != "not kept"))
    assert answers == ["not kept"] * 4
    assert fetch("k", lambda: "kept") == fetch("k", lambda: "again") == "kept"


class Refused(LookupError):
    """An error that is made of more than what it says."""

    def __init__(self, text, *, by):
        super().__init__(text, by)


@pytest.mark.parametrize("error", [LookupError("no", 7), ConnectionRefusedError(111, "refused"), Refused("no", by=3)])
def test_those_who_wait_for_what_fails_get_that_error_and_who_comes_next_tries_again(
    any_cache, monkeypatch, together, error
):
    all_wait, calls = waiting_for(monkeypatch, 3), []

    def compute():
        calls.append(1)
        assert all_wait.wait(30)
        raise error

    answers = together(4, lambda _n: fetch("k", compute))
    assert {(type(each), str(each)) for each in answers} == {(type(error), str(error))}
    assert sorted(len(getattr(each, "__notes__", ())) for each in answers) == [0, 1, 1, 1]
    assert len(calls) == 1
    with pytest.raises(type(error)):
        fetch("k", compute)
    assert len(calls) == 2
    assert fetch("k", lambda: "well") == "well"


@pytest.mark.parametrize(
    "failure",
    [
        ["word", "os:system", ["true"]],
        ["word", "builtins:KeyboardInterrupt", []],
        ["word", "not.imported:Error", []],
        ["word", "builtins:NoSuchError", []],
        ["word", "builtins:ExceptionGroup", [1]],
        ["word", 1, []],
        1,
        None,
    ],
)
def test_what_is_no_error_that_this_process_knows_is_not_raised(failure):
    assert failures.again(failure) is None


class Mute:
    def __str__(self):
        raise OSError


def test_of_an_error_is_told_what_can_be_and_not_at_length():
    remembered: Any = failures.remembered
    word, path, arguments = remembered(OSError(5, "x" * 5000, Mute(), OSError("inner"), None))
    assert (path, arguments) == ("builtins:OSError", [5, "x" * 1000])
    assert remembered(ValueError(Mute(), OSError("inner"), None))[2] == ["Mute", "inner", None]
    assert word != remembered(OSError())[0]


def test_those_whose_error_cannot_be_told_take_turns(monkeypatch, together):
    class OfNobodyElse(Exception):
        pass

    all_wait, inside = waiting_for(monkeypatch, 3), threading.Lock()

    def compute():
        assert inside.acquire(blocking=False)
        assert all_wait.wait(30)
        inside.release()
        raise OfNobodyElse

    assert {type(each) for each in together(4, lambda _n: fetch("k", compute))} == {OfNobodyElse}


class SoftTimeLimitExceeded(Exception):
    """What Celery's is called."""


@pytest.mark.parametrize("own", [FromOutside, SoftTimeLimitExceeded, TransactionManagementError])
def test_nobody_fails_with_what_is_the_first_ones_own_affair(monkeypatch, together, own):
    all_wait, calls = waiting_for(monkeypatch, 3), []

    def compute() -> str:
        calls.append(1)
        if len(calls) == 1:
            assert all_wait.wait(30)
            raise own
        return "made"

    def ask(_number: int) -> str:
        try:
            return fetch("k", compute)
        except own:
            return "its time is over"

    assert sorted(together(4, ask)) == ["its time is over", *["made"] * 3]
    assert len(calls) == 2


def test_those_who_wait_for_what_fails_get_the_old_value_at_once(clock, monkeypatch, together):
    all_wait, calls = waiting_for(monkeypatch, 3), []

    def compute():
        calls.append(1)
        assert all_wait.wait(30)
        raise LookupError

    assert fetch("k", lambda: "old", 10, stale_if_error=600) == "old"
    clock.go_on(11)
    assert together(4, lambda _n: fetch("k", compute, 10, stale_if_error=600)) == ["old"] * 4
    assert len(calls) == 1


def test_an_error_of_the_cache_hides_no_error_of_the_computation(monkeypatch, caplog):
    def compute():
        monkeypatch.setattr(type(caches["default"]), "set", gone)
        raise LookupError("mine")

    def gone(*_args, **_kwargs):
        raise ConnectionError

    with pytest.raises(LookupError, match="mine"):
        fetch("k", compute)
    assert "action=not-stored" in caplog.text


@INLINE
@pytest.mark.parametrize("is_stale", [False, True])
def test_an_error_between_the_claim_and_the_computation_leaves_no_lock(clock, monkeypatch, is_stale):
    if is_stale:
        fetch("k", lambda: "old", 10, stale=60)
        clock.go_on(11)
    backend, looks = type(caches["default"]), []

    def get_many(self, keys, version=None, original=backend.get_many):
        looks.append(keys)
        if len(looks) == 2:
            raise ConnectionError
        return original(self, keys, version)

    monkeypatch.setattr(backend, "get_many", get_many)
    with pytest.raises(ConnectionError):
        fetch("k", lambda: "new", 10, stale=60)
    stored: Any = caches["default"]
    assert not [key for key in stored._cache if "backroom.lock" in key and not key.endswith(".asked")]


@INLINE
def test_a_caller_who_has_computed_a_stale_value_leaves_nobody_to_wait_for(clock):
    number = counting(timeout=5, stale=60)
    for expected in ("a1", "a2", "a3"):
        assert number() == expected
        clock.go_on(6)


# ── In an event loop ────────────────────────────────────────────────────────────────────────────


async def _together(number, make):
    return await asyncio.gather(*(make() for _ in range(number)))


def test_coroutines_that_want_the_same_cause_one_computation(any_cache):
    calls = []

    @cached(100, key="acalls")
    async def slow(name):
        calls.append(name)
        await asyncio.sleep(0.05)
        return name.upper()

    assert inspect.iscoroutinefunction(slow)
    assert asyncio.run(_together(30, lambda: slow("x"))) == ["X"] * 30
    assert calls == ["x"]


def test_the_asynchronous_twins_do_the_same():
    async def story():
        numbers = count(1)

        async def compute():
            await adepend_on("late")
            return next(numbers)

        first = [await afetch("k", compute, tags="t"), await afetch("k", compute, tags="t")]
        await ainvalidate("t")
        second = await afetch("k", compute, tags="t")
        await ainvalidate("late")
        third = await afetch("k", lambda: next(numbers))
        await aforget("k")
        return [*first, second, third, await afetch("k", compute)]

    assert asyncio.run(story()) == [1, 1, 2, 3, 4]


def test_a_coroutine_that_is_cancelled_leaves_no_lock():
    async def story():
        begun = asyncio.Event()

        async def forever():
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(afetch("cancelled", forever))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await afetch("cancelled", lambda: "next")

    assert asyncio.run(story()) == "next"


def test_invalidate_and_refresh_have_twins_for_coroutines():
    numbers = count(1)

    @cached(100, key="atwins")
    async def number():
        return next(numbers)

    async def story():
        first = await number()
        await number.ainvalidate()
        return [first, await number(), await number.refresh(), await number()]

    assert asyncio.run(story()) == [1, 2, 3, 3]
