"""Moving from Django's engines: sessions go on to work, move when they are first used, and end for good when they end."""

from __future__ import annotations

import logging
from datetime import timedelta
from importlib import import_module
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.models import Session as DjangosSession
from django.core.cache import cache
from django.db import transaction
from django.test import Client

from backroom.sessions.documents import SessionTooLarge
from backroom.sessions.keys import mark_of
from backroom.sessions.people import revoke_all, revoke_others, sessions_of
from backroom.sessions.predecessors import Predecessor
from backroom.sessions.signals import session_expired
from backroom.sessions.steps import run

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
    return engine_of_before(path)


def engine_of_before(path: str) -> Any:
    return import_module(path).SessionStore


def made(store: Any, **contents: Any) -> Any:
    session = store()
    session.update(contents)
    session.save()
    return session


def test_a_session_of_before_is_read_and_moves_with_its_id(engine, before):
    old = made(before, a=1)
    session = engine(old.session_key)
    assert dict(session.items()) == {"a": 1}
    assert session.session_key == old.session_key
    assert session.info is not None
    assert not before().exists(old.session_key)
    assert before(old.session_key).load() == {}
    again = engine(old.session_key)
    again["b"] = 2
    again.save()
    assert dict(engine(old.session_key).items()) == {"a": 1, "b": 2}


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


def test_one_that_is_larger_than_is_allowed_here_moves_all_the_same_and_may_shrink(engine, law):
    old = made(engine_of(CACHE), big="x" * 2000, other="x" * 1000)
    law(READ_THROUGH=CACHE, MAX_BYTES=1000)
    assert len(engine(old.session_key)["big"]) == 2000
    session = engine(old.session_key)
    del session["other"]
    session.save()
    assert engine(old.session_key).keys() == {"big"}
    session["small"] = 1
    with pytest.raises(SessionTooLarge):
        session.save()


def once(monkeypatch: Any, place: Any, name: str, first: Any) -> None:
    """Have something done just before a step is taken for the first time."""
    step = getattr(place, name)

    def after_that(self: Any, *arguments: Any) -> Any:
        monkeypatch.setattr(place, name, step)
        first()
        return (yield from step(self, *arguments))

    monkeypatch.setattr(place, name, after_that)


@pytest.mark.parametrize("has_loaded", [False, True])
def test_one_that_is_flushed_as_it_moves_is_not_brought_back(engine, before, monkeypatch, has_loaded):
    old = made(before, a=1)
    moving, leaving = engine(old.session_key), engine(old.session_key)
    if has_loaded:
        once(monkeypatch, Predecessor, "exists", leaving.flush)
    else:
        once(monkeypatch, type(engine.get_store()), "insert", leaving.flush)
    moving["b"] = 2
    if moving.session_key is not None:
        with pytest.raises(UpdateError):
            moving.save()
    assert engine(old.session_key).load() == {}
    assert before(old.session_key).load() == {}


@pytest.mark.parametrize("where", ["before the look", "between look and move"])
def test_one_that_two_requests_move_at_the_same_moment_is_found_by_both(engine, before, monkeypatch, where):
    old = made(before, a=1)
    one, two = engine(old.session_key), engine(old.session_key)
    place, name = (Predecessor, "load") if where == "before the look" else (type(engine.get_store()), "insert")
    once(monkeypatch, place, name, lambda: two.get("a"))
    one["one"] = 1
    two["two"] = 2
    one.save()
    two.save()
    assert dict(engine(old.session_key).items()) == {"a": 1, "one": 1, "two": 2}
    assert not before().exists(old.session_key)


def test_one_that_was_flushed_meanwhile_is_not_brought_back(engine, before):
    old = made(before, a=1)
    late = engine(old.session_key)
    late["late"] = 1
    engine(old.session_key).flush()
    with pytest.raises(UpdateError):
        late.save()
    assert engine(old.session_key).load() == {}
    assert before(old.session_key).load() == {}


def test_one_that_is_signed_out_before_anyone_looked_into_it_has_ended(engine, before):
    old = made(before, a=1)
    engine(old.session_key).flush()
    assert not before().exists(old.session_key)
    assert engine(old.session_key).load() == {}


@pytest.fixture
def signed_in_before(before, ann):
    """Give a session of the earlier engine, in which Ann is signed in."""
    return made(before, _auth_user_id=str(ann.pk))


def end_all(user: Any) -> None:
    revoke_all(user)


def deactivate(user: Any) -> None:
    for is_active in (False, True):
        user.is_active = is_active
        user.save()


def change_password(user: Any) -> None:
    user.set_password("another")
    user.save()


@pytest.mark.parametrize("way", [end_all, deactivate, change_password])
def test_one_that_nobody_has_seen_since_ends_with_all_of_its_users(engine, before, ann, signed_in_before, way):
    bobs = made(before, _auth_user_id=str(ann.pk + 1))
    visitors = made(before, basket=1)
    way(ann)
    assert engine(signed_in_before.session_key).load() == {}
    assert not before().exists(signed_in_before.session_key)
    assert engine(bobs.session_key).load()
    assert engine(visitors.session_key).load()
    # Who signs in from now on is signed in.
    assert engine(made(engine, _auth_user_id=str(ann.pk)).session_key).load()


def test_one_whose_users_sessions_are_ended_as_it_moves_has_ended(engine, ann, signed_in_before, monkeypatch):
    once(monkeypatch, Predecessor, "exists", lambda: revoke_all(ann))
    assert engine(signed_in_before.session_key).load() == {}
    assert sessions_of(ann) == []


def test_others_of_before_end_and_the_one_at_hand_stays(engine, before, ann, signed_in_before, rf):
    here = made(before, _auth_user_id=str(ann.pk))
    request = rf.get("/")
    request.session = engine(here.session_key)
    revoke_others(request)
    assert engine(here.session_key).load()
    assert engine(signed_in_before.session_key).load() == {}


def test_that_they_are_ended_is_no_session(engine, before, ann, clock, rf, settings):
    told: list[Any] = []

    def hear(sender: Any, session: Any, **_signal: Any) -> None:
        told.append(session)

    revoke_all(ann)
    revoke_all(ann)
    assert sessions_of(ann) == []
    assert run(engine.get_store().user_ids("", 10)) == []
    if settings.SESSION_ENGINE.endswith("database"):
        from django.contrib import admin

        from backroom.sessions.models import Session

        assert not admin.site.get_model_admin(Session).get_queryset(rf.get("/")).exists()
    clock.advance(399 * 86_400)
    engine.clear_expired()
    assert engine().exists(str(mark_of(str(ann.pk)))) is False
    assert run(engine.get_store().exists(mark_of(str(ann.pk))))
    clock.advance(2 * 86_400)
    session_expired.connect(hear)
    try:
        engine.clear_expired()
    finally:
        session_expired.disconnect(hear)
    assert told == []
    assert not run(engine.get_store().exists(mark_of(str(ann.pk))))


@pytest.mark.parametrize("rule", ["IDLE", "ABSOLUTE"])
def test_the_rules_hold_from_the_first_look(engine, law, clock, rule):
    old = made(engine_of(CACHE), a=1)
    law(READ_THROUGH=CACHE, **{rule: 1000})
    assert engine(old.session_key).load()
    clock.advance(1001)
    assert engine(old.session_key).load() == {}


def test_the_limit_counts_it(engine, law, ann, clock):
    mine = [made(engine_of(DB), _auth_user_id=str(ann.pk)) for _ in range(3)]
    law(READ_THROUGH=DB, LIMIT=2)
    for each in mine:
        engine(each.session_key).load()
        clock.advance(1)
    assert len(sessions_of(ann)) == 2


@pytest.mark.parametrize("place", ["sqlite", "postgres"])
@pytest.mark.parametrize("path", [DB, CACHE])
def test_one_that_moves_in_a_transaction_that_is_rolled_back_is_not_lost(engine, law, place, path):
    alias = "postgres" if place == "postgres" else "default"
    old = made(engine_of(path), a=1)
    law(READ_THROUGH=path)
    session = engine(old.session_key)
    with transaction.atomic(alias):
        session["b"] = 2
        session.save()
        transaction.set_rollback(True, alias)
    assert engine_of_before(path)().exists(old.session_key)
    session.save()
    assert dict(engine(old.session_key).items()) == {"a": 1, "b": 2}
    assert not engine_of_before(path)().exists(old.session_key)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["sqlite", "postgres"])
def test_one_that_moves_in_a_transaction_leaves_its_place_when_that_commits(engine, law, place):
    alias = "postgres" if place == "postgres" else "default"
    old = made(engine_of(CACHE), a=1)
    law(READ_THROUGH=CACHE)
    with transaction.atomic(alias):
        assert engine(old.session_key)["a"] == 1
        assert engine_of_before(CACHE)().exists(old.session_key)
    assert not engine_of_before(CACHE)().exists(old.session_key)
    assert engine(old.session_key)["a"] == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["sqlite", "postgres"])
def test_one_whose_users_sessions_are_ended_before_that_commits_has_ended(engine, law, place, monkeypatch):
    alias = "postgres" if place == "postgres" else "default"
    old = made(engine_of(CACHE), _auth_user_id="7")
    law(READ_THROUGH=CACHE)
    # Another connection would not see what is not committed.
    monkeypatch.setattr(type(engine.get_store()), "delete_of_user", sees_nothing)
    with transaction.atomic(alias):
        assert engine(old.session_key).load()
        revoke_all("7")
    assert engine(old.session_key).load() == {}


def sees_nothing(*_arguments: Any) -> Any:
    yield from ()
    return []


@pytest.mark.parametrize("place", ["sqlite", "postgres"])
def test_a_request_that_only_looked_in_such_a_transaction_has_nothing_to_save(engine, law, place):
    alias = "postgres" if place == "postgres" else "default"
    old = made(engine_of(CACHE), a=1)
    law(READ_THROUGH=CACHE)
    session = engine(old.session_key)
    with transaction.atomic(alias):
        assert session["a"] == 1
        transaction.set_rollback(True, alias)
    session.take_back()
    assert not session.modified
    assert engine(old.session_key)["a"] == 1


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
    assert not DjangosSession.objects.exists()
    assert [each.user_id for each in sessions_of(ann)] == [str(ann.pk)]
    law()
    assert client.get("/who/").content == b"for ann"


def test_without_it_sessions_of_before_are_unknown(engine):
    old = made(import_module(DB).SessionStore, a=1)
    assert engine(old.session_key).load() == {}
