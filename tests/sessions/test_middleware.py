"""Sessions on the wire: cookies, caches, new ids; and one test for each hole that Django had to close."""

from __future__ import annotations

from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.cache import cache
from django.test import AsyncClient, Client

from backroom.sessions import people

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("site")]


@pytest.fixture(autouse=True)
def _an_empty_cache():
    cache.clear()


def directives(response: Any) -> set[str]:
    return {each.strip() for each in response.get("Cache-Control", "").split(",") if each.strip()}


def count(engine: Any) -> int:
    """Return how many sessions there are, by letting all of them expire."""
    from backroom.clock import LAST
    from backroom.sessions.steps import run

    return len(run(engine.get_store().delete_expired(LAST, 1000)))


# ── Cookies and ids ─────────────────────────────────────────────────────────────────────────────────


def test_a_visitor_who_only_looks_gets_neither_cookie_nor_session(client, engine):
    assert client.get("/read/").json() == {}
    assert client.cookies == {}
    assert count(engine) == 0


def test_a_visitor_with_something_in_the_session_gets_a_protected_cookie(client):
    client.get("/write/?a=1")
    cookie = client.cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["domain"]) == (True, "Lax", "/", "")
    assert client.get("/read/").json() == {"a": "1"}


def test_the_cookie_can_be_partitioned_and_prefixed(client, law, settings):
    settings.SESSION_COOKIE_SECURE = True
    settings.SESSION_COOKIE_NAME = "__Host-id"
    law(PARTITIONED=True)
    response = client.get("/write/?a=1", secure=True)
    header = response.cookies["__Host-id"].OutputString()
    assert {"Secure", "Path=/", "HttpOnly", "Partitioned"} <= set(header.split("; "))
    assert "Domain" not in header
    gone = client.get("/out/", secure=True).cookies["__Host-id"].OutputString()
    assert {"Max-Age=0", "Secure", "Path=/", "Partitioned"} <= set(gone.split("; "))


def test_an_id_that_is_too_old_is_renewed_on_the_wire(client, law, clock):
    law(RENEWAL=600)
    client.get("/write/?a=1")
    first = client.cookies["sessionid"].value
    clock.advance(601)
    late = Client()
    late.cookies["sessionid"] = first
    assert client.get("/read/").json() == {"a": "1"}
    second = client.cookies["sessionid"].value
    assert second != first
    # A request that was under way neither fails nor takes the new id back.
    answered = late.get("/write/?b=2")
    assert "sessionid" not in answered.cookies
    assert client.get("/read/").json() == {"a": "1", "b": "2"}
    clock.advance(61)
    assert late.get("/read/").json() == {}
    assert client.get("/read/").json() == {"a": "1", "b": "2"}


def test_nothing_is_saved_or_renewed_when_the_view_fails(client, law, clock):
    law(RENEWAL=600)
    client.get("/write/?a=1")
    first = client.cookies["sessionid"].value
    clock.advance(601)
    assert client.get("/broken/").status_code == 500
    assert client.cookies["sessionid"].value == first
    assert client.get("/read/").json() == {"a": "1"}


def test_a_session_that_was_ended_meanwhile_interrupts_the_request(client, engine, settings):
    client.get("/write/?a=1")
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.sessions.test_middleware.ending_the_session_elsewhere"]
    late = Client()
    late.cookies = client.cookies
    assert late.get("/write/?b=2").status_code == 400
    assert not engine().exists(client.cookies["sessionid"].value)


def ending_the_session_elsewhere(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        people.engine()().delete(request.session.session_key)
        return response

    return middleware


def test_an_async_view_uses_it_too(engine, ann):
    async def visit() -> None:
        client = AsyncClient()
        await client.aforce_login(ann)
        response = await client.get("/awho/")
        assert response.content == b"for ann"
        assert (await client.get("/read/")).json()["seen"] is True

    async_to_sync(visit)()


def test_the_engine_serves_under_djangos_middleware_too(client, settings):
    settings.MIDDLEWARE = ["django.contrib.sessions.middleware.SessionMiddleware", *settings.MIDDLEWARE[1:]]
    client.get("/write/?a=1")
    assert client.get("/read/").json() == {"a": "1"}


def test_our_middleware_serves_another_engine_too(client, settings):
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.db"
    client.get("/write/?a=1")
    response = client.get("/read/")
    assert response.json() == {"a": "1"}
    assert directives(response) == {"private"}


def test_saving_at_every_request_writes_once_an_interval(client, settings, clock, statements, law):
    law(TOUCH=60)
    settings.SESSION_SAVE_EVERY_REQUEST = True
    client.get("/write/?a=1")
    sent = []
    for _ in range(4):
        clock.advance(20)
        sent.append(len(statements(lambda: client.get("/read/"))))
    assert sent == [1, 1, 2, 1]
    clock.advance(13 * 86_400)
    client.get("/read/")
    clock.advance(13 * 86_400)
    assert client.get("/read/").json() == {"a": "1"}


# ── Caches ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_response_that_used_the_session_is_private_and_varies(client):
    for path in ("/read/", "/who/", "/write/?a=1", "/read/"):
        response = client.get(path)
        assert "private" in directives(response), path
        assert "Cookie" in response["Vary"], path


@pytest.mark.parametrize("name", ["late", "streamed"])
def test_a_page_that_is_rendered_late_or_streamed_is_private_and_its_session_is_saved(client, name):
    for number in (1, 2):
        response = client.get(f"/{name}/")
        assert response.getvalue() == f"visit {number}".encode()
        assert "private" in directives(response)
        assert "Cookie" in response["Vary"]
    assert client.session["visits"] == 2


@pytest.mark.parametrize(("name", "status"), [("missing", 404), ("forbidden", 403), ("crashing", 500), ("broken", 500)])
def test_an_error_that_looked_at_the_session_is_private_too(client, name, status):
    client.raise_request_exception = False
    client.get("/write/?a=1")
    response = client.get(f"/{name}/")
    assert response.status_code == status
    assert "private" in directives(response)
    assert "Cookie" in response["Vary"]
    assert client.get("/read/").json() == {"a": "1"}


def test_a_response_that_did_not_is_left_alone(client):
    response = client.get("/plain/")
    assert directives(response) == set()
    assert "Vary" not in response


def test_a_response_that_takes_the_cookie_away_by_itself_is_private_too(client, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.sessions.test_middleware.taking_the_cookie_away"]
    assert "private" in directives(client.get("/plain/"))


def taking_the_cookie_away(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        response = get_response(request)
        response.delete_cookie("sessionid")
        return response

    return middleware


def test_a_view_cannot_make_public_what_the_session_decided(client):
    assert "public" not in directives(client.get("/public/"))
    assert "private" in directives(client.get("/public/"))


def test_a_cached_view_that_looked_at_the_user_is_shown_to_nobody_else(ann):
    """Django's ticket 15855: cache_page stores before the session middleware has said Vary."""
    signed_in = Client()
    signed_in.force_login(ann)
    assert signed_in.get("/cached/").content == b"for ann"
    assert Client().get("/cached/").content == b"for nobody"
    bob = Client()
    bob.force_login(User.objects.create_user("bob"))
    assert bob.get("/cached/").content == b"for bob"


def test_a_cached_view_that_did_not_look_at_the_session_is_still_cached(client):
    assert "max-age=60" in directives(client.get("/cached-plain/"))
    assert client.get("/cached-plain/").headers["Expires"] == client.get("/cached-plain/").headers["Expires"]


@pytest.fixture
def cached_site(settings):
    """Cache the whole site, as Django's documentation has it."""
    settings.MIDDLEWARE = [
        "django.middleware.cache.UpdateCacheMiddleware",
        *settings.MIDDLEWARE,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]


# ── One for each hole that was found in Django's sessions and page cache ────────────────────────────


@pytest.mark.usefixtures("cached_site")
def test_cve_2026_35192_no_cached_page_gives_away_a_session(settings):
    settings.SESSION_SAVE_EVERY_REQUEST = True
    first = Client()
    first.get("/write/?a=1")
    first.get("/plain/")
    stranger = Client()
    answered = stranger.get("/plain/")
    assert "sessionid" not in answered.cookies
    assert stranger.get("/read/").json() == {}


@pytest.mark.usefixtures("cached_site")
def test_cve_2026_48588_no_response_that_sets_the_cookie_is_cached():
    first, second = Client(), Client()
    first.get("/write/?a=1"), second.get("/write/?a=1")
    assert first.cookies["sessionid"].value != second.cookies["sessionid"].value


@pytest.mark.usefixtures("cached_site")
@pytest.mark.parametrize(
    ("cve", "headers"),
    [
        ("CVE-2026-6907", {"Vary": "*"}),
        ("CVE-2026-8404", {"Cache-Control": "Private"}),
        ("CVE-2026-48587", {"Vary": " Cookie , Accept "}),
        ("CVE-2026-113593", {"Vary": ""}),
    ],
)
def test_whatever_the_view_says_what_the_session_decided_is_cached_for_nobody(cve, headers, ann, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "tests.sessions.test_middleware.saying"]
    settings.TEST_HEADERS = headers
    signed_in = Client()
    signed_in.force_login(ann)
    assert signed_in.get("/who/").content == b"for ann", cve
    assert Client().get("/who/").content == b"for nobody", cve


def saying(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        from django.conf import settings

        response = get_response(request)
        for name, value in getattr(settings, "TEST_HEADERS").items():  # noqa: B009 - of this test alone
            response.headers[name] = value
        return response

    return middleware


@pytest.mark.usefixtures("cached_site")
def test_cve_2026_35193_a_request_with_credentials_is_cached_for_nobody(ann):
    signed_in = Client(headers={"authorization": "Bearer abc"})
    signed_in.force_login(ann)
    assert signed_in.get("/who/").content == b"for ann"
    assert Client(headers={"authorization": "Bearer xyz"}).get("/who/").content == b"for nobody"


@pytest.mark.parametrize("forged", ["a" * 32, "x" * 8, "a" * 64, "../../etc/passwd", "sessions.views.abc", ""])
def test_cve_2011_4136_no_id_of_the_clients_own_choice_is_used(client, engine, forged):
    client.cookies["sessionid"] = forged
    client.get("/write/?a=1")
    assert client.cookies["sessionid"].value != forged
    assert engine(forged).load() == {}


def test_cve_2014_0482_another_user_does_not_get_the_session(client, ann):
    User.objects.create_user("bob", password="secret")
    client.get("/in/", {"name": "ann"})
    client.get("/write/?private=1")
    client.get("/in/", {"name": "bob"})
    assert "private" not in client.get("/read/").json()


def test_cve_2015_3982_flushing_leaves_no_empty_session_behind(client, engine, ann):
    client.get("/in/", {"name": "ann"})
    key = client.cookies["sessionid"].value
    client.get("/out/")
    assert not engine().exists(key)
    assert count(engine) == 0
    fresh = engine()
    fresh.flush()
    assert fresh.session_key is None


def test_cve_2015_5143_reading_with_unknown_ids_makes_no_sessions(engine):
    for number in range(20):
        visitor = Client()
        visitor.cookies["sessionid"] = f"{number:032}"
        visitor.get("/read/")
        visitor.get("/who/")
    assert count(engine) == 0


def test_cve_2015_5963_signing_out_makes_no_sessions(engine):
    for number in range(20):
        visitor = Client()
        visitor.cookies["sessionid"] = f"{number:032}"
        visitor.get("/out/")
    assert count(engine) == 0


def test_fixation_an_id_from_before_signing_in_is_void_afterwards(client, engine, ann):
    client.get("/write/?a=1")
    planted = client.cookies["sessionid"].value
    client.get("/in/", {"name": "ann"})
    thief = Client()
    thief.cookies["sessionid"] = planted
    assert thief.get("/who/").content == b"for nobody"
    assert thief.get("/read/").json() == {}
