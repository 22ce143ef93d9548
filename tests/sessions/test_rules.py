"""How long sessions live: idle, absolute, a new id in time with a grace for the old one; how little is written for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.core.management import call_command

from backroom.sessions import endings, signals
from backroom.sessions.documents import Changes
from backroom.sessions.keys import hash_of
from backroom.sessions.maintenance import Round
from backroom.sessions.steps import run
from backroom.upkeep import tidying

pytestmark = pytest.mark.django_db
DAY = 86_400


def made(engine: Any, **contents: Any) -> Any:
    session = engine()
    session.update(contents or {"a": 1})
    session.save()
    return session


def alive(engine: Any, session: Any) -> bool:
    return bool(engine(session.session_key).load())


def test_a_session_ends_when_django_says(engine, clock):
    session = made(engine)
    clock.advance(14 * DAY - 1)
    assert alive(engine, session)
    clock.advance(1)
    assert not alive(engine, session)


def test_an_idle_session_ends(engine, law, clock):
    law(IDLE=600)
    session = made(engine)
    clock.advance(599)
    assert alive(engine, session)
    clock.advance(600)
    assert not alive(engine, session)


def test_use_keeps_an_idle_limit_away_and_writes_once_an_interval(engine, law, clock, statements):
    law(IDLE=timedelta(minutes=10), TOUCH=30)
    session = made(engine)

    def use() -> None:
        assert alive(engine, session)

    sent = []
    for _ in range(60):
        clock.advance(10)
        sent.append(len(statements(use)))
    assert sent == [1, 1, 2] * 20
    clock.advance(599)
    assert alive(engine, session)


def test_two_requests_at_the_same_moment_do_not_disturb_each_other(engine, law, clock):
    law(IDLE=600)
    session = made(engine)
    clock.advance(300)
    one, two = engine(session.session_key), engine(session.session_key)
    assert one["a"] == two["a"] == 1


def test_an_absolute_limit_ends_a_session_however_active(engine, law, clock):
    law(ABSOLUTE=3600)
    session = made(engine)
    busy = session
    for _ in range(5):
        clock.advance(700)
        busy = engine(session.session_key)
        busy["a"] += 1
        busy.save()
    assert busy.info.expires_at - busy.info.created_at == timedelta(seconds=3600)
    clock.advance(100)
    assert not alive(engine, session)
    # Its end is stored, so that it is removed and told of then, not when the cookie ends.
    assert run(endings.clearing(engine, 10)) == 1


def test_stricter_rules_hold_for_sessions_that_are_there(engine, law, clock):
    idle, old = made(engine), made(engine)
    clock.advance(1000)
    assert alive(engine, old)
    law(IDLE=900)
    assert not alive(engine, idle)
    law(ABSOLUTE=900)
    assert not alive(engine, old)


@pytest.mark.parametrize("seconds", [970, 1030])
def test_an_end_that_is_set_anew_is_stored_though_it_moves_by_little(engine, clock, seconds):
    session = made(engine)
    session.set_expiry(1000)
    session.save()
    again = engine(session.session_key)
    again.set_expiry(seconds)
    again.save()
    clock.advance(seconds - 1)
    assert alive(engine, session)
    clock.advance(1)
    assert not alive(engine, session)


@pytest.mark.parametrize(
    ("expiry", "lives"),
    [(60, 60), (timedelta(seconds=90), 90), (0, 14 * DAY), (None, 14 * DAY), (datetime(2040, 1, 1, tzinfo=UTC), None)],
)
def test_set_expiry_decides_at_the_server_too(engine, clock, expiry, lives):
    clock.move_to(datetime(2030, 1, 1, tzinfo=UTC))
    session = engine()
    session["a"] = 1
    if not isinstance(expiry, timedelta):
        session.set_expiry(expiry)
    else:
        # Django reads its own clock for this one.
        session.set_expiry(clock.today() + expiry)
    session.save()
    clock.advance((lives or 10 * 365 * DAY) - 1)
    assert alive(engine, session)
    clock.advance(4 * DAY if lives is None else 1)
    assert not alive(engine, session)


def test_saving_moves_the_end_and_writes_it_only_when_that_is_worth_it(engine, clock, statements):
    session = made(engine)
    again = engine(session.session_key)
    clock.advance(5)
    again["b"] = 1
    (statement,) = statements(again.save)
    assert "expire_date" not in statement
    clock.advance(DAY)
    again["b"] = 2
    again.save()
    clock.advance(14 * DAY - 10)
    assert alive(engine, session)


@pytest.mark.parametrize("writes", [False, True])
def test_a_session_with_a_short_life_is_kept_alive_by_use_as_any_other(engine, settings, clock, writes):
    settings.SESSION_COOKIE_AGE = 30
    settings.SESSION_SAVE_EVERY_REQUEST = not writes
    session = made(engine)
    for _ in range(7):
        clock.advance(10)
        again = engine(session.session_key)
        assert again["a"]
        if writes:
            again["a"] += 1
            again.save()
    clock.advance(30)
    assert not alive(engine, session)


def test_an_old_id_is_renewed_and_works_for_requests_under_way(engine, law, clock):
    law(RENEWAL=3600, GRACE=30)
    session = made(engine)
    old = session.session_key
    clock.advance(3601)
    under_way, renewing = engine(old), engine(old)
    assert under_way["a"] == renewing["a"] == 1
    assert renewing.wants_new_id
    assert renewing.renew()
    assert renewing.session_key != old

    late = engine(old)
    assert late["a"] == 1
    assert late.came_with_replaced_id
    assert not late.wants_new_id
    late["late"] = True
    late.save()
    under_way["under way"] = True
    under_way.save()
    assert dict(engine(renewing.session_key).items()) == {"a": 1, "late": True, "under way": True}

    clock.advance(31)
    assert engine(old).load() == {}
    assert alive(engine, renewing)


def test_of_two_requests_that_renew_at_once_one_does(engine, law, clock):
    law(RENEWAL=3600)
    session = made(engine)
    clock.advance(3601)
    one, two = engine(session.session_key), engine(session.session_key)
    assert one["a"] == two["a"] == 1
    assert one.renew()
    two["two"] = 2
    assert not two.renew()
    assert two.came_with_replaced_id
    assert dict(engine(one.session_key).items()) == {"a": 1, "two": 2}


def test_flushing_with_the_replaced_id_ends_the_session(engine, law, clock):
    law(RENEWAL=3600)
    session = made(engine)
    clock.advance(3601)
    renewed = engine(session.session_key)
    assert renewed.renew()
    late = engine(session.session_key)
    assert late["a"] == 1
    late.flush()
    assert not alive(engine, renewed)


@pytest.mark.parametrize("has_loaded", [True, False])
def test_signing_out_ends_a_session_that_was_renewed_meanwhile(engine, law, clock, has_loaded):
    law(RENEWAL=3600)
    session = made(engine)
    clock.advance(3601)
    leaving, renewing = engine(session.session_key), engine(session.session_key)
    if has_loaded:
        assert leaving["a"] == 1
    assert renewing["a"] == 1
    assert renewing.renew()
    leaving.flush()
    assert not alive(engine, renewing)


def test_many_are_ended_at_once(engine):
    sessions = [made(engine) for _ in range(102)]
    kept = made(engine)
    assert len(run(endings.ending(engine, [each.key_hash for each in sessions], reason="test"))) == 102
    assert not alive(engine, sessions[0])
    assert not alive(engine, sessions[-1])
    assert alive(engine, kept)


def test_a_new_id_at_sign_in_leaves_the_old_one_no_grace(engine, law):
    law(RENEWAL=3600)
    session = made(engine)
    old = session.session_key
    session.cycle_key()
    assert engine(old).load() == {}


def test_a_new_id_for_a_session_that_was_emptied_unread_leaves_nothing_under_the_old_one(engine):
    first = engine()
    first["_auth_user_id"] = "7"
    first.save()
    session = engine(first.session_key)
    session.clear()
    session.cycle_key()
    session["basket"] = 1
    session.save()
    assert engine(first.session_key).load() == {}
    assert dict(engine(session.session_key).items()) == {"basket": 1}


def test_a_session_that_was_ended_is_not_brought_back_by_a_new_id(engine):
    session = made(engine, _auth_user_id="1")
    other = engine(session.session_key)
    assert other["_auth_user_id"] == "1"
    session.flush()
    with pytest.raises(SessionInterrupted):
        other.cycle_key()


def test_renewing_a_session_that_was_ended_meanwhile_is_no_error(engine, law, clock):
    law(RENEWAL=3600)
    session = made(engine)
    clock.advance(3601)
    late = engine(session.session_key)
    assert late["a"] == 1
    session.delete(session.session_key)
    late["b"] = 1
    assert not late.renew()
    with pytest.raises(UpdateError):
        late.save()


def test_a_sign_in_that_races_a_renewal_leaves_the_other_party_no_id(engine, law, clock):
    law(RENEWAL=3600)
    planted = made(engine)
    clock.advance(3601)
    victim, attacker = engine(planted.session_key), engine(planted.session_key)
    assert victim["a"] == attacker["a"] == 1
    assert attacker.renew()
    victim["b"] = 2
    victim.cycle_key()
    victim["_auth_user_id"] = "7"
    victim.save()
    assert dict(engine(victim.session_key).items()) == {"a": 1, "b": 2, "_auth_user_id": "7"}
    assert victim.is_fresh
    assert not victim.came_with_replaced_id
    for known in (planted.session_key, attacker.session_key):
        assert engine(known).load() == {}


def test_a_sign_in_overtakes_a_renewal_that_comes_as_it_looks_for_the_last_one(engine, law, clock, monkeypatch):
    law(RENEWAL=10, GRACE=60)
    planted = made(engine)
    clock.advance(11)
    victim, attacker = engine(planted.session_key), engine(planted.session_key)
    assert victim["a"] == attacker["a"] == 1
    assert attacker.renew()
    store = type(engine.get_store())
    load_replaced = store.load_replaced

    def load_and_lose_it(self: Any, key: Any, now: Any) -> Any:
        monkeypatch.setattr(store, "load_replaced", load_replaced)
        found = yield from load_replaced(self, key, now)
        clock.advance(11)
        again = engine(attacker.session_key)
        assert again["a"] == 1
        assert again.renew()
        attackers.append(again.session_key)
        return found

    attackers = [attacker.session_key]
    monkeypatch.setattr(store, "load_replaced", load_and_lose_it)
    victim.cycle_key()
    assert alive(engine, victim)
    assert len(attackers) == 2
    assert [engine(known).load() for known in attackers] == [{}, {}]


def test_the_second_of_two_renewals_that_have_nothing_else_to_write_does_nothing(engine, law, clock):
    law(RENEWAL=10)
    session = made(engine)
    clock.advance(11)
    one, two = engine(session.session_key), engine(session.session_key)
    assert one["a"] == two["a"] == 1
    assert one.renew()
    assert not two.renew()
    assert alive(engine, one)


def test_a_store_that_is_asked_to_write_nothing_tells_whether_the_session_is_there(engine):
    session, store = made(engine), engine.get_store()
    assert run(store.write(session.key_hash, Changes(), {}))
    session.flush()
    assert not run(store.write(hash_of("a" * 32), Changes(), {}))


def test_expired_sessions_are_removed_in_bounded_batches(engine, clock, monkeypatch):
    monkeypatch.setattr("backroom.sessions.backends.base.BATCH", 2)
    gone = []

    def hear(sender: Any, session: Any, **_signal: Any) -> None:
        gone.append(session.handle)

    ended = [made(engine) for _ in range(5)]
    handles = sorted(each.info.handle for each in ended)
    clock.advance(15 * DAY)
    kept = made(engine)
    signals.session_expired.connect(hear)
    try:
        assert run(endings.clearing(engine, 2)) == 2
        assert len(gone) == 2
        call_command("clearsessions")
    finally:
        signals.session_expired.disconnect(hear)
    assert sorted(gone) == handles
    assert alive(engine, kept)
    assert not any(engine().exists(each.session_key) for each in ended)


def test_the_async_method_removes_all_of_them_too(engine, clock, monkeypatch):
    monkeypatch.setattr("backroom.sessions.backends.base.BATCH", 2)
    ended = [made(engine) for _ in range(5)]
    clock.advance(15 * DAY)
    async_to_sync(engine.aclear_expired)()
    assert not any(engine().exists(each.session_key) for each in ended)


def test_a_worker_removes_them_without_cron(engine, clock):
    ended = made(engine)
    clock.advance(15 * DAY)
    ours = Round()
    tidying.connect(ours.on_tidying)
    try:
        tidying.send(sender=None, using="default")
    finally:
        tidying.disconnect(ours.on_tidying)
    assert not engine().exists(ended.session_key)


def test_a_worker_looks_every_half_minute_and_again_at_once_after_a_full_batch(engine, monkeypatch):
    monkeypatch.setattr("backroom.sessions.maintenance.BATCH", 3)
    found = [3, 1, 9]
    ours = Round()
    monkeypatch.setattr(ours, "step", lambda: found.pop(0))
    for _ in range(5):
        ours.on_tidying()
    assert found == [9]


def test_a_session_used_at_the_last_moment_is_not_removed(engine, clock):
    session = made(engine)
    clock.advance(14 * DAY - 1)
    again = engine(session.session_key)
    again["b"] = 1
    again.save()
    clock.advance(10)
    engine.clear_expired()
    assert alive(engine, session)
