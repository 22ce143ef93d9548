"""The page "your devices", and the list in the admin."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils.formats import localize
from django.utils.html import escape
from django.utils.timezone import localtime

from backroom.sessions import signals
from backroom.sessions.people import sessions_of, set_label
from tests.sessions.conftest import FIREFOX, SAFARI

in_tables = pytest.mark.parametrize("place", ["sqlite", "postgres"])
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("site")]


def signed_in(user: User, user_agent: str = FIREFOX, address: str = "192.0.2.1") -> Client:
    client = Client(headers={"user-agent": user_agent}, REMOTE_ADDR=address, enforce_csrf_checks=True)
    client.get("/in/", {"name": user.username})
    return client


def post(client: Client, path: str = "/devices/", **fields: str):
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get("/devices/").content.decode())
    return client.post(path, {**fields, "csrfmiddlewaretoken": token[1] if token else ""})


@pytest.fixture
def phone(ann):
    return signed_in(ann)


@pytest.fixture
def laptop(ann, clock):
    clock.advance(1)
    return signed_in(ann, SAFARI, "192.0.2.2")


def handle_of(ann: User, address: str) -> str:
    return next(each.handle for each in sessions_of(ann) if each.ip_address == address)


def test_the_page_lists_where_one_is_signed_in(phone, laptop, clock):
    clock.advance(120)
    page = laptop.get("/devices/")
    text = page.content.decode()
    assert text.index("Safari on macOS") < text.index("Firefox on Android")
    assert "192.0.2.1" in text
    assert "in use now" in text
    assert "no-store" in page["Cache-Control"]
    assert "default-src 'none'" in page["Content-Security-Policy"]
    assert "<script" not in text
    assert "style=" not in text


def test_no_id_and_no_hash_of_one_is_on_the_page(phone, laptop, ann):
    text = laptop.get("/devices/").content.decode()
    for info in sessions_of(ann):
        assert info.key not in text
    assert phone.cookies["sessionid"].value not in text
    assert laptop.cookies["sessionid"].value not in text


def test_a_button_ends_one(phone, laptop, ann):
    answered = post(laptop, end=handle_of(ann, "192.0.2.1"))
    assert (answered.status_code, answered["Location"]) == (303, "/devices/?done=one")
    assert "That device is signed out" in laptop.get("/devices/?done=one").content.decode()
    assert phone.get("/who/").content == b"for nobody"
    assert laptop.get("/who/").content == b"for ann"


def test_a_button_ends_all_others(phone, laptop, ann):
    signed_in(ann)
    assert post(laptop, end_others="1")["Location"] == "/devices/?done=others"
    assert len(sessions_of(ann)) == 1
    assert "nowhere else" in laptop.get("/devices/").content.decode()
    assert phone.get("/who/").content == b"for nobody"


def test_ending_this_one_signs_out(phone, laptop, ann):
    answered = post(laptop, end=handle_of(ann, "192.0.2.2"))
    assert (answered.status_code, answered["Location"]) == (303, "/")
    assert laptop.get("/who/").content == b"for nobody"
    assert phone.get("/who/").content == b"for ann"


def test_one_can_be_named_and_the_name_is_escaped(laptop, ann):
    name = '<script>alert("x")</script>'
    assert post(laptop, name=handle_of(ann, "192.0.2.2"), label=name)["Location"] == "/devices/?done=name"
    text = laptop.get("/devices/").content.decode()
    assert name not in text
    assert escape(name) in text


def test_a_strange_user_agent_is_escaped(ann):
    client = signed_in(ann, "<img src=x onerror=alert(1)> Firefox/1")
    assert "<img" not in client.get("/devices/").content.decode()


def test_nobody_elses_session_can_be_ended_or_named(phone, ann):
    bob = User.objects.create_user("bob", password="secret")
    theirs = signed_in(bob, address="192.0.2.9")
    assert post(phone, end=handle_of(bob, "192.0.2.9")).status_code == 404
    assert post(phone, name=handle_of(bob, "192.0.2.9"), label="mine").status_code == 404
    assert post(phone, end="nonsense").status_code == 404
    assert theirs.get("/who/").content == b"for bob"


def test_a_post_needs_a_token_and_says_what_it_wants(phone, ann):
    assert phone.post("/devices/", {"end_others": "1"}).status_code == 403
    assert post(phone).status_code == 400
    assert phone.get("/devices/?end_others=1").status_code == 200
    assert len(sessions_of(ann)) == 1


def test_who_is_not_signed_in_is_sent_to_do_so():
    assert Client().get("/devices/")["Location"] == "/accounts/login/?next=/devices/"


def test_a_careful_page_asks_for_the_password_before_it_ends_anything(phone, laptop, ann, clock):
    clock.advance(301)
    assert laptop.get("/careful/").status_code == 200
    answered = post(laptop, "/careful/", end_others="1")
    assert answered["Location"] == "/accounts/login/?next=/careful/"
    assert len(sessions_of(ann)) == 2


def test_a_site_with_a_policy_of_its_own_keeps_it(laptop, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"]
    assert "Content-Security-Policy" not in laptop.get("/devices/")


def test_static_files_of_another_host_are_allowed(settings, ann):
    settings.STATIC_URL = "https://static.example/files/"
    page = signed_in(ann).get("/devices/")
    assert "style-src 'self' https://static.example;" in page["Content-Security-Policy"]


# ── The admin ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def operator():
    user = User.objects.create_superuser("root", password="secret")
    return signed_in(user, address="192.0.2.99")


LIST = "/admin/backroom_sessions/session/"


@in_tables
def test_the_admin_lists_sessions_and_shows_neither_ids_nor_contents(operator, phone, ann):
    phone.get("/write/?card=4111")
    set_label(sessions_of(ann)[0], "Kitchen")
    text = operator.get(LIST).content.decode()
    assert "Kitchen" in text
    assert "ann" in text
    assert "192.0.2.1" in text
    for each in (phone, operator):
        assert each.cookies["sessionid"].value not in text
    page = operator.get(f"{LIST}{sessions_of(ann)[0].key}/change/").content.decode()
    assert "4111" not in page
    assert FIREFOX in page
    # Moments are shown as the admin shows dates, and not with their microseconds.
    began = localize(localtime(sessions_of(ann)[0].created_at))
    assert began in text
    assert began in page
    assert "+00:00" not in text + page


@in_tables
def test_the_admin_parts_users_from_visitors(operator, phone):
    Client(REMOTE_ADDR="192.0.2.50").get("/write/?a=1")
    assert "192.0.2.50" not in operator.get(f"{LIST}?who=users").content.decode()
    visitors = operator.get(f"{LIST}?who=visitors").content.decode()
    assert "192.0.2.50" in visitors
    assert "192.0.2.1<" not in visitors


@in_tables
def test_the_admin_ends_sessions_and_writes_down_who_did(operator, phone, ann):
    from django.contrib.admin.models import LogEntry

    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', operator.get(LIST).content.decode())
    assert token
    chosen = {"action": "end_sessions", "_selected_action": sessions_of(ann)[0].key, "csrfmiddlewaretoken": token[1]}
    answered = operator.post(LIST, chosen, follow=True)
    assert "1 session was ended" in answered.content.decode()
    assert phone.get("/who/").content == b"for nobody"
    assert LogEntry.objects.get().user.username == "root"


@in_tables
def test_deleting_in_the_admin_ends_them_too(operator, phone, ann):
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', operator.get(LIST).content.decode())
    assert token
    chosen = {"_selected_action": sessions_of(ann)[0].key, "csrfmiddlewaretoken": token[1], "post": "yes"}
    ended = []
    signals.session_revoked.connect(receiver := lambda reason, **_signal: ended.append(reason))
    try:
        operator.post(LIST, {**chosen, "action": "delete_selected"})
    finally:
        signals.session_revoked.disconnect(receiver)
    assert ended == ["operator"]
    assert phone.get("/who/").content == b"for nobody"


@in_tables
def test_the_admin_adds_and_changes_none(operator, phone, ann):
    assert operator.get(f"{LIST}add/").status_code == 403
    assert operator.post(f"{LIST}{sessions_of(ann)[0].key}/change/", {"label": "x"}).status_code == 403


@in_tables
def test_a_row_tells_what_it_is(ann, phone):
    from backroom.sessions.models import Session

    row = Session.objects.get(session_key=phone.cookies["sessionid"].value)
    (info,) = sessions_of(ann)
    assert (str(row), row.device, row.get_decoded()["_auth_user_id"]) == (info.handle, info.name, str(ann.pk))
    assert Session.objects.get(pk=info.key) == row
    assert row.expire_date
    assert Session.objects.save(row.session_key, {}, row.expire_date).pk == row.pk
    assert not Session.objects.exists()
