"""What a full SQLite cache forgets, what it keeps, and what keeping it in bounds costs."""

from __future__ import annotations

import gc
import os
import random
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from backroom.cache.backends.sqlite import MEBIBYTE, SQLiteCache
from backroom.cache.onefile import demand as demands
from backroom.cache.onefile.demand import BYTES, FULL, LIVES, MOST, ROUND, SLOTS, TURNS, Demand
from backroom.cache.onefile.eviction import (
    COMPARED,
    IDS,
    ONE_IN,
    Census,
    Rivals,
    expired,
    least_asked_for,
    longest_idle,
)
from backroom.cache.onefile.file import cache_file
from backroom.cache.onefile.statements import FIRST_ID, PAGE_BYTES, id_of
from backroom.testing.cache.case import wait_until


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite3"


def make(path: Path, **options: Any) -> SQLiteCache:
    return SQLiteCache(path, {"OPTIONS": options, "TIMEOUT": None})


def count(cache: SQLiteCache) -> int:
    found: int = cache._file.link().ask("SELECT count(*) FROM entries").fetchone()[0]
    return found


@pytest.mark.parametrize("most", [1, 30, 200, 1_500])
def test_there_are_never_many_more_entries_than_may_be(path, most):
    cache = make(path, MAX_ENTRIES=most)
    for number in range(most * 2 + 200):
        cache.set(f"key-{number}", number)
        if number % 50 == 0:
            assert count(cache) <= max(most * 1.15, most + 1)
    assert most * 0.8 - 1 <= count(cache) <= max(most * 1.15, most + 1)


def test_many_at_once_are_too_many_only_for_a_moment(path):
    cache = make(path, MAX_ENTRIES=500)
    for first in range(0, 5_000, 100):
        cache.set_many({f"key-{number}": number for number in range(first, first + 100)})
    assert count(cache) <= 700


def test_the_file_stays_within_its_bytes(path):
    cache = make(path, MAX_BYTES=2 * MEBIBYTE, COMPRESS_FROM=None)
    for number in range(2_500):
        cache.set(f"key-{number}", "x" * random.randrange(500, 5_000))
    # About: of so few and so different entries an estimate is off by several in a hundred.
    assert cache.stats()["bytes"] <= 2.3 * MEBIBYTE
    assert path.stat().st_size <= 2.4 * MEBIBYTE
    assert cache.stats()["bytes"] >= 1.2 * MEBIBYTE


@pytest.mark.parametrize(("most", "log"), [(1, 32), (256, 64), (8_192, 128), (None, 128)])
def test_the_log_may_be_a_quarter_of_the_cache_and_has_bounds(path, most, log):
    cache = make(path, MAX_BYTES=None if most is None else most * MEBIBYTE)
    pages = cache._file.link().ask("PRAGMA wal_autocheckpoint").fetchone()[0]
    assert pages * PAGE_BYTES == log * MEBIBYTE
    assert cache._file.link().ask("PRAGMA journal_size_limit").fetchone()[0] == log * MEBIBYTE


def test_the_log_stays_short_where_writers_take_turns(path, monkeypatch):
    """They leave no moment in which all of it is in the file, so SQLite alone never begins it anew."""
    monkeypatch.setattr("backroom.cache.onefile.upkeep.LEAST_CHECKPOINT_BYTES", 64 * 1024)
    monkeypatch.setattr("backroom.cache.onefile.upkeep.MOST_CHECKPOINT_BYTES", 64 * 1024)
    cache = make(path, MAX_BYTES=64 * MEBIBYTE, COMPRESS_FROM=None)
    assert cache._file.budget.log_bytes == MEBIBYTE // 2
    cache.set("a", 1)
    longest = []

    def write(first: int) -> None:
        for turn in range(400):
            cache.set_many({f"key-{first}-{turn % 20}-{number}": "x" * 2_000 for number in range(25)})
            longest.append(path.with_name(f"{path.name}-wal").stat().st_size)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, range(3)))
    # They have written more than a hundred times as much as the log may take; without the wait it was over 100 MiB.
    assert max(longest) < 24 * MEBIBYTE


def test_a_reader_that_does_not_end_keeps_writers_waiting_for_a_moment_only(path):
    cache = make(path)
    cache.set_many({f"key-{number}": "x" * 2_000 for number in range(100)})
    checkpoints = cache._file.upkeep._checkpoints
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM entries").fetchone()
        cache.set("key-0", 1)
        with closing(checkpoints._connected()) as connection:
            checkpoints._begin_log_anew(connection)
        # The lock is free again, and is not taken at once a second time.
        cache.set("key-0", 2)
        assert cache.get("key-0") == 2
        assert checkpoints._not_before > time.monotonic()


def test_who_forks_does_not_wait_for_the_log_to_begin_anew(path, monkeypatch):
    cache = make(path)
    cache.set("a", 1)
    checkpoints = cache._file.upkeep._checkpoints
    begun: list[sqlite3.Connection] = []
    monkeypatch.setattr(checkpoints, "_is_log_too_long", lambda: True)
    monkeypatch.setattr(checkpoints, "_begin_log_anew", begun.append)
    checkpoints._running.acquire()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(checkpoints.wait, 60)
        wait_until(lambda: checkpoints._is_awaited)
        checkpoints._run()
        assert waiting.result()
    assert begun == []
    checkpoints._running.acquire()
    checkpoints._run()
    assert len(begun) == 1


def test_writers_do_not_wait_for_a_slow_disk(path, monkeypatch):
    """What the log holds is written to it while they are kept waiting, and it cannot be broken off."""
    cache = make(path)
    cache.set("a", 1)
    checkpoints = cache._file.upkeep._checkpoints
    is_written = threading.Event()

    def slowly(_connection: sqlite3.Connection) -> bool:
        # Somebody writes meanwhile; without a release this would not come to its end before the disk does.
        cache.set("a", 2)
        is_written.set()
        return True

    monkeypatch.setattr("backroom.cache.onefile.upkeep._has_all_in_the_file", slowly)
    with closing(checkpoints._connected()) as connection:
        checkpoints._begin_log_anew(connection)
    assert is_written.is_set()
    assert cache.get("a") == 2


@pytest.mark.parametrize(("most", "memory"), [(1, 32), (256, 64), (8_192, 128), (None, 128)])
def test_the_threads_of_a_process_share_what_it_keeps_in_memory(path, monkeypatch, most, memory):
    monkeypatch.setattr("backroom.cache.onefile.file.LOOK_SECONDS", 0)
    cache = make(path, MAX_BYTES=None if most is None else most * MEBIBYTE)

    def share() -> int:
        cache.get("a")
        found: int = cache._file.links.mine.ask("PRAGMA cache_size").fetchone()[0]
        return -found

    def shares(threads: int) -> list[int]:
        all_here = threading.Barrier(threads)

        def in_a_thread() -> int:
            cache.get("a")
            all_here.wait(60)
            found = share()
            all_here.wait(60)
            return found

        with ThreadPoolExecutor(threads) as pool:
            return [each.result() for each in [pool.submit(in_a_thread) for _ in range(threads)]]

    assert share() == memory * 1024
    assert shares(3) == [memory * 1024 // 4] * 3
    # Whatever there is room for, each has what the way to an entry takes.
    assert shares(40) == [8 * 1024] * 40
    # Those threads are gone.
    gc.collect()
    assert share() == memory * 1024


def test_what_is_asked_for_outlives_a_scan_of_what_is_not(path):
    cache = make(path, MAX_ENTRIES=1_000)
    used = [f"used-{number}" for number in range(300)]
    cache.set_many(dict.fromkeys(used, 1))
    for number in range(6_000):
        cache.set(f"scan-{number}", 1)
        cache.get(used[number % 300])
    assert len(cache.get_many(used)) >= 280


def test_what_was_used_long_ago_makes_room_for_what_is_used_now(path):
    cache = make(path, MAX_ENTRIES=500)
    for phase in ("first", "second"):
        keys = [f"{phase}-{number}" for number in range(400)]
        for _ in range(12):
            for key in keys:
                cache.get_or_set(key, 1)
    assert len(cache.get_many(f"second-{number}" for number in range(400))) >= 380


def test_what_has_expired_goes_without_being_asked_for(path):
    cache = make(path)
    cache.set_many({f"short-{number}": 1 for number in range(500)}, 0.001)
    for number in range(3_000):
        cache.set(f"long-{number % 100}", number)
    assert count(cache) <= 130


def test_reading_writes_nothing(path):
    cache = make(path)
    cache.set_many({f"key-{number}": number for number in range(100)})
    connection = cache._file.link().connection
    before = connection.total_changes
    version = connection.execute("PRAGMA data_version").fetchone()
    for _ in range(20):
        cache.get_many([f"key-{number}" for number in range(100)])
        cache.get("key-1")
        cache.has_key("key-2")
    assert connection.total_changes == before
    assert connection.execute("PRAGMA data_version").fetchone() == version


def test_nothing_ever_counts_the_table(path):
    cache = make(path, MAX_ENTRIES=300)
    asked: list[str] = []
    cache.set("first", 1)
    cache._file.link().connection.set_trace_callback(asked.append)
    for number in range(1_000):
        cache.set(f"key-{number}", number)
    cache._file.link().connection.set_trace_callback(None)
    assert not [statement for statement in asked if "count(" in statement.lower() and "entries" in statement]
    # A set is one statement; all that keeps the cache in bounds is less than one more.
    assert len(asked) <= 1_000 * 1.5


def test_demand_is_known_to_every_process_of_the_machine(path):
    cache = make(path)
    cache.set("key", 1)
    for _ in range(5):
        cache.get("key")
    other = type(cache._file.demand)(path)
    assert other.of(id_of(cache.make_and_validate_key("key"))) == 5
    assert bytes(other.bytes[:]) == bytes(cache._file.demand.bytes[:])


def test_what_the_first_process_of_all_counts_is_known_to_the_others(tmp_path):
    path = tmp_path / "new" / "cache.sqlite3"
    cache = make(path)
    for _ in range(5):
        cache.get("key")
    assert Demand(path).of(id_of(cache.make_and_validate_key("key"))) == 5


def test_a_child_counts_where_its_upkeep_looks_also_without_memory_that_is_shared(path, monkeypatch):
    monkeypatch.setattr(demands, "_shared", lambda _path: None)
    cache = make(path)
    child = os.fork()
    if child == 0:
        try:
            cache.get("key")
            asked_for = cache._file.upkeep.demand.of(id_of(cache.make_and_validate_key("key")))
            os._exit(0 if asked_for == 1 else 1)
        except BaseException:  # noqa: BLE001 - pytest must not go on in here
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0


def test_marks_that_nobody_left_do_no_harm(path):
    path.with_name(f"{path.name}-demand").write_bytes(b"\xff" * BYTES)
    cache = make(path, MAX_ENTRIES=50)
    for number in range(200):
        cache.set(f"key-{number}", number)
        cache.get(f"key-{number}")
    assert count(cache) <= 51


@pytest.mark.parametrize("turn", [0, 1, 255])
def test_whatever_another_process_writes_into_the_counters_harms_no_read(path, turn):
    """One of an older version has the number of its turn where this one has the highest count."""
    cache = make(path)
    cache.set("key", 1)
    demand, id_ = cache._file.demand, id_of(cache.make_and_validate_key("key"))
    for rest in range(ROUND):
        demand.slots[FULL] = turn * ROUND + rest
        demand.mark(id_, 2)
        assert cache.get("key") == 1
        assert cache.get_many(["key", "other"]) == {"key": 1}
        assert demand.of(id_) > 0
        assert demand.idle(id_) == 0
        assert list(demand.marks_of([id_])) == [2]
    demand.begin_turn()
    assert demand.slots[FULL] == (turn + 1) % ROUND * ROUND + MOST


def test_all_slots_age_alike_where_many_processes_write_a_little_each(path):
    first = Demand(path)
    first.slots[:SLOTS] = memoryview(b"\x08\x08" * SLOTS).cast("H")
    for _ in range(400):
        Demand(path).age(0.01)
    quarter = SLOTS // 4
    counts = bytes(map(first.of, range(SLOTS)))
    aged = [quarter - counts[start : start + quarter].count(b"\x08") for start in range(0, SLOTS, quarter)]
    assert all(0.2 < share / quarter < 0.95 for share in aged)
    assert 0 < first.turn < 40


def test_upkeep_that_meets_a_lock_changes_no_answer_and_is_done_later(path, monkeypatch):
    cache = make(path, MAX_ENTRIES=300, LOCK_TIMEOUT=0.05)
    cache.set_many({f"key-{number}": number for number in range(300)})
    keeping = cache._file.upkeep
    step = keeping.step
    other = sqlite3.connect(path, isolation_level=None)

    def step_while_another_writes(link: Any) -> None:
        other.execute("BEGIN IMMEDIATE")
        try:
            step(link)
        finally:
            other.execute("ROLLBACK")

    with monkeypatch.context() as patch:
        patch.setattr(keeping, "step", step_while_another_writes)
        added = [cache.add(f"new-{number}", number) for number in range(100)]
    assert added == [True] * 100
    before = count(cache)
    cache.set("more", 1)
    assert count(cache) < before - 20
    other.close()


def test_what_is_stored_anew_while_it_is_swept_stays(path, monkeypatch):
    cache, other = make(path), make(path, MAX_ENTRIES=1_000)
    # A process looks round at its first write.
    cache.set("first", 1)
    cache.set("lock", "old", 0.001)
    wait_until(lambda: cache.get("lock") is None)
    cache._file.upkeep.hand = FIRST_ID
    gone: list[int] = []

    def while_another_takes_it(sample: Any, moment: int) -> list[int]:
        monkeypatch.undo()
        found = expired(sample, moment)
        assert other.add("lock", "mine")
        gone.extend(found)
        return found

    monkeypatch.setattr("backroom.cache.onefile.upkeep.expired", while_another_takes_it)
    cache.stats()
    assert gone
    assert cache.get("lock") == "mine"


def test_aliases_with_one_file_and_one_budget_share_it(path):
    assert make(path)._file is make(path)._file
    assert cache_file(path, make(path)._file.budget) is make(path)._file


def test_the_least_asked_for_goes_first_and_of_equals_what_expires_first():
    demand = {1: 3, 2: 0, 3: 0, 4: 1}
    sample = [(1, 10), (2, 99), (3, 50), (4, 10)]
    assert least_asked_for(sample, 3, demand.__getitem__) == [3, 2, 4]
    assert least_asked_for(sample, 9, demand.__getitem__) == [3, 2, 4, 1]
    assert expired(sample, 50) == [1, 3, 4]


def test_the_longest_idle_goes_first_and_of_equals_the_least_asked_for():
    idle = {1: 0, 2: 7, 3: 7, 4: 9}
    demand = {1: 0, 2: 3, 3: 1, 4: 9}
    sample = [(id_, 10) for id_ in idle]
    assert longest_idle(sample, 3, idle.__getitem__, demand.__getitem__) == [4, 3, 2]


def test_what_both_rivals_would_forget_goes_and_now_and_then_the_choice_of_the_worse():
    rivals = Rivals()
    one, other = [0, *range(100, 100 + ONE_IN)], [0, *range(200, 200 + ONE_IN)]
    gone = rivals.choose(one, other)
    assert gone[0] == (0, 0)
    assert [id_ for id_, mark in gone if mark == 1] == one[1:-1]
    assert [id_ for id_, mark in gone if mark == 2] == other[1:2]


def test_the_rival_whose_choice_is_stored_again_the_more_often_forgets_the_less():
    rivals = Rivals()
    one, other = list(range(32)), list(range(32, 64))
    for _ in range(COMPARED):
        for _, mark in rivals.choose(one, other):
            # Everything comes back that the first has chosen, and every second of the other.
            if mark == 1 or random.random() < 0.5:
                rivals.came_back(mark)
    assert rivals.best == 1
    assert sum(mark == 2 for _, mark in rivals.choose(one, other)) >= 31
    for _ in range(COMPARED):
        for _, mark in rivals.choose(one, other):
            if mark == 2:
                rivals.came_back(mark)
    assert rivals.best == 0


def test_the_second_rival_must_do_clearly_better():
    """What it forgets was asked for often, and comes back later than the marks last."""
    rivals = Rivals()
    rivals._forgotten, rivals._back = [1_000.0, 1_000.0], [500.0, 400.0]
    assert rivals.best == 0
    rivals._back[1] = 350.0
    assert rivals.best == 1


def test_what_was_forgotten_and_is_stored_again_is_held_against_who_chose_it(path, monkeypatch):
    cache = make(path, MAX_ENTRIES=400)
    demand, rivals = cache._file.demand, cache._file.upkeep.rivals
    chosen: list[tuple[int, int]] = []
    back: list[int] = []
    mark = demand.mark

    def noted(id_: int, by: int) -> None:
        chosen.append((id_, by))
        mark(id_, by)

    def only_turn(_share: float) -> None:
        demand.begin_turn()

    monkeypatch.setattr(demand, "mark", noted)
    # Ageing takes marks away as well, and nobody knows which.
    monkeypatch.setattr(demand, "age", only_turn)
    monkeypatch.setattr(rivals, "came_back", back.append)
    names = {}
    for number in range(1_500):
        key = f"key-{number}"
        names[id_of(cache.make_and_validate_key(key))] = key
        cache.set(key, 1)
        # Those before were asked for often, and those after lately.
        for _ in range(5 if number < 300 else 1):
            cache.get(key)
    id_, by = next((id_, by) for id_, by in reversed(chosen) if by)
    back.clear()
    cache.set(names[id_], 1)
    assert back == [by]


def test_counts_fade_marks_go_and_turns_are_told_apart_after_their_numbers_have_come_again(tmp_path):
    demand = Demand(tmp_path / "cache.sqlite3")
    demand._aged_to, demand._due, demand._turns_due = 0, 0.0, 0.0
    for _ in range(20):
        demand.note(7)
    demand.note(8)
    demand.mark(8, 2)
    assert (demand.of(7), demand.idle(7)) == (15, 0)
    assert (demand.of(8), list(demand.marks_of([7, 8])), list(demand.marks_of([8]))) == (1, [2], [])
    demand.mark(8, 1)
    for _ in range(LIVES):
        demand.age(1.0)
    assert (demand.of(7), demand.idle(7)) == (7, LIVES * TURNS)
    assert list(demand.marks_of([8])) == []
    for _ in range(256):
        demand.age(1.0)
        demand.note(9)
        assert demand.idle(7) >= LIVES * TURNS > demand.idle(9)


def test_the_census_is_exact_for_a_whole_table_and_near_for_samples():
    census = Census()
    assert census.entries == 0
    draw = random.Random(7)
    ids = sorted(draw.randrange(IDS) for _ in range(100_000))
    for first in range(0, 16 * 128, 128):
        census.note(128, ids[first + 128] - ids[first], first)
    assert 90_000 < census.entries < 110_000
    census.note(7, IDS, 0)
    assert census.entries == 7


def test_jitter_shortens_lives_but_no_lock(path):
    cache = SQLiteCache(path, {"OPTIONS": {"JITTER": 0.5}})
    cache.set_many({f"key-{number}": number for number in range(40)}, 100)
    left = [cache.ttl(f"key-{number}") or 0 for number in range(40)]
    assert all(40 < seconds <= 100 for seconds in left)
    assert len({round(seconds) for seconds in left}) > 5
    with cache.lock("lock", timeout=100):
        assert 90 < (cache.ttl("lock") or 0) <= 100
