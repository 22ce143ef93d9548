"""Moving from Django's engines: sessions go on to work, move when they are written, and end for good when they end."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.models import Session as DjangosSession
from django.core.cache import cache
from django.test import Client

from backroom.sessions.people import sessions_of

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
