"""Locks above any cache: given back whatever becomes of who wanted them."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from typing import Any

import pytest
from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from backroom.cache import afetch, fetch, locks
from backroom.cache.folders import make_private
from backroom.cache.locks import claim
from backroom.cache.steps import Run, arun, run
from tests.services.project import wait_until

FILES = "django.core.cache.backends.filebased.FileBasedCache"


@pytest.fixture
def files(tmp_path):
    with override_settings(CACHES={"default": {"BACKEND": FILES, "LOCATION": str(tmp_path / "cache")}}):
        yield tmp_path / "cache"


def test_a_lock_of_files_has_one_holder_even_in_one_process(files):
    first = run(claim("default", "k", 30))
    assert first is not None
    assert run(claim("default", "k", 30)) is None
    assert run(claim("default", "another", 30)) is not None
    run(first.give_back())
    assert run(claim("default", "k", 30)) is not None


def test_who_is_cancelled_while_a_thread_takes_a_lock_leaves_it_to_others(files, monkeypatch):
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def slow(path, place, original=locks._lock):
        begun.set()
        assert go_on.wait(30)
        taken = original(path, place)
        done.set()
        return taken

    async def story():
        monkeypatch.setattr(locks, "_lock", slow)
        task = asyncio.create_task(arun(claim("default", "k", 30)))
        assert await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(done.wait, 30)

    asyncio.run(story())
    monkeypatch.undo()
    held: list[locks.Held] = []

    def is_free():
        held.extend(filter(None, [run(claim("default", "k", 30))]))
        return bool(held)

    # The thread that took it may be about to close it.
    wait_until(is_free, what="the lock")
    run(held[0].give_back())


def test_a_coroutine_that_is_closed_ends_at_once_though_its_steps_would_put_something_away():
    ended = []

    class Pause:
        def __await__(self):
            yield

    async def pause():
        await Pause()

    def steps():
        try:
            yield Run(pause)
        finally:
            ended.append("a computation")
            yield Run(pause)

    coroutine = arun(steps())
    coroutine.send(None)
    coroutine.close()
    assert ended == ["a computation"]


@pytest.mark.parametrize("comes_first", ["the lock", "the end"])
def test_a_lock_that_nobody_wants_any_more_is_closed_whichever_comes_first(comes_first):
    reader, descriptor = os.pipe()
    os.set_blocking(reader, False)
    attempt = locks._Attempt()
    acts = [lambda: attempt.keep(descriptor), attempt.give_up]
    for act in acts if comes_first == "the lock" else reversed(acts):
        act()
    # At its end, which it would not be if anybody could still write.
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert locks._Attempt().keep(None) is None


def test_who_is_cancelled_while_a_server_takes_a_key_leaves_it_to_others(monkeypatch):
    taken = asyncio.Event()

    async def aadd(self, *args, **kwargs):
        LocMemCache.add(self, *args, **kwargs)
        taken.set()
        await asyncio.Event().wait()

    async def story():
        with monkeypatch.context() as patched:
            patched.setattr(LocMemCache, "aadd", aadd, raising=False)
            task = asyncio.create_task(afetch("k", lambda: 1))
            await taken.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return await asyncio.wait_for(afetch("k", lambda: 2, lease=600), 60)

    assert asyncio.run(story()) == 2
    cache: Any = caches["default"]
    assert not [key for key in cache._cache if "backroom.lock" in key]


def test_a_lock_that_another_has_by_now_is_not_given_back():
    first = run(claim("default", "k", 30))
    assert first is not None
    caches["default"].delete(locks.lock_key("k"))
    second = run(claim("default", "k", 30))
    assert second is not None
    run(first.give_back())
    assert run(claim("default", "k", 30)) is None
    run(second.give_back())
    assert run(claim("default", "k", 30)) is not None


def test_a_lock_that_cannot_be_given_back_costs_nobody_what_was_computed(monkeypatch, caplog):
    def gone(*_args, **_kwargs):
        raise ConnectionError

    monkeypatch.setattr(LocMemCache, "delete", gone)
    assert fetch("k", lambda: 1) == 1
    assert "action=lock-not-given-back error=ConnectionError" in caplog.text


def test_cve_2020_24584_and_2026_25674_no_folder_of_a_cache_is_left_to_the_umask(tmp_path):
    before = os.umask(0)
    try:
        make_private(tmp_path / "a" / "b" / "c")
        assert os.umask(0) == 0
    finally:
        os.umask(before)
    for folder in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    make_private(tmp_path / "a" / "b" / "c")


def test_the_file_of_the_locks_and_its_folder_are_for_their_owner_alone(files):
    caches["default"].set("k", 1)
    for each in files.iterdir():
        each.unlink()
    files.rmdir()
    held = run(claim("default", "k", 30))
    assert held is not None
    run(held.give_back())
    assert stat.S_IMODE(files.stat().st_mode) == 0o700
    assert stat.S_IMODE((files / locks.LOCK_FILE).stat().st_mode) == 0o600
