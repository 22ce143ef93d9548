"""What the store is sent, what it has, and what it tells whoever steals it."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.serializers import JSONSerializer
from django.db import connections, transaction

from backroom.sessions import endings
from backroom.sessions.documents import SessionTooLarge
from backroom.sessions.guessing import guesses
from backroom.sessions.keys import handle_of, hash_of, new_id
from backroom.sessions.signals import unknown_ids
from backroom.sessions.steps import run
from tests.sessions.conftest import commands_of

pytestmark = pytest.mark.django_db


class Pickles:
    """A serializer of bytes, as pickle would be."""

    def dumps(self, value: Any) -> bytes:
        return b"\0\xff" + json.dumps(value).encode()

    def loads(self, data: bytes) -> Any:
        assert data.startswith(b"\0\xff")
        return json.loads(data[2:])


def made(engine: Any, **contents: Any) -> Any:
    session = engine()
    session.update(contents or {"a": 1})
    session.save()
    return session


def dump(place: str, request: pytest.FixtureRequest) -> str:
    """Return all that somebody who reads the store finds in it about sessions."""
    if place == "redis":
        import redis

        client = redis.Redis.from_url(request.getfixturevalue("redis_server").url, decode_responses=True)
        found = {}
        for name in client.keys("*"):
            kind = client.type(name)
            found[name] = (
                client.hgetall(name)
                if kind == "hash"
                else client.zrange(name, 0, -1)
                if kind == "zset"
                else client.get(name)
            )
        client.close()
        return str(found)
    with connections["postgres" if place == "postgres" else "default"].cursor() as cursor:
        cursor.execute("SELECT * FROM backroom_sessions_session")
        return str(cursor.fetchall())


def test_a_load_is_one_statement(engine, statements):
    session = made(engine)
    again = engine(session.session_key)
    assert len(statements(lambda: again.get("a"))) == 1


def test_a_save_is_one_statement(engine, statements):
    session = made(engine)
    session.update({"a": 2, "b": 3})
    assert len(statements(session.save)) == 1


def test_creating_is_one_statement(engine, statements):
    session = engine()
    session["a"] = 1
    assert len(statements(session.save)) == 1


def test_a_new_id_is_one_statement(engine, statements):
    session = made(engine)
    session["b"] = 1
    assert len(statements(session.cycle_key)) == 1
    assert dict(engine(session.session_key).items()) == {"a": 1, "b": 1}


def test_flushing_is_one_statement(engine, statements):
    session = made(engine)
    assert len(statements(session.flush)) == 1


def test_nothing_is_written_when_nothing_changed(engine, statements):
    session = made(engine, a={"deep": []})
    again = engine(session.session_key)
    again.get("a")
    again.modified = True
    assert statements(again.save) == []


def test_an_id_that_cannot_be_one_is_not_looked_up(engine, statements):
    for forged in ("short", "a" * 65, "no spaces here", "a' OR '1'='1", "é" * 20, "../../../etc/passwd"):
        assert statements(lambda forged=forged: engine(forged).load()) == [], forged
        assert not engine().exists(forged)


def test_the_store_has_no_id(engine, place, request):
    session = made(engine, secret_name="secret value")
    everything = dump(place, request)
    assert hash_of(session.session_key) in everything
    assert session.session_key not in everything
    assert "secret value" in everything


def test_a_hash_from_the_store_opens_nothing(engine):
    session = made(engine)
    assert dict(engine(str(hash_of(session.session_key))).items()) == {}


def test_a_log_names_a_session_by_a_salted_hash(settings):
    key = hash_of("a" * 32)
    handle = handle_of(key)
    assert handle not in key
    settings.SECRET_KEY = "another"
    assert handle_of(key) != handle


def test_ids_are_long_random_and_used_once():
    ids = {new_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(each) for each in ids} == {32}


def test_encrypted_contents_are_not_in_the_store(engine, law, place, request):
    law(ENCRYPT=True)
    session = made(engine, card="4111 1111")
    assert "4111" not in dump(place, request)
    assert engine(session.session_key)["card"] == "4111 1111"


def test_encryption_can_be_switched_on_and_off_and_the_key_rotated(engine, law, settings, place, request):
    plain = made(engine, card="4111")
    law(ENCRYPT=True)
    session = engine(plain.session_key)
    session["more"] = "5555"
    session.save()
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another one"
    assert dict(engine(plain.session_key).items()) == {"card": "4111", "more": "5555"}
    law(ENCRYPT=False)
    again = engine(plain.session_key)
    again["more"] = "6666"
    again.save()
    settings.SECRET_KEY_FALLBACKS = []
    assert dict(engine(plain.session_key).items()) == {"card": "4111", "more": "6666"}


@pytest.mark.parametrize("encrypts", [False, True])
def test_a_save_under_a_new_key_signs_all_of_it_anew_and_the_next_one_does_not(
    engine, law, settings, statements, encrypts
):
    law(ENCRYPT=encrypts)
    session = made(engine, kept="kept", other=1)
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another one"
    again = engine(session.session_key)
    again["other"] = 2
    again.save()
    settings.SECRET_KEY_FALLBACKS = []
    idle = engine(session.session_key)
    assert dict(idle.items()) == {"kept": "kept", "other": 2}
    assert statements(idle.save) == []


def test_a_save_leaves_nothing_readable_that_was_stored_before_encryption(engine, law, place, request):
    session = made(engine, card="4111 1111")
    law(ENCRYPT=True)
    again = engine(session.session_key)
    again["other"] = 1
    again.save()
    assert "4111" not in dump(place, request)
    assert dict(engine(session.session_key).items()) == {"card": "4111 1111", "other": 1}


def test_a_signature_that_is_no_ascii_is_no_error():
    from backroom.sessions.codec import Codec

    codec = Codec(JSONSerializer, encrypts=False)
    assert codec.document({"a": "j" + "é" * 40}) == {}


def test_a_session_has_as_many_names_as_fit(engine):
    contents = {f"name {number}": number for number in range(10_000)}
    session = made(engine, **contents)
    again = engine(session.session_key)
    assert dict(again.items()) == contents
    for name in list(contents):
        again[name] = 0
    again.save()
    last = engine(session.session_key)
    assert last["name 9999"] == 0
    for name in list(contents)[1:]:
        del last[name]
    last.save()
    assert dict(engine(session.session_key).items()) == {"name 0": 0}


def test_encrypted_contents_that_did_not_change_are_not_written(engine, law, statements):
    law(ENCRYPT=True)
    session = engine(made(engine).session_key)
    session.get("a")
    session.modified = True
    assert statements(session.save) == []


def test_who_writes_to_the_store_cannot_invent_contents(engine, place, request, caplog):
    session = made(engine, role="visitor", other=1)
    forged = '"admin"'
    if place == "redis":
        import redis

        client = redis.Redis.from_url(request.getfixturevalue("redis_server").url)
        name = next(iter(client.keys("*:s:*")))
        signed: Any = client.hget(name, "=role")
        client.hset(name, "=role", signed[:33].decode() + forged)
        client.close()
    else:
        from backroom.sessions.models import Session

        row = Session.objects.get(session_key=session.session_key)
        contents = json.loads(row.session_data)
        contents["role"] = contents["role"][:33] + forged
        Session.objects.filter(pk=row.pk).update(session_data=json.dumps(contents))
    with caplog.at_level(logging.WARNING, "django.security.SuspiciousSession"):
        assert dict(engine(session.session_key).items()) == {"other": 1}
    assert "corrupted" in caplog.text


def test_a_signed_value_cannot_be_moved_to_another_name():
    from backroom.sessions.codec import Codec

    codec = Codec(JSONSerializer, encrypts=False)
    moved = {"is_admin": codec.stored("is_visitor", "true")}
    assert codec.document(moved) == {}


def test_another_serializer_serves_and_what_was_there_before_it_is_still_read(engine, settings):
    session = made(engine, before=[1])
    settings.SESSION_SERIALIZER = "tests.sessions.test_store.Pickles"
    again = engine(session.session_key)
    again["after"] = {"x": 2}
    again.save()
    assert dict(engine(session.session_key).items()) == {"before": [1], "after": {"x": 2}}
    idle = engine(session.session_key)
    idle.get("after")
    idle.modified = True


def test_what_json_cannot_hold_is_told_with_its_name(engine):
    session = made(engine)
    session["when"] = timedelta(1)
    with pytest.raises(TypeError) as raised:
        session.save()
    assert "session['when']" in raised.value.__notes__[0]


def test_the_same_types_come_back_from_every_engine(engine):
    session = engine()
    session.update({1: (1, 2), "k": {1: None}})
    session.save()
    assert dict(engine(session.session_key).items()) == {"1": [1, 2], "k": {"1": None}}


def test_too_much_is_refused_with_the_size_and_the_name(engine, law):
    law(MAX_BYTES=1000)
    session = made(engine)
    session["cart"] = "x" * 2000
    with pytest.raises(SessionTooLarge, match=r"2,0\d\d bytes.*'cart' with 2,002"):
        session.save()
    assert dict(engine(session.session_key).items()) == {"a": 1}


def test_an_unknown_id_makes_no_session(engine):
    session = engine("abcdefghijklmnopqrstuvwxyz012345")
    assert dict(session.items()) == {}
    assert session.session_key is None
    session["a"] = 1
    session.save()
    assert session.session_key != "abcdefghijklmnopqrstuvwxyz012345"


def test_a_session_filled_without_being_loaded_keeps_what_is_known_of_it(engine):
    session = made(engine, a=1, b=2)
    blind = engine(session.session_key)
    blind.clear()
    blind["only"] = 1
    blind.save()
    assert dict(engine(session.session_key).items()) == {"only": 1}
    gone = engine(new_id())
    gone.clear()
    with pytest.raises(UpdateError):
        gone.save()


def test_unknown_ids_in_number_are_told_once(engine, law, clock, caplog):
    law(UNKNOWN_IDS=3)
    caplog.set_level(logging.WARNING, "backroom.sessions")
    told = []

    def hear(sender: Any, address: str, count: int, **_signal: Any) -> None:
        told.append((address, count))

    unknown_ids.connect(hear)
    try:
        for _ in range(10):
            session = engine(new_id())
            session.visitor = session.visitor._replace(address="192.0.2.1")
            session.load()
        assert told == [("192.0.2.1", 3)]
        assert caplog.messages.count("action=unknown_ids address=192.0.2.1 count=3") == 1
        clock.advance(61)
        assert guesses.count("192.0.2.2") == 0
        for _ in range(3):
            session = engine(new_id())
            session.visitor = session.visitor._replace(address="192.0.2.1")
            session.load()
        assert told == [("192.0.2.1", 3)] * 2
    finally:
        unknown_ids.disconnect(hear)


def test_guesses_of_many_addresses_do_not_fill_the_memory():
    from backroom.sessions import guessing

    many = guessing.Guesses()
    for number in range(guessing.REMEMBERED + 50):
        many.note(str(number), 0, threshold=1)
    assert len(many._counts) == guessing.REMEMBERED


def test_redis_is_asked_in_one_command(redis_server, settings):
    settings.BACKROOM = {"REDIS_URL": redis_server.url}
    from backroom.sessions.backends.redis import SessionStore

    session = made(SessionStore)
    assert [
        each.split()[0] for each in commands_of(redis_server, lambda: SessionStore(session.session_key).load())
    ] == ["HGETALL"]


@pytest.mark.parametrize("place", ["redis"])
def test_redis_is_asked_from_an_event_loop_without_a_thread(engine, monkeypatch):
    from backroom.sessions.stores.redis import store

    def ask(*_command: Any) -> None:
        pytest.fail("a thread asked")

    async def use() -> tuple[dict[str, Any], int]:
        session = engine()
        await session.aset("a", 1)
        await session.asave()
        await session.acycle_key()
        again = engine(session.session_key)
        await again.aset("b", 2)
        await again.asave()
        last = engine(session.session_key)
        found = dict(await last.aitems())
        await last.aflush()
        return found, await last.aexists(session.session_key)

    for name in ("call", "call_each"):
        monkeypatch.setattr(store().server, name, ask)
    forget_scripts(store().address.url)
    assert async_to_sync(use)() == ({"a": 1, "b": 2}, False)


def forget_scripts(url: str) -> None:
    import redis

    client = redis.Redis.from_url(url)
    client.script_flush()
    client.close()


def test_every_script_forgets_nothing_that_redis_keeps(redis_server, settings):
    """After the last session of a user nothing is left but what ends by itself."""
    import redis

    settings.BACKROOM = {"REDIS_URL": redis_server.url}
    from backroom.sessions.backends.redis import SessionStore

    client = redis.Redis.from_url(redis_server.url, decode_responses=True)
    client.flushall()
    first, second = made(SessionStore, _auth_user_id="7"), made(SessionStore, _auth_user_id="7")
    first.cycle_key()
    assert client.zcard("backroom:{sessions}:user:7") == 2
    first.flush()
    assert client.zrange("backroom:{sessions}:users", 0, -1) == ["7"]
    run(endings.ending(SessionStore, [hash_of(second.session_key)], reason="test"))
    assert client.keys("*") == []
    client.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["postgres"])
def test_what_matters_waits_for_the_disk_and_a_change_of_the_contents_need_not(engine, law, statements):
    session = made(engine)
    session["b"] = 1
    (hurried,) = statements(session.save)
    assert "synchronous_commit" in hurried
    session["_auth_user_id"] = "7"
    for action in (session.save, session.cycle_key, session.flush):
        (waited,) = statements(action)
        assert "synchronous_commit" not in waited
    law(DURABLE=True)
    session = made(engine)
    session["b"] = 1
    (waited,) = statements(session.save)
    assert "synchronous_commit" not in waited
    with connections["postgres"].cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["postgres"])
def test_what_takes_something_away_waits_for_the_disk(engine, clock, statements):
    session = made(engine, a=1, b=2)
    del session["a"]
    (deleted,) = statements(session.save)
    session.set_expiry(60)
    (shortened,) = statements(session.save)
    session["b"] = 3
    (changed,) = statements(session.save)
    session.clear()
    (emptied,) = statements(session.save)
    assert ["synchronous_commit" in each for each in (deleted, shortened, changed, emptied)] == [
        False,
        False,
        True,
        False,
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", ["postgres"])
@pytest.mark.parametrize("way", ["autocommit off", "async in atomic"])
def test_a_transaction_of_the_callers_keeps_how_it_waits_for_the_disk(engine, way):
    session = made(engine)
    session["b"] = 1

    def waits() -> str:
        with connections["postgres"].cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            return str(cursor.fetchone()[0])

    if way == "async in atomic":
        with transaction.atomic("postgres"):
            async_to_sync(session.asave)()
            assert waits() == "on"
        return
    transaction.set_autocommit(False, "postgres")
    try:
        session.save()
        assert waits() == "on"
    finally:
        transaction.rollback("postgres")
        transaction.set_autocommit(True, "postgres")


@pytest.mark.parametrize("place", ["postgres"])
def test_a_transaction_of_the_callers_waits_for_the_disk_as_it_always_does(engine, statements):
    session = made(engine)
    session["b"] = 1
    (waited,) = statements(session.save)
    assert "synchronous_commit" not in waited
