"""What a request saves in a transaction that is rolled back is saved by its response after all."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path

from backroom.sessions.people import sessions_of

pytestmark = [pytest.mark.django_db, pytest.mark.parametrize("place", ["sqlite", "postgres"])]


@pytest.fixture
def alias(place):
    """Give the alias that has the sessions."""
    return "postgres" if place == "postgres" else "default"


@pytest.fixture
def session(engine):
    """Give a session as a request finds it."""
    first = engine()
    first.update({"kept": 1, "going": 2, "cart": [1]})
    first.save()
    return engine(first.session_key)


def in_vain(alias: str, *actions: Any) -> None:
    """Do something in a transaction that is rolled back."""
    with transaction.atomic(alias):
        for action in actions:
            action()
        transaction.set_rollback(True, alias)


def stored(engine: Any, session_key: Any) -> dict[str, Any]:
    return dict(engine(session_key).items())


@pytest.mark.parametrize("is_async", [False, True])
def test_what_was_saved_in_vain_is_saved_by_the_next_save(engine, alias, session, is_async):
    save = async_to_sync(session.asave) if is_async else session.save
    session["new"] = 3
    del session["going"]
    session["cart"].append(2)
    in_vain(alias, save)
    assert stored(engine, session.session_key) == {"kept": 1, "going": 2, "cart": [1]}
    save()
    assert stored(engine, session.session_key) == {"kept": 1, "cart": [1, 2], "new": 3}


def test_of_several_saves_those_are_repeated_that_were_in_vain(engine, alias, session, statements):
    with transaction.atomic(alias):
        session["a"] = 1
        session.save()
        session["b"] = 2
        in_vain(alias, session.save)
        session["c"] = 3
        (sent,) = statements(session.save)
    assert '"b"' in sent
    assert '"c"' in sent
    assert '"a"' not in sent
    assert stored(engine, session.session_key).keys() == {"kept", "going", "cart", "a", "b", "c"}


@pytest.mark.django_db(transaction=True)
def test_what_was_committed_is_not_written_again(engine, alias, session, statements):
    with transaction.atomic(alias):
        session["a"] = 1
        session.save()
        assert statements(session.save) == []
    assert statements(session.save) == []
    assert stored(engine, session.session_key)["a"] == 1


def test_what_another_request_wrote_in_between_stays(engine, alias, session):
    session["a"] = 1
    in_vain(alias, session.save)
    other = engine(session.session_key)
    other["b"] = 2
    other.save()
    session.save()
    assert stored(engine, session.session_key) == {"kept": 1, "going": 2, "cart": [1], "a": 1, "b": 2}


def test_a_session_that_was_made_in_vain_is_made_by_the_next_save(engine, alias):
    session = engine()
    session["a"] = 1
    in_vain(alias, session.save, session.cycle_key, session.save)
    session.save()
    assert stored(engine, session.session_key) == {"a": 1}


def test_clearing_in_vain_is_repeated(engine, alias, session):
    session.clear()
    session["only"] = 1
    in_vain(alias, session.save)
    session.save()
    assert stored(engine, session.session_key) == {"only": 1}


@pytest.mark.parametrize("again", ["save", "cycle_key"])
def test_a_new_id_that_was_given_in_vain_is_given_by_the_next_save(engine, alias, session, again):
    planted = session.session_key
    session["_auth_user_id"] = "7"
    in_vain(alias, session.cycle_key, session.save)
    getattr(session, again)()
    assert session.session_key != planted
    assert stored(engine, session.session_key)["_auth_user_id"] == "7"
    assert engine(planted).load() == {}


def test_a_renewal_in_vain_leaves_the_id_that_was(engine, alias, law, session, clock):
    law(RENEWAL=10)
    clock.advance(11)
    before = session.session_key
    in_vain(alias, session.renew)
    session.save()
    assert session.session_key == before
    assert session.wants_new_id
    assert session.renew()
    assert stored(engine, session.session_key)["kept"] == 1


@pytest.mark.parametrize("is_known", [False, True])
def test_a_session_that_was_ended_in_vain_is_ended_all_the_same(engine, alias, session, is_known):
    key = session.session_key
    if is_known:
        assert session["kept"] == 1
    in_vain(alias, session.flush)
    assert engine().exists(key)
    session.take_back()
    assert not engine().exists(key)


def test_signing_out_and_in_again_in_vain(engine, alias, session):
    before = session.session_key
    assert session["kept"] == 1

    def sign_in() -> None:
        session["_auth_user_id"] = "8"
        session.save()

    in_vain(alias, session.flush, sign_in)
    session.save()
    assert engine(before).load() == {}
    assert stored(engine, session.session_key) == {"_auth_user_id": "8"}


# ── On the wire ─────────────────────────────────────────────────────────────────────────────────────


def attempt(request: HttpRequest, what: str, alias: str) -> HttpResponse:
    from tests.sessions import site

    def save() -> None:
        request.session.setdefault("list", []).append(1)
        request.session.save()

    actions = {"in": lambda: site.sign_in(request), "out": lambda: site.sign_out(request), "save": save}
    in_vain(alias, actions[what])
    return HttpResponse("answered")


def urls() -> Any:
    from tests.sessions import site

    return [path("attempt/<what>/<alias>/", attempt), *site.urlpatterns]


@pytest.fixture
def browser(site, settings, ann):
    """Give a browser with something in its session."""
    settings.ROOT_URLCONF = tuple(urls())
    client = Client()
    client.get("/write/?basket=3")
    return client


def test_the_response_saves_what_the_view_saved_in_vain(browser, alias):
    for _ in range(2):
        assert browser.get(f"/attempt/save/{alias}/").status_code == 200
    assert browser.get("/read/").json() == {"basket": "3", "list": [1, 1]}


def test_a_first_visit_that_saves_in_vain_gets_its_session(browser, alias):
    browser.cookies.clear()
    assert browser.get(f"/attempt/save/{alias}/").status_code == 200
    assert browser.get("/read/").json() == {"list": [1]}


def test_who_signed_in_in_vain_is_signed_in_under_a_new_id(browser, alias, engine, ann):
    planted = browser.cookies["sessionid"].value
    assert browser.get(f"/attempt/in/{alias}/?name=ann").status_code == 200
    assert browser.get("/who/").content == b"for ann"
    assert browser.get("/read/").json()["basket"] == "3"
    assert engine(planted).load() == {}
    assert len(sessions_of(ann)) == 1


def test_who_signed_out_in_vain_is_signed_out(browser, alias, engine, ann):
    browser.get("/in/?name=ann")
    key = browser.cookies["sessionid"].value
    browser.get(f"/attempt/out/{alias}/")
    assert not engine().exists(key)
    assert sessions_of(ann) == []
