"""Whose an operation is: the visitor's session and user, and nobody else's."""

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import Client

from backroom.offload.models import Operation
from backroom.testing import run_tasks
from tests.offload.conftest import HTML

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.site")]
RESOURCES = [("get", ""), ("delete", ""), ("get", "result/"), ("get", "events/"), ("post", "cancel/")]


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


def started(client: Client) -> str:
    location: str = client.get("/report/2024/")["Location"]
    return location


@pytest.mark.parametrize(("method", "resource"), RESOURCES)
def test_anyone_else_gets_404_and_changes_nothing(client, ann, method, resource):
    url = started(client)
    someone = Client()
    someone.force_login(ann)
    someone.get("/report/2025/")
    for stranger in (Client(), someone):
        refused = getattr(stranger, method)(f"{url}{resource}")
        assert (refused.status_code, refused["Content-Type"]) == (404, "application/problem+json")
        assert getattr(stranger, method)(f"/operations/{'x' * 32}/{resource}").json()["code"] == refused.json()["code"]
        assert getattr(stranger, method)(f"{url}{resource}", headers=HTML).status_code == 404
    assert client.get(url).json()["state"] == "ready"


@pytest.mark.parametrize(("method", "resource"), RESOURCES)
def test_the_owner_reaches_every_resource(client, method, resource):
    assert getattr(client, method)(f"{started(client)}{resource}").status_code in {200, 202, 204, 303}


def test_an_operation_survives_signing_in(client, ann):
    url = started(client)
    before = client.session.session_key
    client.force_login(ann)
    assert client.session.session_key != before
    assert client.get(url).status_code == 200


def test_an_operation_survives_a_new_session_key(client):
    url = started(client)
    session = client.session
    session.cycle_key()
    client.cookies["sessionid"] = session.session_key
    assert client.get(url).status_code == 200


def test_an_operation_dies_with_the_session(client):
    url = started(client)
    session = client.session
    session.flush()
    session.save()
    client.cookies["sessionid"] = session.session_key
    assert client.get(url).status_code == 404


def test_signing_out_takes_the_sessions_operations_away(client, ann):
    before = started(client)
    client.force_login(ann)
    after = client.get("/report/2025/")["Location"]
    client.logout()
    assert [client.get(url).status_code for url in (before, after)] == [404, 404]


def test_a_signed_in_user_finds_their_operations_from_any_device(client, ann):
    client.force_login(ann)
    url = started(client)
    phone = Client()
    phone.force_login(ann)
    assert phone.get(url).status_code == 200
    assert phone.get("/report/2024/")["Location"] == url
    run_tasks()
    assert phone.get(f"{url}result/").json()["total"] == 4048


def test_a_user_who_takes_over_a_session_finds_nothing_of_the_one_before(client, ann):
    client.force_login(ann)
    url = started(client)
    client.force_login(User.objects.create_user("bob"))
    assert client.get(url).status_code == 404


def test_what_was_asked_for_while_signed_in_is_the_users_and_not_the_sessions(client, ann):
    before = started(client)
    client.force_login(ann)
    after = client.get("/report/2025/")["Location"]
    # Whoever is deactivated is nobody any more, in a session that goes on.
    User.objects.filter(pk=ann.pk).update(is_active=False)
    assert [client.get(url).status_code for url in (before, after)] == [200, 404]


def test_neither_the_session_key_nor_the_secret_is_stored(client):
    started(client)
    row = str(Operation.objects.values().get())
    session = Session.objects.get()
    assert session.session_key not in row
    assert session.get_decoded()["_backroom_owner"] not in row
    assert len(Operation.objects.get().session_hash) == 64


def test_a_visitor_who_only_looks_gets_no_session(client):
    client.get(f"/operations/{'x' * 32}/")
    client.post("/form/", {"year": "soon"})
    assert not Session.objects.exists()


def test_without_sessions_only_who_is_signed_in_can_own(client, settings):
    settings.MIDDLEWARE = []
    with pytest.raises(Exception, match="neither a session nor a user"):
        client.get("/report/2024/")


def test_a_site_that_requires_a_sign_in_everywhere_lets_an_anonymous_owner_in(client, settings):
    url = started(client)
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    again = Client()
    again.cookies = client.cookies
    assert again.get(url).status_code == 200
    assert again.get("/report/2024/").status_code == 302
