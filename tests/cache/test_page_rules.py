"""Pages, by the letter: odd Cache-Control and Vary, conditions, ages, addresses, and what browsers are told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpResponse
from django.test import Client, override_settings

from backroom.cache import apurge, invalidate, purge
from backroom.cache.pages import control
from tests.cache import site
from tests.cache.test_pages import OTHERS, SINGLE, UPDATE, fresh_site, get, text

__all__ = ["fresh_site"]
pytestmark = [pytest.mark.urls("tests.cache.site"), pytest.mark.django_db]

FETCH_TOO = "backroom.cache.middleware.FetchFromCacheMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"
LOCALE = "django.middleware.locale.LocaleMiddleware"
FAR: Any = "9" * 400


# ── Cache-Control ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("max-age=rubbish", "max-age=0"),
        ("max-age", "max-age=0"),
        ("max-age=-5", "max-age=0"),
        ("max-age=1.5", "max-age=0"),
        ('max-age="60"', "max-age=60"),
        ("MAX-AGE = 60", "max-age=60"),
        (f"max-age={FAR}", "max-age=300"),
        (f"s-maxage={FAR}, max-age=7", f"s-maxage={FAR}, max-age=7"),
        ("max-age=900", "max-age=300"),
        ("must-revalidate, max-age=7, max-age=900", "must-revalidate, max-age=7"),
        ("s-maxage=60", "s-maxage=60"),
        ("s-maxage=60, max-age=7", "s-maxage=60, max-age=7"),
        ("s-maxage=60, max-age=90", "s-maxage=60, max-age=60"),
    ],
)
def test_whatever_a_view_says_of_its_age_the_page_is_served_and_browsers_are_told_a_number(said, told):
    site.answers["headers"] = {"Cache-Control": said}
    answer = get("/cached/headers/")
    assert answer.headers["Cache-Control"] == told
    assert text("/cached/headers/") == "headers 1"


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Cache-Control": "max-age=10, max-age=900"}, 10),
        ({"Cache-Control": "s-maxage=10, s-maxage=900"}, 10),
        ({"Cache-Control": 'extension="max-age=5, s-maxage=6", max-age=10'}, 10),
        ({"Cache-Control": f"max-age={FAR}"}, control.YEAR),
        ({"Cache-Control": "max-age=99999999999"}, control.YEAR),
        ({"Cache-Control": "max-age=32000000"}, control.YEAR),
        ({"Expires": "Fri, 31 Dec 9999 23:59:59 GMT"}, control.YEAR),
        ({"Expires": "0"}, 0),
        ({"Expires": "soon"}, 0),
        ({"Cache-Control": "max-age=10", "Expires": "0"}, 10),
        ({}, 600),
    ],
)
def test_how_long_an_answer_is_good_for_by_itself(headers, seconds):
    life = control.lifetime(HttpResponse(headers=headers), control.Terms(), 1_800_000_000.0)
    assert (0 if life is None else life.fresh) == seconds


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (404, {}, 10),
        (410, {"Expires": "Fri, 31 Dec 9999 23:59:59 GMT"}, 10),
        (404, {"Cache-Control": "max-age=60"}, 60),
        (404, {"Cache-Control": "max-age=5"}, 5),
        (302, {"Cache-Control": "max-age=60"}, 60),
        (302, {"Cache-Control": "s-maxage=60"}, 60),
        (302, {}, 0),
        (500, {"Cache-Control": "max-age=60"}, 0),
    ],
)
def test_how_long_an_answer_of_another_status_is_good_for_by_itself(status, headers, seconds):
    life = control.lifetime(HttpResponse(status=status, headers=headers), control.Terms(), 1_800_000_000.0)
    assert (0 if life is None else life.fresh) == seconds


@pytest.mark.parametrize(
    ("said", "terms", "after"),
    [
        ("", {"stale": 7, "stale_if_error": 9}, (7, 9)),
        ("stale-while-revalidate=3, stale-if-error=4", {"stale": 7, "stale_if_error": 9}, (3, 4)),
        ("stale-while-revalidate=0", {"stale": 7, "stale_if_error": 9}, (0, 9)),
        ("must-revalidate, stale-if-error=4", {"stale": 7}, (0, 0)),
        ("proxy-revalidate", {"stale": 7}, (0, 0)),
        ("s-maxage=5", {"stale": 7, "stale_if_error": 9}, (0, 0)),
        ("s-maxage=5, stale-while-revalidate=3", {"stale_if_error": 9}, (3, 0)),
        ("s-maxage=5, stale-if-error=4", {"stale": 7}, (0, 4)),
    ],
)
def test_what_an_answer_says_of_staleness_counts_more_than_what_the_cache_was_told(said, terms, after):
    response = HttpResponse(headers={"Cache-Control": said})
    life = control.lifetime(response, control.Terms(timeout=60, early=0.5, **terms), 0.0)
    assert life is not None
    assert (life.stale, life.spare, life.early) == (*after, 0.5)


def test_a_quoted_text_gives_nobody_leave_to_share_an_answer_to_authorization():
    site.answers["headers"] = {"Cache-Control": 'extension="for, public, use"'}
    assert text("/cached/headers/", Authorization="Bearer alice") == "headers 1"
    assert text("/cached/headers/") == "headers 2"


@pytest.mark.parametrize("leave", ["public", "s-maxage=60", "must-revalidate"])
def test_three_directives_give_leave_to_share_an_answer_to_authorization(leave):
    site.answers["headers"] = {"Cache-Control": leave}
    assert text("/cached/headers/", Authorization="Bearer alice") == "headers 1"
    assert text("/cached/headers/", Authorization="Bearer bob") == "headers 1"


def test_whom_the_server_in_front_has_asked_for_a_password_is_as_good_as_authorized():
    alice, bob = (Client(REMOTE_USER=name).get("/cached/plain/") for name in ("alice", "bob"))
    assert [alice.content, bob.content] == [b"plain 1", b"plain 2"]
    assert alice.headers["Vary"] == "Authorization"


@pytest.mark.parametrize(
    ("headers", "sent", "told"),
    [
        ({"Cache-Control": "no-store"}, {}, "no-store"),
        ({"Cache-Control": "no-cache, max-age=5"}, {}, "no-cache, max-age=5"),
        ({"Vary": "*"}, {}, None),
        ({"Content-Range": "bytes 0-1/9"}, {}, None),
        ({}, {"Authorization": "Bearer alice"}, None),
        ({"Set-Cookie": "a=1"}, {}, "private"),
    ],
)
def test_what_other_caches_see_for_themselves_is_not_made_private(headers, sent, told):
    site.answers["headers"] = headers
    assert get("/cached/headers/", **sent).headers.get("Cache-Control") == told


def test_what_a_status_has_of_its_own_lengthens_no_answer_that_says_less(clock):
    site.answers.update(status=404, headers={"Cache-Control": "s-maxage=5"})
    get("/statuses/")
    clock.go_on(6)
    get("/statuses/")
    assert site.made["headers"] == 2
    site.answers["headers"] = {"Cache-Control": "s-maxage=900"}
    purge("/statuses/")
    get("/statuses/")
    clock.go_on(61)
    get("/statuses/")
    assert site.made["headers"] == 4


def test_an_answer_that_came_with_an_age_is_that_much_older(clock):
    site.answers["headers"] = {"Age": "250"}
    first = get("/cached/headers/")
    assert first.headers["Cache-Status"].endswith("stored; ttl=50")
    clock.go_on(10)
    assert get("/cached/headers/").headers["Age"] == "260"
    clock.go_on(41)
    assert text("/cached/headers/") == "headers 2"


def test_what_was_stale_further_in_is_not_fresh_further_out(clock):
    site.answers["headers"] = {"Age": "400"}
    with override_settings(MIDDLEWARE=[SINGLE, *OTHERS]):
        assert text("/headers/") == "headers 1"
        assert text("/headers/") == "headers 2"


# ── Vary ────────────────────────────────────────────────────────────────────────────────────────


def test_several_headers_in_any_spelling_each_make_a_page():
    site.answers["headers"] = {"Vary": " x-KIND ,X-Other,, "}
    kinds = [("a", "x"), ("a", "y"), ("b", "x"), ("ab", ""), ("a", "b")]
    pages = [text("/cached/headers/", X_Kind=kind, X_Other=other) for kind, other in kinds]
    assert pages == [f"headers {number}" for number in range(1, 6)]
    assert [text("/cached/headers/", X_Kind=kind, X_Other=other) for kind, other in kinds] == pages


def test_a_header_that_servers_hand_over_under_another_name_counts_too():
    site.answers["headers"] = {"Vary": "Content-Type"}
    assert text("/cached/headers/", Content_Type="text/plain") == "headers 1"
    assert text("/cached/headers/", Content_Type="application/json") == "headers 2"
    assert text("/cached/headers/", Content_Type="text/plain") == "headers 1"


@pytest.mark.parametrize("odd", ["br, x-gzip", "br, gzip;q=0", "br, gzip; q=0.000"])
def test_nobody_is_sent_a_coding_that_somebody_else_spelled_oddly(odd):
    with override_settings(MIDDLEWARE=[SINGLE, GZIP, *OTHERS]):
        get("/long/", Accept_Encoding=odd)
        assert not get("/long/", Accept_Encoding="br").has_header("Content-Encoding")


def test_a_page_may_vary_by_a_number_of_things_and_by_no_more():
    names = [f"X-{number}" for number in range(25)]
    for most, made, ending in ((24, 1, "stored; ttl=300"), (25, 3, "detail=vary")):
        site.answers["headers"] = {"Vary": ", ".join(names[:most])}
        purge("/cached/headers/")
        caches["default"].clear()
        assert get("/cached/headers/").headers["Cache-Status"].endswith(ending)
        get("/cached/headers/")
        assert site.made["headers"] == made


def test_a_cookie_that_is_named_is_told_from_those_that_are_left_out_by_their_names():
    site.answers["headers"] = {"Vary": "Cookie"}
    pages = [
        text("/cached/headers/", Cookie=cookie) for cookie in ("a=1", "a=1; _gid=7", "a=1; _gid2=7", "a=1; _fbp=x")
    ]
    assert pages == ["headers 1", "headers 1", "headers 2", "headers 1"]


# ── Conditions ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "condition",
    [
        {"If_Match": '"another"'},
        {"If_Unmodified_Since": "Wed, 01 Jan 2020 00:00:00 GMT"},
        {"If_Match": '"another"', "If_None_Match": "*"},
    ],
)
def test_conditions_that_are_no_caches_affair_are_left_alone(condition):
    site.answers["headers"] = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    assert get("/cached/headers/", **condition).status_code == 200
    answer = get("/cached/headers/", **condition)
    assert (answer.status_code, answer.content) == (200, b"headers 1")


@pytest.mark.parametrize(
    ("etag", "asked", "status"),
    [('W/"1"', '"1"', 304), ('"1"', 'W/"1"', 304), ('"1"', '"0", "1"', 304), ('"1"', "*", 304), ('"1"', '"2"', 200)],
)
def test_etags_are_compared_weakly(etag, asked, status):
    site.answers["headers"] = {"ETag": etag}
    get("/cached/headers/")
    for method in ("get", "head"):
        assert getattr(Client(), method)("/cached/headers/", headers={"If-None-Match": asked}).status_code == status


def test_an_etag_counts_more_than_a_date():
    site.answers["headers"] = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    get("/cached/headers/")
    date = "Wed, 01 Jan 2025 00:00:00 GMT"
    assert get("/cached/headers/", If_None_Match='"other"', If_Modified_Since=date).status_code == 200
    assert get("/cached/headers/", If_Modified_Since="Wed, 01 Jan 2020 00:00:00 GMT").status_code == 200
    assert get("/cached/headers/", If_Modified_Since="rubbish").status_code == 200


def test_an_error_is_never_answered_304():
    site.answers.update(status=404, headers={"ETag": '"1"'})
    get("/cached/headers/")
    assert get("/cached/headers/", If_None_Match='"1"').status_code == 404
    assert site.made["headers"] == 1


def test_a_304_has_the_headers_that_middlewares_further_out_wrote_on_the_page(clock):
    """A browser takes the headers of a 304 for those of the page that it has (RFC 9111 §4.3.4)."""
    with override_settings(SECURE_CSP={"default-src": ["'none'"]}):
        page = get("/cached/embedded/")
        known = page.headers["ETag"]
        site.made.clear()
        found = get("/cached/embedded/", If_None_Match=known)
        purge("/cached/embedded/")
        made = get("/cached/embedded/", If_None_Match=known)
    for answer in (found, made):
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["Content-Security-Policy"] == page.headers["Content-Security-Policy"]
        assert "X-Frame-Options" not in answer.headers
        assert answer.headers["Cache-Status"].startswith("Backroom; ")
    assert site.made["embedded"] == 1


def test_a_stale_page_is_answered_304_too(clock):
    with override_settings(BACKROOM={"CACHE_REFRESH": "tasks"}, TASKS=ON_DATABASE, CACHES=SHARED):
        caches["default"].clear()
        etag = get("/stale/").headers["ETag"]
        clock.go_on(301)
        answer = get("/stale/", If_None_Match=etag)
    assert (answer.status_code, answer.headers["Age"]) == (304, "301")


ON_DATABASE = {"default": {"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"}}
SHARED = {"default": {"BACKEND": "tests.cache.test_refreshing.Shared"}}


@pytest.mark.parametrize(
    "asked", ["no-cache", "no-store", "max-age=0", "only-if-cached", "min-fresh=900", "max-stale=0"]
)
def test_a_visitor_cannot_have_a_page_made_anew_by_asking(asked):
    get("/cached/plain/")
    assert text("/cached/plain/", Cache_Control=asked, Pragma="no-cache") == "plain 1"


# ── Addresses ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address", ["/tagged/caf%C3%A9%20%25/", "/tagged/café %/", "http://testserver/tagged/caf%C3%A9%20%25/"]
)
def test_a_path_is_purged_as_reverse_returns_it_and_as_requests_have_it(address):
    assert text("/tagged/caf%C3%A9%20%25/") == "tagged café % 1"
    purge(address)
    assert text("/tagged/caf%C3%A9%20%25/") == "tagged café % 2"


def test_an_address_within_an_address_is_purged():
    assert text("/go/http://example.org/") == "plain 1"
    purge("/go/http://example.org/")
    assert text("/go/http://example.org/") == "plain 2"


def test_a_page_for_every_parameter_is_purged_with_them():
    address = "/every-parameter/?utm_source=a"
    assert text(address) == "from a 1"
    purge(address)
    assert text(address) == "from a 2"


@pytest.mark.parametrize("say", [purge, lambda *args, **named: asyncio.run(apurge(*args, **named))])
def test_a_cache_is_purged_alone_when_it_is_named(say):
    assert text("/cached/plain/") == "plain 1"
    say("/cached/plain/", alias="other")
    assert text("/cached/plain/") == "plain 1"
    say("/cached/plain/?page=2", alias="default")
    assert text("/cached/plain/") == "plain 1"
    say("/cached/plain/", alias="default")
    assert text("/cached/plain/") == "plain 2"


def test_tags_that_come_from_an_iterator_are_those_of_every_page():
    for number in (1, 2, 3):
        assert text("/listed/") == f"plain {number}"
        invalidate("listed")


def test_parameters_are_told_apart_however_they_are_encoded():
    assert text("/cached/query/?page=%41&x=") == "page A 1"
    assert text("/cached/query/?x&page=A") == "page A 1"
    assert text("/cached/query/?page=A") == "page A 2"
    assert text("/cached/query/?page=a+b") == text("/cached/query/?page=a%20b") == "page a b 3"
    assert text("/cached/query/?page=a%2Bb") == "page a+b 4"
    assert text("/cached/query/?page=1%26x=2") == "page 1&x=2 5"


@pytest.mark.parametrize(
    "environ", [{"HTTP_HOST": "testserver:8000"}, {"HTTP_HOST": "localhost"}, {"SCRIPT_NAME": "/a"}]
)
def test_whatever_is_in_an_absolute_address_makes_a_page_of_its_own(environ):
    assert text("/cached/plain/") == "plain 1"
    assert Client(**environ).get("/cached/plain/").content == b"plain 2"


def test_languages_have_pages_of_their_own_without_a_middleware_too():
    from django.utils import translation

    with override_settings(USE_TZ=False, USE_I18N=True):
        with translation.override("de"):
            assert text("/cached/plain/") == "plain 1"
        with translation.override("fr"):
            assert text("/cached/plain/") == "plain 2"


def test_time_zones_have_pages_of_their_own():
    from django.utils import timezone

    with override_settings(USE_TZ=True, USE_I18N=False):
        with timezone.override("Europe/Berlin"):
            assert text("/cached/plain/") == "plain 1"
        with timezone.override("Asia/Tokyo"):
            assert text("/cached/plain/") == "plain 2"


@override_settings(LANGUAGES=[("en", "English"), ("de", "German")])
def test_a_page_that_names_accept_language_goes_by_the_language_that_was_found():
    site.answers["headers"] = {"Vary": "Accept-Language"}
    with override_settings(MIDDLEWARE=[UPDATE, *OTHERS, LOCALE, FETCH_TOO]):
        assert text("/headers/", Accept_Language="de, en;q=0.5") == "headers 1"
        assert text("/headers/", Accept_Language="de") == "headers 1"
    with override_settings(MIDDLEWARE=OTHERS):
        assert text("/cached/headers/", Accept_Language="de, en;q=0.5") == "headers 2"
        assert text("/cached/headers/", Accept_Language="de") == "headers 3"
