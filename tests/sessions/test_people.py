"""Whose sessions are whose: listed, named, ended by their owner, and by what happens to the owner."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import login
from django.contrib.auth.models import Group, Permission, User
from django.test import Client

from backroom.sessions import people, signals
from backroom.sessions.agents import agent_of
from backroom.sessions.maintenance import Round
from backroom.sessions.people import NoSuchEngine, revoke, revoke_all, sessions_of, set_label
from tests.sessions.conftest import FIREFOX, SAFARI

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("site")]


def browser(user_agent: str = FIREFOX, address: str = "192.0.2.7") -> Client:
    return Client(headers={"user-agent": user_agent}, REMOTE_ADDR=address)


def signed_in(name: str = "ann", **options: Any) -> Client:
    client = browser(**options)
    assert client.get("/in/", {"name": name}).content == b"in"
    return client


def name_of(client: Client) -> str:
    return client.get("/who/").content.decode()


@pytest.fixture
def events():
    """Give what the signals tell, as words."""
    told: list[tuple[str, str | None]] = []

    def hear(word: str) -> Any:
        def receiver(sender: Any, session: Any, **more: Any) -> None:
            told.append((word, more.get("reason")))

        return receiver

    receivers = {word: hear(word) for word in ("created", "renewed", "revoked", "expired")}
    for word, receiver in receivers.items():
        getattr(signals, f"session_{word}").connect(receiver)
    yield told
    for word, receiver in receivers.items():
        getattr(signals, f"session_{word}").disconnect(receiver)


def renews_before(monkeypatch: Any, store: Any, name: str, session: Any) -> None:
    """Have a session get a new id just before the store does something."""
    done = getattr(type(store), name)

    def renew_first(self: Any, *arguments: Any) -> Any:
        monkeypatch.setattr(type(store), name, done)
        assert session.renew()
        return (yield from done(self, *arguments))

    monkeypatch.setattr(type(store), name, renew_first)


@pytest.fixture
def anns(engine, ann):
    """Give a function that makes a session in which Ann is signed in."""

    def make(**contents: Any) -> Any:
        session = engine()
        session.update({"_auth_user_id": str(ann.pk), **contents})
        session.save()
        return session

    return make


@pytest.mark.parametrize("grace", [0, 60])
def test_all_are_ended_though_one_gets_a_new_id_as_they_are(engine, ann, anns, law, clock, monkeypatch, grace):
    law(RENEWAL=10, GRACE=grace)
    session = anns()
    clock.advance(11)
    renewing = engine(session.session_key)
    assert renewing.user_id
    for name in ("delete", "delete_of_user"):
        renews_before(monkeypatch, engine.get_store(), name, renewing)
    assert revoke_all(ann) == 1
    assert sessions_of(ann) == []
    assert engine(renewing.session_key).load() == {}


def test_the_session_at_hand_is_spared_though_another_request_gave_it_a_new_id(engine, ann, anns, law, clock):
    law(RENEWAL=10)
    session, other = anns(), anns()
    clock.advance(11)
    renewing = engine(session.session_key)
    assert renewing.user_id
    assert renewing.renew()
    assert people.revoke_all_of([str(ann.pk)], reason="test", but=session.key_hash) == 1
    assert engine(renewing.session_key).load()
    assert not engine(other.session_key).load()


def test_the_limit_ends_the_oldest_though_it_gets_a_new_id_meanwhile(engine, ann, anns, law, clock, monkeypatch):
    law(RENEWAL=10, LIMIT=1)
    session = anns()
    clock.advance(11)
    renewing = engine(session.session_key)
    assert renewing.user_id
    renews_before(monkeypatch, engine.get_store(), "delete", renewing)
    newest = anns()
    assert [each.key for each in sessions_of(ann)] == [newest.key_hash]


@pytest.mark.parametrize("at_once", [True, False])
def test_of_two_sign_ins_at_once_the_limit_leaves_one(engine, ann, law, clock, monkeypatch, at_once):
    law(LIMIT=1)
    first, second = engine(), engine()
    first["_auth_user_id"] = second["_auth_user_id"] = str(ann.pk)
    store = type(engine.get_store())
    of_user = store.of_user

    def list_after_another(self: Any, *arguments: Any) -> Any:
        monkeypatch.setattr(store, "of_user", of_user)
        clock.advance(0 if at_once else 1)
        second.create()
        return (yield from of_user(self, *arguments))

    monkeypatch.setattr(store, "of_user", list_after_another)
    first.create()
    (left,) = sessions_of(ann)
    assert left.key in {first.key_hash, second.key_hash}
    assert at_once or left.key == second.key_hash


def test_who_signs_in_in_an_old_session_is_the_newest(engine, ann, anns, law, clock):
    law(LIMIT=1)
    visitor = engine()
    visitor["basket"] = 1
    visitor.save()
    clock.advance(10)
    before = anns()
    clock.advance(10)
    visitor.cycle_key()
    visitor["_auth_user_id"] = str(ann.pk)
    visitor.save()
    assert [each.key for each in sessions_of(ann)] == [visitor.key_hash]
    assert engine(visitor.session_key)["basket"] == 1
    assert engine(before.session_key).load() == {}


def test_a_nul_in_the_name_of_a_browser_is_no_error(ann):
    client = signed_in(user_agent="odd\0 browser")
    assert name_of(client) == "for ann"
    assert sessions_of(ann)[0].user_agent == "odd browser"


def test_what_has_expired_is_not_told_as_revoked(ann, anns, clock, events):
    anns()
    clock.advance(15 * 86_400)
    assert revoke_all(ann) == 0
    assert events == [("created", None)]


def test_a_session_knows_its_user_and_its_visitor(ann, clock):
    client = signed_in()
    clock.advance(120)
    name_of(client)
    (info,) = sessions_of(ann)
    session: Any = client.session
    assert session.user_id == info.user_id == str(ann.pk)
    assert (info.ip_address, info.user_agent, str(info.agent)) == ("192.0.2.7", FIREFOX, "Firefox on Android")
    assert (info.last_seen_at - info.created_at).total_seconds() == 120
    assert session.session_key not in repr(info)
    assert info.key not in repr(info)


def test_the_newest_come_first_and_visitors_are_nobodys(ann, clock):
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        signed_in(address=address)
        clock.advance(1)
    browser().get("/write/?a=1")
    assert [each.ip_address for each in sessions_of(ann)] == ["192.0.2.3", "192.0.2.2", "192.0.2.1"]
    assert sessions_of(str(ann.pk)) == sessions_of(ann)


def test_addresses_need_not_be_kept(ann, law):
    law(KEEP_ADDRESSES=False)
    signed_in()
    assert sessions_of(ann)[0].ip_address == ""


def test_a_trusted_proxys_word_on_the_address_counts_and_a_header_alone_does_not(ann, settings):
    signed_in().get("/who/", headers={"x-forwarded-for": "203.0.113.9"})
    assert sessions_of(ann)[0].ip_address == "192.0.2.7"
    settings.MIDDLEWARE = ["tests.sessions.test_people.trusted_proxy", *settings.MIDDLEWARE]
    signed_in()
    assert {each.ip_address for each in sessions_of(ann)} == {"192.0.2.7", "203.0.113.9"}


def trusted_proxy(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.client_ip = "203.0.113.9"
        return get_response(request)

    return middleware


def test_one_session_can_be_ended(ann):
    phone, laptop = signed_in(address="192.0.2.1"), signed_in(address="192.0.2.2")
    (lost,) = (each for each in sessions_of(ann) if each.ip_address == "192.0.2.1")
    assert revoke(lost)
    assert not revoke(lost)
    assert (name_of(phone), name_of(laptop)) == ("for nobody", "for ann")


def test_all_sessions_of_a_user_can_be_ended_and_nobody_elses_are(ann):
    User.objects.create_user("bob", password="secret")
    clients = [signed_in() for _ in range(3)]
    bob = signed_in("bob")
    assert revoke_all(ann) == 3
    assert [name_of(each) for each in clients] == ["for nobody"] * 3
    assert name_of(bob) == "for bob"


def test_all_others_can_be_ended(ann, rf):
    here, there = signed_in(), signed_in()
    request = rf.get("/")
    request.session = people.engine()(here.session.session_key)
    assert people.revoke_others(request) == 1
    assert (name_of(here), name_of(there)) == ("for ann", "for nobody")


def test_a_visitor_has_no_others(rf):
    request = rf.get("/")
    request.session = people.engine()()
    assert people.revoke_others(request) == 0


def test_the_async_verbs_do_the_same(ann, rf):
    here, there = signed_in(), signed_in()
    request = rf.get("/")
    request.session = people.engine()(here.session.session_key)
    assert len(async_to_sync(people.asessions_of)(ann)) == 2
    assert async_to_sync(people.arevoke_others)(request) == 1
    (left,) = sessions_of(ann)
    assert async_to_sync(people.aset_label)(left, " Kitchen ")
    assert sessions_of(ann)[0].label == "Kitchen"
    assert async_to_sync(people.arevoke)(left)
    assert async_to_sync(people.arevoke_all)(ann) == 0
    assert name_of(there) == "for nobody"


def test_a_label_names_a_session(ann):
    signed_in()
    (info,) = sessions_of(ann)
    assert info.name == "Firefox on Android"
    assert set_label(info, f"  {'x' * 200}")
    assert sessions_of(ann)[0].name == "x" * 100
    revoke(info)
    assert not set_label(info, "gone")


def test_a_new_password_ends_the_other_sessions(ann, events):
    here, there = signed_in(), signed_in()
    assert here.get("/password/").content == b"changed"
    assert (name_of(here), name_of(there)) == ("for ann", "for nobody")
    assert ("revoked", "password") in events
    assert len(sessions_of(ann)) == 1


def test_a_password_that_an_administrator_sets_ends_them_all(ann):
    here, there = signed_in(), signed_in()
    ann.set_password("set by somebody else")
    ann.save()
    assert sessions_of(ann) == []
    assert (name_of(here), name_of(there)) == ("for nobody", "for nobody")


def test_a_better_hash_of_the_same_password_ends_nothing(ann, settings):
    client = signed_in()
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    assert ann.check_password("secret")
    assert len(sessions_of(ann)) == 1
    assert client.session["_auth_user_id"]


def test_a_deactivated_user_has_no_sessions_left(ann, events):
    client = signed_in()
    ann.is_active = False
    ann.save()
    assert sessions_of(ann) == []
    assert ("revoked", "deactivated") in events
    ann.is_active = True
    ann.save()
    assert name_of(client) == "for nobody"


def test_one_deactivated_past_every_signal_loses_the_session_when_it_is_used(ann):
    client = signed_in()
    User.objects.update(is_active=False)
    assert name_of(client) == "for nobody"
    User.objects.update(is_active=True)
    assert name_of(client) == "for nobody"
    assert sessions_of(ann) == []


class Absent:
    """An authentication backend whose directory cannot be reached."""

    def get_user(self, user_id: Any) -> None:
        return None


def test_a_directory_that_cannot_be_reached_ends_no_session(ann, settings):
    client = signed_in()
    session = client.session
    backend, session["_auth_user_backend"] = session["_auth_user_backend"], "tests.sessions.test_people.Absent"
    session.save()
    settings.AUTHENTICATION_BACKENDS = [backend, "tests.sessions.test_people.Absent"]
    assert name_of(client) == "for nobody"
    session["_auth_user_backend"] = backend
    session.save()
    assert name_of(client) == "for ann"


def test_one_deactivated_past_every_signal_loses_the_session_when_a_worker_looks(ann):
    client, ours = signed_in(), Round()
    ours.step()
    assert len(sessions_of(ann)) == 1
    User.objects.update(is_active=False)
    ours.step()
    User.objects.update(is_active=True)
    assert name_of(client) == "for nobody"


def test_a_worker_looks_at_all_users_a_batch_at_a_time(monkeypatch):
    monkeypatch.setattr("backroom.sessions.maintenance.USERS", 2)
    users = [User.objects.create_user(name, password="secret") for name in "abcde"]
    for user in users:
        signed_in(user.username)
    User.objects.update(is_active=False)
    ours = Round()
    for _ in range(3):
        ours.step()
    assert [sessions_of(user) for user in users] == [[]] * 5


def test_a_deleted_user_has_no_sessions_left(ann):
    signed_in()
    key = ann.pk
    ann.delete()
    assert sessions_of(key) == []


def test_the_newest_sessions_stay_when_there_are_too_many(ann, law, clock, events):
    law(LIMIT=2)
    clients = []
    for _ in range(4):
        clients.append(signed_in())
        clock.advance(1)
    assert [name_of(each) for each in clients] == ["for nobody", "for nobody", "for ann", "for ann"]
    assert events.count(("revoked", "limit")) == 2
    for client in clients[2:]:
        client.get("/write/?a=1")
    assert len(sessions_of(ann)) == 2


def test_signing_in_rotates_the_id_and_keeps_the_data(ann):
    client = browser()
    client.get("/write/?basket=3")
    before = client.session.session_key
    client.get("/in/", {"name": "ann"})
    assert client.session.session_key != before
    assert client.session["basket"] == "3"
    assert not people.engine()().exists(before)


def test_signing_in_again_rotates_the_id_and_keeps_the_data(ann):
    client = signed_in()
    client.get("/write/?basket=3")
    before = client.session.session_key
    client.get("/in/", {"name": "ann"})
    assert client.session.session_key != before
    assert client.session["basket"] == "3"
    assert len(sessions_of(ann)) == 1


def test_signing_in_again_after_a_renewal_leaves_the_old_id_no_grace(engine, ann, anns, law, rf):
    law(RENEWAL=3600)
    session = anns(_auth_user_hash=ann.get_session_auth_hash())
    request = rf.get("/")
    request.session = engine(session.session_key)
    assert request.session.user_id
    assert request.session.renew()
    login(request, ann)
    request.session.save()
    assert engine(session.session_key).load() == {}
    assert engine(request.session.session_key).load()


def test_signing_in_as_somebody_else_leaves_nothing_of_the_one_before(ann):
    User.objects.create_user("bob", password="secret")
    client = signed_in()
    client.get("/write/?private=1")
    client.get("/in/", {"name": "bob"})
    assert "private" not in client.session
    assert sessions_of(ann) == []


def test_signing_out_ends_the_session(ann, events):
    client = signed_in()
    key = client.session.session_key
    client.get("/out/")
    assert not people.engine()().exists(key)
    assert events[-1] == ("revoked", "flushed")
    assert sessions_of(ann) == []


@pytest.mark.parametrize("change", ["staff", "superuser", "group", "permission", "reverse"])
def test_a_new_role_rotates_the_id_without_grace_and_keeps_the_data(ann, law, change):
    law(RENEWAL=3600)
    client = signed_in()
    client.get("/write/?basket=3")
    before = client.session.session_key
    match change:
        case "staff":
            ann.is_staff = True
            ann.save()
        case "superuser":
            ann.is_superuser = True
            ann.save()
        case "group":
            ann.groups.add(Group.objects.create(name="editors"))
        case "permission":
            ann.user_permissions.add(Permission.objects.first())
        case "reverse":
            Group.objects.create(name="editors").user_set.add(ann)
    assert client.session.session_key == before
    assert name_of(client) == "for ann"
    assert client.session.session_key != before
    assert client.session["basket"] == "3"
    assert people.engine()(before).load() == {}
    after = client.session.session_key
    name_of(client)
    assert client.session.session_key == after


ROLES: dict[str, Any] = {
    "groups.set": lambda it: it.ann.groups.set([]),
    "groups.clear": lambda it: it.ann.groups.clear(),
    "groups.remove": lambda it: it.ann.groups.remove(it.group),
    "group.user_set.remove": lambda it: it.group.user_set.remove(it.ann),
    "group.user_set.clear": lambda it: it.group.user_set.clear(),
    "group.user_set.set": lambda it: it.group.user_set.set([]),
    "group.user_set.set clear": lambda it: it.group.user_set.set([], clear=True),
    "group.delete": lambda it: it.group.delete(),
    "user_permissions.clear": lambda it: it.ann.user_permissions.clear(),
    "permission.user_set.clear": lambda it: it.permission.user_set.clear(),
    "permission.user_set.remove": lambda it: it.permission.user_set.remove(it.ann),
    "group.permissions.add": lambda it: it.group.permissions.add(it.permission),
    "group.permissions.clear": lambda it: it.group.permissions.clear(),
    "permission.group_set.add": lambda it: it.permission.group_set.add(it.group),
    "permission.group_set.clear": lambda it: it.permission.group_set.clear(),
}


@pytest.mark.parametrize("change", ROLES)
def test_a_role_that_changes_from_whichever_side_rotates_the_ids_of_those_who_have_it(engine, ann, anns, change):
    group, permission = Group.objects.create(name="editors"), Permission.objects.all()[0]
    other = Permission.objects.all()[1]
    ann.groups.add(group)
    ann.user_permissions.add(permission)
    group.permissions.add(other if change.endswith("add") else permission)
    bob = User.objects.create_user("bob")
    session = anns()
    bobs = engine()
    bobs["_auth_user_id"] = str(bob.pk)
    bobs.save()
    ROLES[change](SimpleNamespace(ann=ann, group=group, permission=permission))
    changed, same = engine(session.session_key), engine(bobs.session_key)
    assert changed.load()
    assert same.load()
    assert changed.info.user_id == str(ann.pk)
    assert same.info.user_id == str(bob.pk)
    assert (changed.wants_new_id, same.wants_new_id) == (True, False)


def test_a_role_of_many_is_told_to_the_store_in_few_words(engine, statements):
    group = Group.objects.create(name="everybody")
    group.user_set.set(User.objects.bulk_create([User(username=f"user {number}") for number in range(1_200)]))
    sent = [each for each in statements(group.user_set.clear) if "renewed_at" in each or "EVALSHA" in each]
    assert len(sent) == 3


def test_saving_a_user_whose_role_is_the_same_rotates_nothing(ann):
    client = signed_in()
    before = client.session.session_key
    fresh = User.objects.get()
    fresh.first_name = "Ann"
    fresh.save()
    name_of(client)
    assert client.session.session_key == before


def test_the_log_tells_the_life_of_a_session_and_never_its_id(ann, caplog, law, clock):
    law(RENEWAL=100)
    with caplog.at_level(logging.INFO, "backroom.sessions"):
        client = signed_in()
        ids = [client.session.session_key]
        clock.advance(101)
        name_of(client)
        ids.append(client.session.session_key)
        (info,) = sessions_of(ann)
        revoke(info)
    actions = [record.getMessage().split()[0] for record in caplog.records if record.name == "backroom.sessions"]
    assert actions == ["action=created", "action=renewed", "action=revoked"]
    assert info.handle in caplog.text
    assert "reason=revoked" in caplog.text
    for secret in (*ids, info.key):
        assert secret not in caplog.text


def test_a_receiver_that_fails_changes_nothing(ann):
    def fail(**_signal: Any) -> None:
        raise RuntimeError("not my day")

    signals.session_created.connect(fail)
    try:
        assert name_of(signed_in()) == "for ann"
    finally:
        signals.session_created.disconnect(fail)


def test_another_browser_in_the_same_session_is_told(ann, clock):
    told: list[tuple[Any, Any]] = []

    def hear(sender: Any, session: Any, was: Any, now: Any, **_signal: Any) -> None:
        told.append((agent_of(was.user_agent).browser, agent_of(now.user_agent).browser))

    client = signed_in()
    thief = browser(SAFARI, "203.0.113.5")
    thief.cookies = client.cookies
    signals.visitor_changed.connect(hear)
    try:
        clock.advance(61)
        name_of(client)
        clock.advance(61)
        name_of(thief)
        name_of(thief)
    finally:
        signals.visitor_changed.disconnect(hear)
    assert told == [("Firefox", "Safari")]


def test_a_browser_that_is_new_to_a_user_is_told_once(ann):
    User.objects.create_user("bob", password="secret")
    told: list[tuple[str, str]] = []

    def hear(sender: Any, request: Any, user: Any, session: Any, **_signal: Any) -> None:
        told.append((user.username, str(session.agent)))

    signals.new_device.connect(hear)
    try:
        client = signed_in()
        client.get("/out/")
        client.get("/in/", {"name": "ann"})
        client.get("/in/", {"name": "bob"})
        signed_in(user_agent=SAFARI)
    finally:
        signals.new_device.disconnect(hear)
    assert told == [("ann", "Firefox on Android"), ("bob", "Firefox on Android"), ("ann", "Safari on macOS")]
    assert "ann" not in client.cookies["backroom-device"].value
    client.get("/in/", {"name": "ann"})
    assert "backroom-device" not in signed_in().cookies


def test_a_delicate_page_asks_for_the_password_again(ann, clock):
    client = signed_in()
    assert client.get("/delicate/").content == b"delicate"
    clock.advance(301)
    asked = client.get("/delicate/?x=1")
    assert asked["Location"] == "/accounts/login/?next=/delicate/%3Fx%3D1"
    before = client.session.session_key
    signed = client.post(asked["Location"], {"username": "ann", "password": "secret"})
    assert signed["Location"] == "/delicate/?x=1"
    assert client.get("/delicate/").content == b"delicate"
    assert client.session.session_key != before
    assert browser().get("/delicate/").status_code == 302


def test_a_form_on_a_delicate_page_leads_back_to_its_page_and_nowhere_else(ann, clock):
    client = signed_in()
    clock.advance(301)
    page = client.post("/delicate/", headers={"referer": "http://testserver/settings/?tab=2"})
    assert page["Location"] == "/accounts/login/?next=/settings/%3Ftab%3D2"
    elsewhere = client.post("/delicate/", headers={"referer": "https://evil.example/x"})
    assert elsewhere["Location"] == "/accounts/login/?next=/delicate/"


def test_a_delicate_async_page_asks_too(ann, clock):
    client = signed_in()
    assert client.get("/adelicate/").content == b"delicate"
    clock.advance(301)
    assert client.get("/adelicate/")["Location"] == "/elsewhere/?next=/adelicate/"


@pytest.mark.parametrize("page", ["/delicate/", "/adelicate/"])
def test_a_delicate_page_lets_nobody_in_whose_account_was_closed_since(ann, page):
    client = signed_in()
    User.objects.update(is_active=False)
    assert client.get(page).status_code == 302


def test_another_engine_knows_no_owners(ann, settings):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    with pytest.raises(NoSuchEngine, match="does not know whose"):
        sessions_of(ann)
    ann.is_active = False
    ann.save()
    ann.delete()
    Round().on_tidying()


def test_what_is_no_session_cannot_be_ended():
    with pytest.raises(TypeError, match="no session"):
        revoke("abcdefghijklmnopqrstuvwxyz012345")


@pytest.mark.parametrize(
    ("user_agent", "words"),
    [
        (FIREFOX, "Firefox on Android"),
        (SAFARI, "Safari on macOS"),
        ("curl/8.5.0", "curl"),
        ("", "Unknown device"),
        ("x" * 10_000, "Unknown device"),
    ],
)
def test_user_agents_are_told_as_people_say_them(user_agent, words):
    assert str(agent_of(user_agent)) == words
