"""A user with more sessions than Redis sees to in one script: step by step, and none is missed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from backroom.sessions import people
from backroom.sessions.people import revoke_all, sessions_of
from backroom.sessions.steps import run
from backroom.sessions.stores import redis as redis_store

pytestmark = [pytest.mark.django_db, pytest.mark.parametrize("place", ["redis"])]

USER = "7"


@pytest.fixture(autouse=True)
def _two_at_once(monkeypatch: Any) -> None:
    monkeypatch.setattr(redis_store, "AT_ONCE", 2)


@pytest.fixture
def signs_in(engine: Any) -> Callable[..., Any]:
    """Give a function that makes a session of the user, or of another one."""

    def make(user_id: str = USER, **contents: Any) -> Any:
        session = engine()
        session.update({"_auth_user_id": user_id, **contents})
        session.save()
        return session

    return make


@pytest.fixture
def between_steps(monkeypatch: Any) -> Callable[[Callable[[], object]], None]:
    """Give a function that has something done once, before the second script of those that follow."""

    def arrange(action: Callable[[], object]) -> None:
        running, scripts = redis_store.RedisStore._running, []

        def run_after(self: Any, name: str, *arguments: Any) -> Any:
            scripts.append(name)
            if len(scripts) == 2:
                monkeypatch.setattr(redis_store.RedisStore, "_running", running)
                action()
            return running(self, name, *arguments)

        monkeypatch.setattr(redis_store.RedisStore, "_running", run_after)

    return arrange


@pytest.mark.parametrize("at_once", [True, False])
def test_many_sessions_are_listed_newest_first(engine, clock, signs_in, at_once):
    keys = []
    for _ in range(7):
        clock.advance(0 if at_once else 1)
        keys.append(signs_in().key_hash)
    signs_in("8")
    expected = sorted(keys, reverse=True) if at_once else keys[::-1]
    assert [each.key for each in sessions_of(USER)] == expected


@pytest.mark.parametrize("at_once", [True, False])
def test_many_sessions_are_ended_but_one_and_those_that_are_over(engine, clock, signs_in, at_once):
    over = [signs_in(_session_expiry=5) for _ in range(3)]
    clock.advance(6)
    sessions = []
    for _ in range(7):
        clock.advance(0 if at_once else 1)
        sessions.append(signs_in())
    other = signs_in("8")
    spared = sessions[3]
    assert people.revoke_all_of([USER], reason="test", but=spared.key_hash) == 6
    assert [each.key for each in sessions_of(USER)] == [spared.key_hash]
    assert len(sessions_of("8")) == 1
    assert engine(other.session_key).load()
    # Those are told as expired, when their turn comes.
    assert {each.key for each in run(engine.get_store().delete_expired(engine.now(), 9))} == {
        each.key_hash for each in over
    }


def test_no_script_looks_at_more_than_a_few(engine, clock, signs_in, statements):
    for _ in range(7):
        clock.advance(1)
        signs_in()
    assert len(statements(lambda: sessions_of(USER))) == 4
    assert len(statements(lambda: revoke_all(USER))) == 4


def test_who_signs_in_between_two_steps_is_ended_too(engine, clock, signs_in, between_steps):
    for _ in range(5):
        clock.advance(1)
        signs_in()
    clock.advance(1)
    between_steps(signs_in)
    assert revoke_all(USER) == 6
    assert sessions_of(USER) == []


@pytest.mark.parametrize("which", [0, 1, 2, 3, 4])
def test_one_that_gets_a_new_id_between_two_steps_is_ended_too(engine, clock, law, signs_in, between_steps, which):
    law(RENEWAL=10)
    sessions = []
    for _ in range(5):
        clock.advance(1)
        sessions.append(signs_in())
    clock.advance(11)
    renewing = engine(sessions[which].session_key)
    assert renewing.user_id
    between_steps(renewing.renew)
    assert revoke_all(USER) == 5
    assert sessions_of(USER) == []
    assert engine(renewing.session_key).load() == {}


def test_each_of_many_gets_a_new_id_after_a_change_of_role(engine, clock, signs_in):
    sessions = []
    for user_id in ("7", "8", "9", "7", "7", "9"):
        clock.advance(1)
        sessions.append(signs_in(user_id))
    bystander = signs_in("1")
    run(engine.get_store().renew_at_once(["7", "nobody", "8", "9"]))
    for each in sessions:
        again = engine(each.session_key)
        assert again.user_id
        assert again.wants_new_id
    again = engine(bystander.session_key)
    assert again.user_id
    assert not again.wants_new_id
