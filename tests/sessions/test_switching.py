"""Moving from Django's engines: sessions go on to work, move when they are written, and end for good when they end."""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.contrib.sessions.models import Session as DjangosSession
from django.core.cache import cache
from django.test import Client

from backroom.sessions.people import sessions_of
from backroom.sessions.predecessors import Predecessor

pytestmark = pytest.mark.django_db
DB = "django.contrib.sessions.backends.db"
CACHE = "django.contrib.sessions.backends.cache"
CACHED_DB = "django.contrib.sessions.backends.cached_db"


@pytest.fixture(params=[DB, CACHE, CACHED_DB])
def before(request, law):
    """Give the engine that the project had."""
    cache.clear()
    law(READ_THROUGH=request.param)
    return import_module(request.param).SessionStore


def engine_of(path: str) -> Any:
    cache.clear()
    return import_module(path).SessionStore


def made(store: Any, **contents: Any) -> Any:
    session = store()
    session.update(contents)
    session.save()
    return session


def test_a_session_of_before_is_read(engine, before):
    old = made(before, a=1)
    session = engine(old.session_key)
    assert dict(session.items()) == {"a": 1}
    assert session.session_key == old.session_key
    assert session.info is None


def test_it_moves_when_it_is_written_and_keeps_its_id(engine, before):
    old = made(before, a=1)
    session = engine(old.session_key)
    session["b"] = 2
    session.save()
    assert session.session_key == old.session_key
    assert dict(engine(old.session_key).items()) == {"a": 1, "b": 2}
    assert not before().exists(old.session_key)
    assert before(old.session_key).load() == {}


def test_two_requests_that_move_it_at_once_lose_nothing(engine, before):
    old = made(before, a=1)
    one, two = engine(old.session_key), engine(old.session_key)
    one["one"], two["two"] = 1, 2
    one.save()
    two.save()
    assert dict(engine(old.session_key).items()) == {"a": 1, "one": 1, "two": 2}


def test_what_cannot_be_written_here_is_left_out_and_the_rest_is_kept(engine, law, caplog):
    old = made(engine_of(CACHE), when=timedelta(1), _auth_user_id="1", a=1)
    law(READ_THROUGH=CACHE)
    session = engine(old.session_key)
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert dict(session.items()) == {"_auth_user_id": "1", "a": 1}
    assert "session['when']" in caplog.text
    session["a"] = 2
    session.save()
    assert dict(engine(old.session_key).items()) == {"_auth_user_id": "1", "a": 2}


def test_one_that_is_larger_than_is_allowed_here_moves_all_the_same(engine, law):
    old = made(engine_of(CACHE), big="x" * 2000)
    law(READ_THROUGH=CACHE, MAX_BYTES=1000)
    session = engine(old.session_key)
    assert len(session["big"]) == 2000
    session["small"] = 1
    session.save()
    assert engine(old.session_key)["small"] == 1


@pytest.mark.parametrize("way", ["save", "cycle_key"])
def test_one_that_is_flushed_as_it_moves_is_not_brought_back(engine, before, monkeypatch, way):
    old = made(before, a=1)
    moving, leaving = engine(old.session_key), engine(old.session_key)
    assert moving["a"] == leaving["a"] == 1
    asked = Predecessor.exists

    def ask_and_lose_it(self: Any, session_id: str) -> Any:
        found = yield from asked(self, session_id)
        monkeypatch.setattr(Predecessor, "exists", asked)
        leaving.flush()
        return found

    monkeypatch.setattr(Predecessor, "exists", ask_and_lose_it)
    moving["b"] = 2
    with pytest.raises(UpdateError if way == "save" else SessionInterrupted):
        getattr(moving, way)()
    assert engine(old.session_key).load() == {}


def test_one_that_two_requests_move_at_the_same_moment_is_not_taken_for_flushed(engine, before, monkeypatch):
    old = made(before, a=1)
    one, two = engine(old.session_key), engine(old.session_key)
    assert one["a"] == two["a"] == 1
    asked = Predecessor.exists

    def ask_and_be_overtaken(self: Any, session_id: str) -> Any:
        found = yield from asked(self, session_id)
        monkeypatch.setattr(Predecessor, "exists", asked)
        two.save()
        return found

    monkeypatch.setattr(Predecessor, "exists", ask_and_be_overtaken)
    one["one"], two["two"] = 1, 2
    one.save()
    assert dict(engine(old.session_key).items()) == {"a": 1, "one": 1, "two": 2}
    assert not before().exists(old.session_key)


def test_one_that_was_flushed_meanwhile_is_not_brought_back(engine, before):
    old = made(before, a=1)
    late, leaving = engine(old.session_key), engine(old.session_key)
    late["late"] = 1
    assert leaving["a"] == 1
    leaving.flush()
    with pytest.raises(UpdateError):
        late.save()
    assert engine(old.session_key).load() == {}
    assert before(old.session_key).load() == {}


def test_it_gets_a_new_id_when_its_owner_signs_in(engine, before):
    old = made(before, basket=3)
    session = engine(old.session_key)
    session.cycle_key()
    assert session.session_key != old.session_key
    assert dict(engine(session.session_key).items()) == {"basket": 3}
    assert engine(old.session_key).load() == {}


def test_an_unknown_id_is_unknown_to_both(engine, before):
    session = engine("abcdefghijklmnopqrstuvwxyz012345")
    assert session.load() == {}
    assert session.session_key is None


def test_the_async_methods_move_it_too(engine, before):
    old = made(before, a=1)

    async def move() -> dict[str, Any]:
        session = engine(old.session_key)
        await session.aset("b", 2)
        await session.asave()
        return dict(await engine(old.session_key).aitems())

    assert async_to_sync(move)() == {"a": 1, "b": 2}


def test_nobody_is_signed_out_by_the_move(engine, law, ann, site, settings):
    engine_path = settings.SESSION_ENGINE
    settings.SESSION_ENGINE = DB
    client = Client()
    client.force_login(ann)
    key = client.cookies["sessionid"].value
    settings.SESSION_ENGINE = engine_path
    law(READ_THROUGH=DB)
    assert client.get("/who/").content == b"for ann"
    assert client.cookies["sessionid"].value == key
    client.get("/write/?a=1")
    assert not DjangosSession.objects.exists()
    assert [each.user_id for each in sessions_of(ann)] == [str(ann.pk)]
    law()
    assert client.get("/who/").content == b"for ann"


def test_without_it_sessions_of_before_are_unknown(engine):
    old = made(import_module(DB).SessionStore, a=1)
    assert engine(old.session_key).load() == {}
