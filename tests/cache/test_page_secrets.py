"""Pages: what belongs to one visitor is noticed however it is read, and nothing else is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.sessions.backends.db import SessionStore
from django.core.cache import caches
from django.http import QueryDict
from django.middleware.csrf import get_token
from django.test import AsyncClient, Client, RequestFactory, override_settings

from backroom.cache.pages.addresses import parted, watch_query
from backroom.cache.pages.noticing import ALL, CSRF_USED, WATCHERS, Reads
from tests.cache import site
from tests.cache.test_pages import FETCH, OTHERS, SINGLE, UPDATE, fresh_site, get, people, prefix, text

__all__ = ["fresh_site", "people", "prefix"]
pytestmark = [pytest.mark.urls("tests.cache.site"), pytest.mark.django_db]

PAINT = "tests.cache.middlewares.paint"

type Act = Callable[[Any], Any]

SESSION_WAYS: dict[str, Act] = {
    "by the cookie": lambda request: "sessionid" in request.COOKIES,
    "by is_empty()": lambda request: not request.session.is_empty(),
    "by its truth": lambda request: bool(request.session),
}


# ── Sessions ────────────────────────────────────────────────────────────────────────────────────


def test_a_page_made_with_the_key_of_a_session_reaches_nobody_else(prefix, people):
    pages = [get(f"{prefix}session_key/", visitor) for visitor in (*people, *people)]
    assert [page.content.decode().rpartition(" ")[2] for page in pages] == list("123456")
    assert all("private" in page.headers["Cache-Control"] for page in pages)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("is_pair", [True, False])
def test_a_page_that_a_middleware_made_with_the_key_of_a_session_reaches_nobody_else(people, place, is_pair):
    order: list[str] = [*OTHERS, "tests.cache.middlewares.fill"]
    order.insert(place, UPDATE if is_pair else SINGLE)
    with override_settings(MIDDLEWARE=[*order, *([FETCH] if is_pair else [])]):
        pages = [get("/basket/", visitor) for visitor in (*people, *people)]
    assert [page.content.decode().rpartition(" ")[2] for page in pages] == list("123456")
    assert all("private" in page.headers["Cache-Control"] for page in pages)


def test_who_has_had_a_token_before_has_it_after_and_it_is_no_concern_of_the_page():
    request = RequestFactory().get("/")
    get_token(request)
    reads = Reads()
    reads.begin(request, trusts_middleware=False)
    assert CSRF_USED not in request.META
    reads.end(request)
    assert (reads.reason, request.META[CSRF_USED]) == (None, True)
    assert request.__dict__[WATCHERS] == []


def test_who_has_read_the_session_before_has_read_it_after():
    for trusts, reason in ((True, None), (False, "session")):
        request = RequestFactory().get("/")
        request.session = SessionStore()
        assert request.session.get("basket") is None
        reads = Reads()
        reads.begin(request, trusts_middleware=trusts)
        assert request.session.accessed is not trusts
        reads.end(request)
        assert (reads.reason, request.session.accessed) == (reason, True)


def test_a_request_that_is_watched_is_as_it_was():
    request = RequestFactory().get("/")
    kind = type(request)
    Reads().begin(request, trusts_middleware=False)
    Reads().begin(request, trusts_middleware=False)
    assert isinstance(request, kind)
    assert type(request).__bases__ == (kind,)
    assert type(request).__qualname__ == kind.__qualname__
    assert not hasattr(request, "session")
    request.session = brought = SessionStore("k" * 32)
    assert request.session is brought
    Reads().begin(request, trusts_middleware=False)
    assert type(brought).__bases__ == (SessionStore,)
    assert type(brought).__qualname__ == "SessionStore"
    del request.session
    assert not hasattr(request, "session")


@pytest.mark.parametrize("way", SESSION_WAYS)
def test_a_view_that_tells_new_visitors_from_others_greets_each_as_is_fit(people, way):
    site.answers["way"] = SESSION_WAYS[way]
    alice, _, stranger = people
    words = [text("/cached/visited/", visitor).split()[0] for visitor in (alice, stranger, alice, stranger)]
    assert words == ["again", "welcome", "again", "welcome"]


def test_who_has_a_session_that_no_view_looks_at_gets_the_page_of_everybody(prefix, people):
    assert [text(f"{prefix}plain/", visitor) for visitor in (*people, *people)] == ["plain 1"] * 6


@pytest.mark.parametrize("engine", ["django.contrib.sessions.backends.db", "backroom.sessions.backends.database"])
def test_a_session_that_was_watched_is_saved_and_read_as_before(engine):
    with override_settings(SESSION_ENGINE=engine):
        client = Client()
        for number in (1, 2):
            assert text("/cached/keeping/", client) == f"kept {number}"
        session: Any = client.session
        assert session["of"] == client.cookies["sessionid"].value


def test_what_others_say_of_storing_hides_no_better_reason():
    with override_settings(MIDDLEWARE=[SINGLE, *OTHERS]):
        assert get("/told/").headers["Cache-Status"].endswith("detail=session")


def test_a_page_that_was_not_found_greets_nobody_by_anothers_name():
    with override_settings(MIDDLEWARE=["tests.cache.middlewares.know", SINGLE]):
        pages = [text("/nowhere/", X_Key=name) for name in ("alice", "bob")]
        assert pages == ["nothing here alice", "nothing here bob"]


# ── Cookies ─────────────────────────────────────────────────────────────────────────────────────

ONE_COOKIE: dict[str, Act] = {
    "[]": lambda cookies: cookies["theme"],
    "get": lambda cookies: cookies.get("theme"),
    "in": lambda cookies: "theme" in cookies,
    "pop": lambda cookies: cookies.pop("theme"),
    "pop with a default": lambda cookies: cookies.pop("theme", None),
}
ALL_COOKIES: dict[str, Act] = {
    "dict": dict,
    "**": lambda cookies: {**cookies},
    "|": lambda cookies: cookies | {},
    "| from the right": lambda cookies: {} | cookies,
    "update": lambda cookies: {}.update(cookies),  # noqa: PLW0108 - a new one each time
    "copy": lambda cookies: cookies.copy(),
    "keys": lambda cookies: cookies.keys(),
    "values": lambda cookies: cookies.values(),
    "items": lambda cookies: cookies.items(),
    "iter": lambda cookies: next(iter(cookies)),
    "reversed": lambda cookies: next(reversed(cookies)),
    "len": len,
    "bool": bool,
    "str": str,
    "==": lambda cookies: cookies == {"theme": "dark"},
    "!=": lambda cookies: cookies != {"theme": "dark"},
    "setdefault": lambda cookies: cookies.setdefault("theme", "light"),
    "popitem": lambda cookies: cookies.popitem(),
    "json": json.dumps,
}


def watched(**headers: str) -> tuple[Any, Reads]:
    request = RequestFactory().get("/", headers=headers)
    reads = Reads()
    reads.begin(request, trusts_middleware=False)
    return request, reads


@pytest.mark.parametrize("way", ONE_COOKIE)
def test_a_cookie_is_noticed_however_it_is_read(way):
    request, reads = watched(Cookie="theme=dark")
    assert ONE_COOKIE[way](request.COOKIES) in {"dark", True}
    assert reads.cookies == {"theme"}


@pytest.mark.parametrize("way", ALL_COOKIES)
def test_all_cookies_are_noticed_however_they_are_read(way):
    request, reads = watched(Cookie="theme=dark")
    plain = {"theme": "dark"}
    found, expected = ALL_COOKIES[way](request.COOKIES), ALL_COOKIES[way](plain)
    assert list(found) == list(expected) if way in {"keys", "values", "items"} else found == expected
    assert ALL in reads.cookies


def test_a_signed_cookie_is_noticed():
    request, reads = watched()
    assert request.get_signed_cookie("theme", default="light") == "light"
    assert reads.cookies == {"theme"}


@pytest.mark.parametrize("order", [[SINGLE, PAINT], [UPDATE, PAINT, FETCH]])
def test_a_page_varies_by_a_cookie_that_a_middleware_further_in_read_for_it(order):
    async def visited():
        pages = []
        for theme in themes:
            client = AsyncClient()
            client.cookies.load({"theme": theme})
            pages.append((await client.get("/painted/")).content)
        return pages

    themes = ("dark", "light", "dark")
    with override_settings(MIDDLEWARE=order):
        pages = [text("/painted/", Cookie=f"theme={theme}") for theme in themes]
        assert pages == ["painted dark 1", "painted light 2", "painted dark 1"]
        caches["default"].clear()
        assert async_to_sync(visited)() == [b"painted dark 3", b"painted light 4", b"painted dark 3"]


# ── Parameters ──────────────────────────────────────────────────────────────────────────────────

SEEN: dict[str, Act] = {
    "META[]": lambda request: request.META["QUERY_STRING"],
    "META.get": lambda request: request.META.get("QUERY_STRING"),
    "dict(META)": lambda request: dict(request.META),
    "META of Gunicorn": lambda request: request.META.get("RAW_URI"),
    "META of uWSGI": lambda request: request.META.get("REQUEST_URI"),
    "META.pop": lambda request: request.META.pop("QUERY_STRING"),
    "META.setdefault": lambda request: request.META.setdefault("QUERY_STRING", ""),
    "META ==": lambda request: request.META == {},
    "META !=": lambda request: request.META != {},
    "str(META)": lambda request: str(request.META),
    "META.items": lambda request: request.META.items(),
    "META.values": lambda request: request.META.values(),
    "META.copy": lambda request: request.META.copy(),
    "GET[]": lambda request: request.GET["utm_source"],
    "GET.get": lambda request: request.GET.get("utm_source"),
    "GET.getlist": lambda request: request.GET.getlist("utm_source"),
    "in GET": lambda request: "utm_source" in request.GET,
    "iter(GET)": lambda request: next(iter(request.GET)),
    "len(GET)": lambda request: len(request.GET),
    "reversed(GET)": lambda request: list(reversed(request.GET)),
    "GET ==": lambda request: request.GET == {},
    "GET !=": lambda request: request.GET != {},
    "str(GET)": lambda request: str(request.GET),
    "GET.keys": lambda request: request.GET.keys(),
    "GET.values": lambda request: list(request.GET.values()),
    "GET.lists": lambda request: list(request.GET.lists()),
    "GET.items": lambda request: list(request.GET.items()),
    "GET.dict": lambda request: request.GET.dict(),
    "GET.copy": lambda request: request.GET.copy(),
    "GET.urlencode": lambda request: request.GET.urlencode(),
    "get_full_path": lambda request: request.get_full_path(),
    "get_full_path_info": lambda request: request.get_full_path_info(),
    "build_absolute_uri": lambda request: request.build_absolute_uri(),
}
UNSEEN: dict[str, Act] = {
    "META[]": lambda request: request.META["REMOTE_ADDR"],
    "META.get": lambda request: request.META.get("REMOTE_ADDR"),
    "META.pop": lambda request: request.META.pop("REMOTE_ADDR"),
    "META.setdefault": lambda request: request.META.setdefault("REMOTE_ADDR", ""),
    "in META": lambda request: "REMOTE_ADDR" in request.META,
    "GET[]": lambda request: request.GET["page"],
    "GET.get": lambda request: request.GET.get("page"),
    "GET.getlist": lambda request: request.GET.getlist("page"),
    "in GET": lambda request: "page" in request.GET,
    "an address that is given": lambda request: request.build_absolute_uri("/elsewhere/"),
    "an address that is named": lambda request: request.build_absolute_uri(location="/elsewhere/"),
    "path": lambda request: request.path,
}


def with_parameters() -> tuple[Any, list[bool]]:
    request = RequestFactory().get("/?utm_source=evil&page=2")
    noticed: list[bool] = []
    watch_query(request, [("utm_source", "evil")], lambda: noticed.append(True))
    return request, noticed


@pytest.mark.parametrize("way", SEEN)
def test_a_parameter_that_is_in_no_key_is_noticed_however_it_is_read(way):
    request, noticed = with_parameters()
    SEEN[way](request)
    assert noticed


@pytest.mark.parametrize("way", UNSEEN)
def test_nothing_else_is_taken_for_it(way):
    request, noticed = with_parameters()
    assert UNSEEN[way](request) == UNSEEN[way](RequestFactory().get("/?utm_source=evil&page=2"))
    assert not noticed


def test_a_copy_of_the_parameters_is_a_plain_one_that_can_be_changed():
    request, _ = with_parameters()
    copied = request.GET.copy()
    copied["page"] = "3"
    assert type(copied) is QueryDict
    assert copied.urlencode() == "utm_source=evil&page=3"
    assert request.GET["page"] == "2"


def test_a_query_has_one_order_and_no_case_in_the_names_that_are_left_out():
    assert parted("b=2&UTM_Source=x&a=1&b=1&c", ("utm_*",)) == ("a=1&b=2&b=1&c=", [("UTM_Source", "x")])
    assert parted("utm=1&xutm_a=1", ("utm_*",)) == ("utm=1&xutm_a=1", [])
    assert parted("a=1", ()) == ("a=1", [])
