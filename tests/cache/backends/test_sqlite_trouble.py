"""A cache file in trouble: a miss and a warning, never an exception, and never another's data."""

from __future__ import annotations

import logging
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import override_settings

from backroom.cache.backends.sqlite import SQLiteCache
from backroom.cache.onefile import forks, layout, statements, turns
from backroom.cache.onefile.failures import LONGEST_NAP
from backroom.cache.onefile.file import CacheFile
from backroom.testing.cache.case import wait_until
from tests.cache.files import forget_files

FORKS_WITH_THREADS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.sqlite3"


def make(path: Path, **options: Any) -> SQLiteCache:
    return SQLiteCache(path, {"OPTIONS": options})


def put_all_into_the_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        # The cache's own thread may be at it, and says so: what stays in the log would be read from there.
        wait_until(lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0)


def every_verb_is_a_miss(cache: SQLiteCache) -> None:
    assert cache.get("key", "default") == "default"
    assert cache.get_many(["key", "other"]) == {}
    assert cache.has_key("key") is False
    cache.set("key", 1)
    assert cache.add("key", 1) is False
    assert cache.set_many({"key": 1}) == ["key"]
    assert cache.touch("key") is cache.delete("key") is False
    cache.delete_many(["key"])
    with pytest.raises(ValueError, match="key"):
        cache.incr("key")
    assert cache.get_or_set("key", lambda: 7) == 7
    assert cache.lock("key").acquire(blocking=False) is False
    assert cache.ttl("key") == 0
    cache.clear()
    assert cache.stats() == {"entries": 0, "bytes": 0}


# ── The file ────────────────────────────────────────────────────────────────────────────────────


def test_a_file_of_rubbish_is_put_aside_and_made_anew(path, caplog):
    path.write_bytes(b"rubbish " * 1_000)
    cache = make(path)
    assert cache.get("key", "default") == "default"
    cache.set("key", 1)
    assert cache.get("key") == 1
    assert path.with_name("cache.sqlite3.corrupt").read_bytes() == b"rubbish " * 1_000
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_a_folder_in_the_way_keeps_no_file_of_rubbish_where_it_is(path, caplog):
    for name in ("cache.sqlite3.corrupt", "cache.sqlite3.corrupt.corrupt"):
        path.with_name(name).mkdir()
    for rubbish in (b"rubbish " * 1_000, b"more rubbish"):
        forget_files()
        path.write_bytes(rubbish)
        cache = make(path)
        cache.set("key", 1)
        assert cache.get("key") == 1
        assert path.with_name("cache.sqlite3.corrupt.corrupt.corrupt").read_bytes() == rubbish
    assert "put aside as cache.sqlite3.corrupt.corrupt.corrupt and" in caplog.text


def test_a_table_that_somebody_dropped_comes_back(path, caplog):
    cache = make(path)
    cache.set("key", 1)
    with closing(sqlite3.connect(path)) as somebody:
        somebody.execute("DROP TABLE entries")
    assert cache.get("key") is None
    cache.set("key", 2)
    assert cache.get("key") == 2
    assert make(path).get("key") == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def as_another_version_laid_it_out(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(
            f"""PRAGMA journal_mode = WAL; PRAGMA application_id = {statements.APPLICATION_ID};
            PRAGMA user_version = {statements.SCHEMA - 1}; CREATE TABLE entries (id INTEGER PRIMARY KEY, other);
            INSERT INTO entries VALUES (1, 'theirs');"""
        )


def is_another_versions(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT other FROM entries").fetchall() == [("theirs",)]


def test_a_file_of_another_version_is_put_aside_and_made_anew(path, caplog):
    as_another_version_laid_it_out(path)
    cache = make(path)
    assert cache.get("key", "default") == "default"
    cache.set("key", 1)
    assert cache.get("key") == 1
    assert is_another_versions(path.with_name("cache.sqlite3.corrupt"))
    assert ["another version of Backroom" in record.getMessage() for record in caplog.records] == [True]


def test_a_file_that_another_version_put_in_the_place_of_ours_is_noticed(path, caplog, monkeypatch):
    """As while the processes of a site are replaced, one after the other."""
    monkeypatch.setattr("backroom.cache.onefile.file.LOOK_SECONDS", 0)
    cache = make(path)
    cache.set("key", 1)
    as_another_version_laid_it_out(path.with_name("theirs"))
    put_all_into_the_file(path.with_name("theirs"))
    for suffix in ("-wal", "-shm"):
        path.with_name(f"{path.name}{suffix}").unlink()
    path.with_name("theirs").replace(path)
    assert cache.get("key") is None
    cache.set("key", 2)
    assert make(path, MAX_ENTRIES=100).get("key") == 2
    assert is_another_versions(path.with_name("cache.sqlite3.corrupt"))
    assert ["another version of Backroom" in record.getMessage() for record in caplog.records] == [True]


def test_who_puts_a_file_aside_late_leaves_the_new_one_alone(path, monkeypatch):
    """Two processes find the same rubbish; these two caches share as little as they would."""
    path.write_bytes(b"rubbish " * 1_000)
    quick, slow = make(path), make(path, MAX_ENTRIES=100)
    put_aside = CacheFile._put_aside

    def put_aside_late(self: CacheFile, error: BaseException, *rest: Any) -> None:
        monkeypatch.setattr(CacheFile, "_put_aside", put_aside)
        quick.set("quick", 1)
        put_aside(self, error, *rest)

    monkeypatch.setattr(CacheFile, "_put_aside", put_aside_late)
    slow.set("slow", 2)
    for cache in (quick, slow, make(path, MAX_ENTRIES=200)):
        assert cache.get_many(["quick", "slow"]) == {"quick": 1, "slow": 2}
    assert path.with_name("cache.sqlite3.corrupt").read_bytes() == b"rubbish " * 1_000


def store_one(path: Path, number: int, gate: Any) -> None:
    cache = make(path, LOCK_TIMEOUT=60)
    gate.wait(60)
    cache.set(f"key-{number}", number)


def test_of_processes_that_find_a_file_of_rubbish_at_once_nobody_loses_an_entry(path, monkeypatch):
    monkeypatch.setattr("backroom.cache.onefile.turns.LONGEST_WAIT_SECONDS", 60)
    monkeypatch.setattr("backroom.cache.onefile.layout.OPENING_SECONDS", 60)
    context = multiprocessing.get_context("fork")
    for _ in range(10):
        path.write_bytes(b"rubbish " * 1_000)
        gate = context.Barrier(4)
        processes = [context.Process(target=store_one, args=(path, number, gate)) for number in range(4)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert make(path).get_many([f"key-{number}" for number in range(4)]) == {
            f"key-{number}": number for number in range(4)
        }
        assert path.with_name("cache.sqlite3.corrupt").read_bytes() == b"rubbish " * 1_000
        forget_files()
        for file in path.parent.iterdir():
            file.unlink()


def test_nobody_opens_a_file_while_another_puts_it_aside(path, monkeypatch):
    """Whoever did would have the log of the new one for the old one."""
    monkeypatch.setattr("backroom.cache.onefile.turns.LONGEST_WAIT_SECONDS", 0)
    cache = make(path)
    with turns.turn(path, turns.REPLACED):
        cache.set("key", 1)
        assert cache.get("key") is None
    cache._file.closed_until = 0
    cache.set("key", 1)
    assert cache.get("key") == 1
    with turns.turn(path, turns.OPENED):
        cache._file.failed(sqlite_error(sqlite3.SQLITE_CORRUPT), "get")
    assert cache.get("key") == 1
    cache._file.failed(sqlite_error(sqlite3.SQLITE_CORRUPT), "get")
    assert cache.get("key") is None


def test_a_turn_ends_also_while_a_child_lives_that_was_forked_in_it(path, monkeypatch):
    monkeypatch.setattr("backroom.cache.onefile.turns.LONGEST_WAIT_SECONDS", 0)
    reader, writer = os.pipe()
    with turns.turn(path, turns.OPENED):
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    try:
        with turns.turn(path, turns.REPLACED):
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
    finally:
        os.close(writer)
        os.waitpid(child, 0)
        os.close(reader)


def sqlite_error(code: int) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError()
    error.sqlite_errorcode = code
    return error


def test_a_file_that_is_damaged_while_it_is_open_is_made_anew(path, caplog):
    cache = make(path)
    cache.set_many({f"key-{number}": "x" * 500 for number in range(2_000)})
    put_all_into_the_file(path)
    with path.open("r+b") as file:
        for page in range(1, 400):
            file.seek(page * statements.PAGE_BYTES)
            file.write(os.urandom(200))
    fresh = threading.Thread(target=lambda: [make(path).get(f"key-{number}") for number in range(50)])
    fresh.start()
    fresh.join()
    cache.set("key", "new")
    cache.set("key", "new")
    assert cache.get("key") == "new"
    assert path.with_name("cache.sqlite3.corrupt").exists()
    assert "made anew" in caplog.text


def test_a_file_that_is_removed_is_a_miss_and_comes_back(path, monkeypatch):
    cache = make(path)
    cache.set("key", 1)
    for name in ("", "-wal", "-shm"):
        path.with_name(path.name + name).unlink()
    cache._file.links.mine.look_at = 0
    assert cache.get("key") is None
    cache.set("key", 2)
    assert make(path).get("key") == 2
    assert path.exists()


def test_a_file_may_be_a_link_to_one_that_is_missing_or_rubbish(path, tmp_path):
    (tmp_path / "shared").mkdir()
    target = tmp_path / "shared" / "target.sqlite3"
    path.symlink_to(target)
    make(path).set("key", 1)
    assert target.stat().st_mode & 0o777 == 0o600
    forget_files()
    target.write_bytes(b"rubbish " * 1_000)
    target.with_name("target.sqlite3-wal").write_bytes(b"rubbish")
    make(path).set("key", 2)
    assert make(path).get("key") == 2
    assert path.is_symlink()
    assert target.with_name("target.sqlite3.corrupt").read_bytes() == b"rubbish " * 1_000


def test_a_database_of_the_site_is_left_alone(path, caplog):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER)")
        connection.execute("INSERT INTO orders VALUES (7)")
    connection.close()
    before = path.read_bytes()
    every_verb_is_a_miss(make(path))
    assert path.read_bytes() == before
    assert "left alone" in caplog.text


def test_a_folder_that_cannot_be_made_is_a_miss(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    every_verb_is_a_miss(make(tmp_path / "file" / "cache.sqlite3"))
    assert len([record for record in caplog.records if "action=cache_unusable" in record.message]) == 1


def test_a_file_that_cannot_be_written_is_a_miss(caplog):
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    path = folder / "cache.sqlite3"
    make(path).set("key", 1)
    put_all_into_the_file(path)
    path.chmod(0o444)
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            cache = make(path)
            cache.set("key", 2)
            as_told = cache.get("key", "default") in {1, "default"} and cache.add("other", 1) is False
            os._exit(0 if as_told and "action=cache_" in caplog.text else 1)
        except BaseException:  # noqa: BLE001 - pytest must not go on in here
            os._exit(2)
    status = os.waitpid(child, 0)[1]
    shutil.rmtree(folder)
    assert status == 0


def test_a_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "new" / "folder" / "cache.sqlite3"
    make(path).set("key", 1)
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


# ── Locks ───────────────────────────────────────────────────────────────────────────────────────


def test_who_finds_the_file_locked_waits_in_vain_once_and_says_so(path, caplog, monkeypatch):
    cache = make(path, LOCK_TIMEOUT=0.05)
    cache.set("key", 1)
    clock, naps = [time.monotonic()], []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        clock[0] += seconds

    monkeypatch.setattr("backroom.cache.onefile.failures.monotonic", lambda: clock[0])
    monkeypatch.setattr("backroom.cache.backends.sqlite.time.sleep", nap)
    with locked(path):
        cache.set("key", 2)
        waited = sum(naps)
        assert waited == pytest.approx(0.05, abs=LONGEST_NAP)
        for _ in range(50):
            cache.set("key", 3)
        assert cache.add("other", 1) is False
        assert cache.get("key") == 1
    assert sum(naps) == waited
    assert caplog.text.count("action=cache_locked") == 1
    cache.set("key", 4)
    assert cache.get("key") == 4


def test_a_file_that_cannot_even_be_opened_for_a_lock_is_not_waited_for_by_everybody(path, caplog, monkeypatch):
    monkeypatch.setattr("backroom.cache.onefile.layout.OPENING_SECONDS", 0.05)
    opened = []
    connect = sqlite3.connect

    def connect_and_count(*args: Any, **kwargs: Any) -> Any:
        opened.append(args)
        return connect(*args, **kwargs)

    monkeypatch.setattr("backroom.cache.onefile.layout.sqlite3.connect", connect_and_count)
    monkeypatch.setattr("backroom.cache.onefile.file.CLOSED_SECONDS", 600)
    cache = make(path)
    with closing(connect(path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        every_verb_is_a_miss(cache)
    assert len(opened) == 1
    assert caplog.text.count("keeps the file locked") == 1
    cache._file.closed_until = 0
    cache.set("key", 1)
    assert cache.get("key") == 1


def test_who_waits_gets_its_turn(path, caplog):
    cache = make(path)
    cache.set("key", 1)
    with locked(path) as release:
        waiting = threading.Timer(0.05, release)
        waiting.start()
        cache.set("key", 2)
        waiting.join()
    assert cache.get("key") == 2
    assert not caplog.records


@pytest.mark.parametrize("clear", [SQLiteCache.clear, lambda cache: async_to_sync(cache.aclear)()])
def test_what_cannot_be_cleared_for_a_lock_is_not_removed_either(path, clear):
    cache = make(path, LOCK_TIMEOUT=0.05)
    cache.set("key", 1)
    with locked(path):
        clear(cache)
    assert cache.get("key") == 1
    clear(cache)
    assert cache.get("key") is None


def test_a_disk_that_was_full_once_removes_nothing_at_a_later_lock(path):
    cache = make(path, COMPRESS_FROM=None, LOCK_TIMEOUT=0.05)
    cache.set("kept", 1)
    with no_file_beyond(256 * 1024):
        assert cache.add("key", "x" * 400_000) is False
    cache._file.closed_until = 0
    assert cache.get("kept") == 1
    with locked(path):
        cache.set("other", 2)
    assert cache.get("kept") == 1


@contextmanager
def locked(path: Path) -> Iterator[Any]:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")

    def release() -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")

    try:
        yield release
    finally:
        release()
        connection.close()


# ── Space ───────────────────────────────────────────────────────────────────────────────────────


def test_what_does_not_fit_on_the_disk_is_missing_and_nothing_old_is_in_its_place(path, caplog):
    cache = make(path, COMPRESS_FROM=None)
    cache.set("key", "old")
    # No file of this process may grow beyond this, which SQLite is told as a full disk would tell it.
    with no_file_beyond(256 * 1024):
        cache.set("key", "x" * 400_000)
        assert cache.get("key") is None
        cache.set("small", 1)
    cache._file.closed_until = 0
    assert cache.get("key") is None
    cache.set("key", "new")
    assert cache.get("key") == "new"
    assert caplog.records


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_table_that_may_not_grow_is_full(path, caplog):
    cache = make(path, COMPRESS_FROM=None)
    cache.set("key", "old")
    link = cache._file.link()
    link.ask(f"PRAGMA max_page_count = {link.ask('PRAGMA page_count').fetchone()[0] + 1}")
    cache.set("key", "x" * 100_000)
    assert cache.get("key") is None
    assert "full" in caplog.text


# ── Values ──────────────────────────────────────────────────────────────────────────────────────


class Bomb:
    went_off = False

    def __reduce__(self) -> Any:
        return (setattr, (Bomb, "went_off", True))


def test_a_pickle_that_was_changed_is_a_miss_and_is_not_unpickled(path, caplog):
    import pickle

    cache = make(path)
    cache.set("key", {1, 2})
    link = cache._file.link()
    ((value,),) = link.ask("SELECT value FROM entries").fetchall()
    for forged in (
        value[:-1] + b"!",
        value[:1] + b"\0" * 16 + pickle.dumps(Bomb()),
        value[:1] + pickle.dumps(Bomb()),
        b"",
    ):
        link.ask("UPDATE entries SET value = ?", (forged,))
        assert cache.get("key", "missing") == "missing"
        assert cache.get_many(["key"]) == {}
    assert not Bomb.went_off
    assert "not signed" in caplog.text


def test_what_cannot_be_read_cannot_be_added_to(path):
    cache = make(path)
    cache.set("key", {1, 2})
    cache._file.link().ask("UPDATE entries SET value = x'04'")
    with pytest.raises(ValueError, match="not found"):
        cache.incr("key")


def test_a_value_that_nothing_else_has_room_beside_is_not_stored(path, caplog):
    cache = make(path, MAX_BYTES=1024**2, COMPRESS_FROM=None)
    cache.set_many({"other": 1, "key": "old", "text": "old", "first": "old"})
    for key, value in (("key", b"x" * (1024**2 + 1)), ("text", "ä" * 600_000)):
        cache.set(key, value)
        assert cache.get(key) is None
        assert cache.add(key, value) is False
    assert cache.set_many({"first": b"x" * 1024**2 * 2, "second": 2}) == ["first"]
    assert cache.get_many(["first", "second", "other"]) == {"second": 2, "other": 1}
    cache.set("text", "x" * 600_000)
    assert cache.get("text") == "x" * 600_000
    assert caplog.text.count("action=cache_too_large") == 1


def test_a_pickle_is_of_its_key_and_of_no_other(path):
    cache = make(path)
    cache.set("mine", {"mine"})
    cache.set("yours", {"yours"})
    link = cache._file.link()
    link.ask("UPDATE entries SET value = (SELECT value FROM entries WHERE key = ':1:mine') WHERE key = ':1:yours'")
    assert cache.get("yours", "missing") == "missing"
    assert cache.get("mine") == {"mine"}


def test_an_old_secret_key_is_known_as_long_as_it_is_a_fallback(path):
    with override_settings(SECRET_KEY="old"):
        make(path).set_many({"pickle": {1}, "json": [1]})
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"]):
        assert make(path).get_many(["pickle", "json"]) == {"pickle": {1}, "json": [1]}
    with override_settings(SECRET_KEY="new"):
        assert make(path).get_many(["pickle", "json"]) == {"json": [1]}


def test_a_key_with_the_same_id_never_gets_the_value_of_another(path, monkeypatch):
    for module in ("backends.sqlite", "onefile.rows", "onefile.verbs"):
        monkeypatch.setattr(f"backroom.cache.{module}.id_of", lambda _key: 7)
    for module in ("backends.sqlite", "onefile.rows"):
        monkeypatch.setattr(f"backroom.cache.{module}.ids_of", lambda keys: (7,) * len(keys))
    cache = make(path)
    cache.set("one", 1)
    assert cache.get("two") is None
    assert cache.get_many(["one", "two"]) == {"one": 1}
    assert cache.touch("two") is cache.delete("two") is False
    assert cache.add("two", 2) is True
    assert (cache.get("one"), cache.get("two")) == (None, 2)


def test_a_large_value_is_smaller_in_the_file(path):
    cache = make(path, COMPRESS_FROM=1_000)
    for value in ("text " * 1_000, b"bytes " * 1_000, ["list"] * 1_000, ("tuple",) * 1_000):
        cache.set("key", value)
        assert cache.get("key") == value
        assert cache._file.link().ask("SELECT length(value) FROM entries").fetchone()[0] < 500


def test_an_option_that_does_not_fit_is_left_out_and_said(path, caplog):
    cache = make(path, MAX_BYTE=7, MAX_ENTRIES=50)
    assert cache.options.MAX_ENTRIES == 50
    assert "'MAX_BYTES'" in caplog.text


# ── Processes ───────────────────────────────────────────────────────────────────────────────────


def hammer(path: Path, number: int, rounds: int) -> None:
    cache = make(path)
    for turn in range(rounds):
        cache.incr("sum")
        cache.set(f"own-{number}", turn)
        assert cache.get(f"own-{number}") == turn
        cache.set_many({f"many-{number}-{one}": turn for one in range(10)})
        assert len(set(cache.get_many([f"many-{number}-{one}" for one in range(10)]).values())) == 1


def test_processes_and_threads_at_once_lose_nothing_and_see_no_lock(path, caplog):
    cache = make(path)
    cache.set("sum", 0, None)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=hammer, args=(path, number, 60)) for number in range(4)]
    threads = [threading.Thread(target=hammer, args=(path, number, 60)) for number in range(4, 7)]
    for process in processes:
        process.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert cache.get("sum") == 7 * 60
    assert not caplog.records


def test_a_child_uses_no_connection_of_its_parents(path):
    cache = make(path)
    cache.set("key", 1)
    parents = cache._file.link().connection
    child = os.fork()
    if child == 0:
        try:
            fresh = cache._file.link().connection is not parents
            cache.set("child", cache.get("key"))
            os._exit(0 if fresh else 1)
        except BaseException:  # noqa: BLE001 - pytest must not go on in here
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get("child") == 1


def test_no_child_is_made_while_a_thread_checkpoints(path, monkeypatch):
    monkeypatch.setattr("backroom.cache.onefile.file.LONGEST_WAIT_SECONDS", 60)
    cache = make(path)
    cache.set("key", 1)
    checkpoints = cache._file.upkeep._checkpoints
    assert checkpoints._running.acquire(timeout=60)
    ended = threading.Event()

    def end() -> None:
        ended.set()
        checkpoints._running.release()

    timer = threading.Timer(0.2, end)
    timer.start()
    child = os.fork()
    if child == 0:
        os._exit(0 if ended.is_set() else 1)
    timer.join()
    assert os.waitpid(child, 0)[1] == 0


def in_a_child(check: Callable[[], bool]) -> bool:
    """Fork, and tell whether this holds in the child; it has half a minute."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            os._exit(0 if check() else 1)
        except BaseException:  # noqa: BLE001 - pytest must not go on in here
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


@FORKS_WITH_THREADS
def test_no_child_is_made_while_a_thread_uses_its_connection(path, monkeypatch):
    monkeypatch.setattr("backroom.cache.onefile.file.LONGEST_WAIT_SECONDS", 60)
    cache = make(path)
    begun, may_end = threading.Event(), threading.Event()

    def last(link: Any) -> None:
        link.ask("BEGIN IMMEDIATE")
        begun.set()
        may_end.wait(60)
        link.ask("COMMIT")

    user = threading.Thread(target=cache._do, args=("job", last, lambda: None))
    user.start()
    assert begun.wait(30)
    threading.Timer(0.2, may_end.set).start()
    assert in_a_child(lambda: may_end.is_set() and cache.add("child", 1) and cache.get("child") == 1)
    user.join()
    assert cache.get("child") == 1


@contextmanager
def in_use(cache: Any) -> Iterator[None]:
    """Have another thread use its connection."""
    begun, may_end = threading.Event(), threading.Event()

    def last(_link: Any) -> None:
        begun.set()
        may_end.wait(60)

    user = threading.Thread(target=cache._do, args=("job", last, lambda: None))
    user.start()
    assert begun.wait(30)
    try:
        yield
    finally:
        may_end.set()
        user.join()


@FORKS_WITH_THREADS
def test_a_child_of_a_process_that_could_not_wait_so_long_does_without(path, monkeypatch, caplog):
    monkeypatch.setattr("backroom.cache.onefile.file.LONGEST_WAIT_SECONDS", 0)
    cache = make(path)
    cache.set("key", 1)
    with in_use(cache):
        assert in_a_child(lambda: cache.get("key") is None and not cache.add("child", 1))
        assert in_a_child(lambda: in_a_child(lambda: cache.get("key") is None))
    assert "action=cache_forked" in caplog.text
    assert cache.get("key") == 1
    assert in_a_child(lambda: cache.get("key") == 1)


FORKING = """
import os, signal, sys, threading
from django.conf import settings
settings.configure(SECRET_KEY="x")
from backroom.cache.backends.sqlite import SQLiteCache
from backroom.cache.onefile import file
file.LONGEST_WAIT_SECONDS = 60
cache = SQLiteCache(sys.argv[1], {"TIMEOUT": None, "OPTIONS": {"MAX_BYTES": None, "LOCK_TIMEOUT": 60}})
over, written = threading.Event(), [0, 0]

def write(number):
    while not over.is_set():
        cache.set_many({f"{number}-{written[number]}-{part}": "x" * 300 for part in range(3)})
        cache.incr("sum")
        written[number] += 1

def read_and_write(turn):
    cache.set(f"child-{turn}", turn)
    return cache.get_many([f"child-{turn}", "first"]) == {f"child-{turn}": turn, "first": 1}

cache.set_many({"first": 1, "sum": 0})
threads = [threading.Thread(target=write, args=(number,), daemon=True) for number in range(2)]
for thread in threads:
    thread.start()
for turn in range(120):
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if read_and_write(turn) else 1)
    status = os.waitpid(child, 0)[1]
    if status:
        sys.exit(f"child {turn} ended with {status}")
over.set()
for thread in threads:
    thread.join(60)
print(*written)
"""


def test_a_process_may_fork_at_any_moment_of_its_threads(path):
    """A child that inherited what they had open hung, or found the file locked for good: four in ten did."""
    # As long as this process has the file open, no log is taken away by who closes it, which takes a while.
    cache = make(path)
    cache.set("first", 1)
    forking = [sys.executable, "-W", "ignore", "-c", FORKING, str(path)]
    ended = subprocess.run(forking, capture_output=True, text=True, timeout=300, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    written = [int(number) for number in ended.stdout.split()]
    stored = {f"{number}-{turn}-{part}" for number in range(2) for turn in range(written[number]) for part in range(3)}
    assert set(cache.get_many(stored)) == stored
    assert cache.get_many([f"child-{turn}" for turn in range(120)]) == {f"child-{turn}": turn for turn in range(120)}
    assert cache.get("sum") == sum(written)
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as passer_by:
        assert passer_by.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        passer_by.execute("BEGIN IMMEDIATE")
        passer_by.execute("ROLLBACK")
    put_all_into_the_file(path)


FORKED_IN_C = """
import ctypes, os, signal, sys
from django.conf import settings
settings.configure(SECRET_KEY="x")
from backroom.cache.backends.sqlite import SQLiteCache
path, is_open = sys.argv[1], sys.argv[2] == "open"
cache = SQLiteCache(path, {})
cache._file

def descriptors():
    links = [f"/proc/self/fd/{each}" for each in os.listdir("/proc/self/fd")]
    return sum(os.path.exists(link) and os.path.samefile(link, path) for link in links)

def child_of_a_child():
    child = os.fork()
    if child == 0:
        os._exit(0 if cache.get("key") is None and descriptors() == before else 1)
    return os.waitpid(child, 0)[1] == 0

def does_without():
    return child_of_a_child() and cache.get("key") is None and not cache.add("child", 1) and descriptors() == before

def works():
    return cache.add("child", 1) and cache.get("child") == 1

if is_open:
    cache.set("key", "parent's")
    before = descriptors()
# Without Python's hooks, as uWSGI does.
child = ctypes.PyDLL(None).fork()
if child == 0:
    signal.alarm(30)
    os._exit(0 if (does_without if is_open else works)() else 1)
status = os.waitpid(child, 0)[1]
cache.set("key", "later")
print(status, cache.get("key"), cache.get("child"), cache._file.link().ask("PRAGMA integrity_check").fetchone()[0])
"""


@pytest.mark.parametrize(("state", "childs"), [("open", "None"), ("unopened", "1")])
def test_a_child_that_no_hook_told_of_leaves_alone_what_its_parent_had_open(path, state, childs):
    command = [sys.executable, "-W", "ignore", "-c", FORKED_IN_C, str(path), state]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == f"0 later {childs} ok\n", ended.stderr
    warned = "action=cache_forked" in ended.stderr or "This process was forked" in ended.stderr
    assert warned is (state == "open")
    assert make(path).get("key") == "later"


FORKED_IN_C_MEANWHILE = """
import ctypes, os, signal, sqlite3, sys, threading
from functools import partial
from django.conf import settings
settings.configure(SECRET_KEY="x")
from backroom.cache.backends.sqlite import SQLiteCache
path, moment = sys.argv[1:]
cache = SQLiteCache(path, {})
main, reached, may_go_on = threading.get_ident(), threading.Event(), threading.Event()

def stay(here):
    if here == moment and threading.get_ident() != main:
        reached.set()
        may_go_on.wait(60)

class Connection(sqlite3.Connection):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        stay("opening")

    def close(self):
        stay("closing")
        stay("ending")
        super().close()

def open_slowly(*args, open_at_once=os.open):
    descriptor = open_at_once(*args)
    if args[0] == cache.path:
        stay("making")
    return descriptor

def use():
    cache.get("key")
    if moment == "closing":
        cache._file.generation += 1
        cache.get("key")

sqlite3.connect = partial(sqlite3.connect, factory=Connection)
os.open = open_slowly
user = threading.Thread(target=use)
user.start()
assert reached.wait(60)
child = ctypes.PyDLL(None).fork()
if child == 0:
    signal.alarm(30)
    stored = cache.add("child", 1) and cache.get("child") == 1
    beside = SQLiteCache(path + "-2", {})
    os._exit(0 if beside.add("child", 1) and stored == (moment == "making") else 1)
status = os.waitpid(child, 0)[1]
may_go_on.set()
user.join()
cache.set("key", "later")
print(status, cache.get("key"), cache._file.link().ask("PRAGMA integrity_check").fetchone()[0])
"""


@pytest.mark.parametrize("moment", ["making", "opening", "closing", "ending"])
def test_a_child_that_no_hook_told_of_knows_what_a_thread_of_its_parent_was_about(path, moment):
    command = [sys.executable, "-W", "ignore", "-c", FORKED_IN_C_MEANWHILE, str(path), moment]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.stdout == "0 later ok\n", ended.stderr


@pytest.mark.parametrize("system", [sys.platform, "another"])
def test_a_mark_is_of_one_process(system, monkeypatch):
    monkeypatch.setattr(sys, "platform", system)
    mark = forks.mark_of_this_process()
    monkeypatch.undo()
    assert isinstance(mark, forks.Asked) is (system == "another")

    def mark_anew() -> bool:
        was_marked = mark[0] == 1
        mark[0] = 1
        return mark[0] == 1 and not was_marked

    assert in_a_child(mark_anew)
    assert mark[0] == 1


@FORKS_WITH_THREADS
def test_a_file_with_two_budgets_is_one_file_to_a_child(path, monkeypatch):
    monkeypatch.setattr("backroom.cache.onefile.file.LONGEST_WAIT_SECONDS", 0)
    used, unused = make(path), make(path, MAX_ENTRIES=500)
    unused.set("key", 1)
    with in_use(used):
        assert in_a_child(lambda: unused.get("key") is None and make(path, MAX_ENTRIES=600).get("key") is None)
    assert unused.get("key") == 1


def interrupted(*_args: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize("verb", ["get", "has_key"])
def test_who_is_interrupted_uses_its_connection_no_more(path, monkeypatch, verb):
    cache = make(path)
    monkeypatch.setattr(cache._file, "_looked_after", interrupted)
    with pytest.raises(KeyboardInterrupt):
        getattr(cache, verb)("key")
    assert not cache._file.links.mine.is_used


def test_a_fork_that_is_interrupted_while_it_waits_leaves_the_child_without(path, monkeypatch):
    file = make(path)._file
    file.leave(deadline=0)
    assert not file.is_inherited()
    monkeypatch.setattr(file.links, "close", interrupted)
    with pytest.raises(KeyboardInterrupt):
        file.leave(deadline=0)
    assert file.is_inherited()


def test_only_what_makes_it_private_makes_the_file(path):
    """SQLite would make a file that everybody can read."""
    cache = make(path)
    cache.set("key", 1)
    forget_files()
    path.unlink()
    checkpoints = cache._file.upkeep._checkpoints
    checkpoints._running.acquire()
    checkpoints._run()
    with pytest.raises(sqlite3.OperationalError):
        layout.connect(path)
    assert not path.exists()
    cache = make(path)
    cache.set("key", 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_may_have_any_name(tmp_path):
    path = tmp_path / "50% of?mode=memory&x#1 ü.sqlite3"
    make(path).set("key", 1)
    assert path.stat().st_size
    put_all_into_the_file(path)
    assert make(path).get("key") == 1


ORPHAN = """
import os, sys
from django.conf import settings
settings.configure(SECRET_KEY="x")
from backroom.cache.backends.sqlite import SQLiteCache
cache = SQLiteCache(sys.argv[1], {})
cache.set("key", "parent's")
if os.fork():
    os._exit(0)
cache.set("key", "child's")
print("ready", flush=True)
sys.stdin.readline()
cache.set("key", "late")
print("done", flush=True)
"""


def test_a_child_that_outlives_its_parent_has_locks_of_its_own(path):
    """Without them whoever opens and closes the file next takes the log away under it, and what it stores is lost."""
    arguments: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", ORPHAN, str(path)], **arguments) as process:
        assert process.stdin
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.wait(30)
        with closing(sqlite3.connect(path)) as passer_by:
            assert passer_by.execute("SELECT count(*) FROM entries").fetchone() == (1,)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        # A connection that was open before would still see the log that was taken away.
        assert make(path).get("key") == "late"


def test_nobody_here_opens_a_file_that_another_thread_is_creating(path, monkeypatch):
    """To close any descriptor of a file drops this process's locks on it, those of SQLite among them."""
    order: list[str] = []
    is_closing, may_close = threading.Event(), threading.Event()
    close, connect = os.close, sqlite3.connect

    def close_late(descriptor: int) -> None:
        is_closing.set()
        may_close.wait(0.2)
        close(descriptor)
        order.append("closed")

    def connect_and_say(*args: Any, **kwargs: Any) -> Any:
        order.append("opened")
        may_close.set()
        return connect(*args, **kwargs)

    cache = make(path)
    monkeypatch.setattr("backroom.cache.onefile.layout.os.close", close_late)
    monkeypatch.setattr("backroom.cache.onefile.layout.sqlite3.connect", connect_and_say)
    first = threading.Thread(target=cache.set, args=("key", 1))
    first.start()
    assert is_closing.wait(30)
    second = threading.Thread(target=cache.set, args=("key", 2))
    second.start()
    for thread in (first, second):
        thread.join(30)
    assert order[0] == "closed"


def test_threads_that_open_a_new_file_at_once_lose_nothing(path, together, caplog):
    cache = make(path)
    together(12, lambda number: cache.set(f"key-{number}", number))
    assert cache.get_many([f"key-{number}" for number in range(12)]) == {
        f"key-{number}": number for number in range(12)
    }
    assert not caplog.records


def write_for_ever(path: Path) -> None:
    cache = make(path)
    turn = 0
    while True:
        turn += 1
        cache.set_many({f"key-{number}": (turn, "x" * 700) for number in range(50)}, None)
        cache.set("turn", turn)


def test_a_writer_that_is_killed_leaves_nothing_torn(path, caplog):
    cache = make(path)
    for _ in range(4):
        writer = multiprocessing.get_context("fork").Process(target=write_for_ever, args=(path,))
        writer.start()
        cache.delete("turn")
        wait_until(lambda: (cache.get("turn") or 0) > 3)
        writer.kill()
        writer.join()
        found = cache.get_many([f"key-{number}" for number in range(50)])
        assert len(found) == 50
        assert len(set(found.values())) == 1
        cache.set("alive", 1)
        assert cache.get("alive") == 1
    assert cache._file.link().ask("PRAGMA integrity_check").fetchone() == ("ok",)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_transaction_of_the_site_has_no_part_in_it(path, db):
    from django.db import transaction

    cache = make(path)
    with transaction.atomic():
        cache.set("key", 1)
        transaction.set_rollback(True)
    assert cache.get("key") == 1


def test_a_sum_that_was_noted_and_never_stored_is_not_taken_for_the_next(path):
    cache = make(path)
    cache.set_many({"one": 1, "text": "x"})
    cache._file.link().sums.append(99)
    assert cache.incr("one") == 2
    cache._file.link().sums.append(99)
    with pytest.raises(ValueError, match="not found"):
        cache.incr("missing")
    cache._file.link().sums.append(99)
    with pytest.raises(TypeError):
        cache.incr("text")
    assert cache.get_many(["one", "text"]) == {"one": 2, "text": "x"}


def test_no_statement_numbers_its_parameters():
    """Until 3.12.3 Python takes `?1` for a name, and warns of whoever adds to a number."""
    texts = [text for text in vars(statements).values() if isinstance(text, str)]
    assert statements.ADD_TO in texts
    assert not [text for text in texts if re.search(r"\?\d", text)]
