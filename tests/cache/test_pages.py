"""Pages: what is stored and for whom, by which rules, and what the headers tell."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.cache import caches
from django.test import AsyncClient, Client, override_settings

from backroom.cache import invalidate, purge
from tests.cache import site

pytestmark = [pytest.mark.urls("tests.cache.site"), pytest.mark.django_db]

SINGLE = "backroom.cache.middleware.CacheMiddleware"
UPDATE = "backroom.cache.middleware.UpdateCacheMiddleware"
FETCH = "backroom.cache.middleware.FetchFromCacheMiddleware"
OTHERS = [
    "django.middleware.csp.ContentSecurityPolicyMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
ORDERS = {
    "decorator": OTHERS,
    **{f"single-{place}": [*OTHERS[:place], SINGLE, *OTHERS[place:]] for place in range(len(OTHERS) + 1)},
    **{f"pair-{place}": [*OTHERS[:place], UPDATE, *OTHERS[place:], FETCH] for place in (0, 2, 5)},
    "pair-inner": [*OTHERS[:5], UPDATE, FETCH, *OTHERS[5:]],
    "both": [SINGLE, *OTHERS],
}


@pytest.fixture(autouse=True)
def fresh_site():
    site.made.clear()
    site.answers.clear()
    with override_settings(MIDDLEWARE=OTHERS, CACHE_MIDDLEWARE_SECONDS=300, BACKROOM={"CACHE_REFRESH": "requests"}):
        yield


@pytest.fixture(params=ORDERS)
def prefix(request):
    """Have the cache in every place of MIDDLEWARE in turn; the value is where the views are."""
    with override_settings(MIDDLEWARE=ORDERS[request.param]):
        yield "/cached/" if request.param in {"decorator", "both"} else "/"


@pytest.fixture
def people():
    """Give browsers in which alice and bob are logged in, and one of a stranger."""
    browsers = []
    for name in ("alice", "bob"):
        browser = Client()
        browser.force_login(User.objects.create_user(name))
        browsers.append(browser)
    return *browsers, Client()


def get(address: str, client: Client | None = None, **headers: str) -> Any:
    return (client or Client()).get(address, headers={name.replace("_", "-"): value for name, value in headers.items()})


def text(address: str, client: Client | None = None, **headers: str) -> str:
    return str(get(address, client, **headers).content, "utf-8")


# ── Found again ─────────────────────────────────────────────────────────────────────────────────


def test_a_page_is_made_once(prefix):
    assert [text(f"{prefix}plain/") for _ in range(3)] == ["plain 1"] * 3


def test_a_page_is_made_once_on_any_cache(any_cache):
    assert [text("/cached/plain/") for _ in range(3)] == ["plain 1"] * 3
    purge("/cached/plain/")
    assert text("/cached/plain/") == "plain 2"


def test_two_cached_views_that_answer_one_request_have_pages_of_their_own(prefix):
    parts = "head 1 foot 1left 1 right 1 third 1 fourth 1 fifth 1 sixth 1 "
    for _ in range(2):
        assert text(f"{prefix}made_of_parts/?utm_source=a") == parts
    purge("/made_of_parts/", "/cached/made_of_parts/")
    assert text(f"{prefix}made_of_parts/").startswith("head 2 foot 2left 2 ")


def test_a_page_of_a_template_is_made_once(prefix):
    pages = [get(f"{prefix}template/") for _ in range(3)]
    assert [page.content for page in pages] == [b"template 1"] * 3
    assert pages[2].headers["X-Frame"] == "kept"


def test_a_hit_has_the_headers_of_the_first_answer_and_its_age(clock):
    first = get("/cached/plain/")
    clock.go_on(7)
    second = get("/cached/plain/")
    assert second.headers["Age"] == "7"
    assert "Age" not in first.headers
    for name in ("Content-Type", "Expires", "Cache-Control", "ETag"):
        assert first.headers[name] == second.headers[name]
    assert first.headers["Cache-Status"] == "Backroom; fwd=uri-miss; stored; ttl=300"
    assert second.headers["Cache-Status"] == "Backroom; hit; ttl=293"


def test_a_page_expires(clock):
    assert text("/cached/plain/") == "plain 1"
    clock.go_on(301)
    assert text("/cached/plain/") == "plain 2"


def test_head_is_answered_from_the_page_that_get_stored():
    get("/cached/plain/")
    answer = Client().head("/cached/plain/")
    assert (answer.status_code, site.made["plain"]) == (200, 1)
    assert answer.headers["Cache-Status"].startswith("Backroom; hit")


def test_what_head_stored_answers_no_get():
    Client().head("/cached/plain/")
    assert text("/cached/plain/") == "plain 2"


def test_browsers_that_have_a_page_are_answered_304(clock):
    etag = get("/cached/plain/").headers["ETag"]
    clock.go_on(5)
    answer = get("/cached/plain/", If_None_Match=etag)
    assert (answer.status_code, answer.content, answer.headers["Age"]) == (304, b"", "5")
    assert answer.headers["Cache-Status"].startswith("Backroom; hit")
    assert get("/cached/plain/", If_None_Match='"other"').status_code == 200
    assert site.made["plain"] == 1


def test_a_page_with_a_date_is_answered_304_by_it():
    site.answers["headers"] = {"Last-Modified": "Wed, 01 Jan 2025 00:00:00 GMT"}
    get("/cached/headers/")
    assert get("/cached/headers/", If_Modified_Since="Wed, 01 Jan 2025 00:00:00 GMT").status_code == 304


def test_a_page_made_anew_that_the_browser_has_all_the_same_is_answered_304(clock):
    site.answers["headers"] = {"ETag": '"same"'}
    get("/cached/headers/")
    clock.go_on(301)
    assert get("/cached/headers/", If_None_Match='"same"').status_code == 304
    assert site.made["headers"] == 2


def test_a_range_is_answered_with_the_whole_page_and_a_part_is_never_stored():
    site.answers.update(status=206, headers={"Content-Range": "bytes 0-1/9"})
    get("/cached/headers/", Range="bytes=0-1")
    site.answers.clear()
    assert text("/cached/headers/") == "headers 2"
    assert get("/cached/headers/", Range="bytes=0-1").content == b"headers 2"


def test_what_decorators_told_middlewares_further_out_is_kept():
    with override_settings(SECURE_CSP={"default-src": ["'none'"]}):
        first, second = get("/cached/embedded/"), get("/cached/embedded/")
    assert first.content == second.content
    assert second.headers["Content-Security-Policy"] == first.headers["Content-Security-Policy"]
    assert "example.org" in second.headers["Content-Security-Policy"]
    assert "X-Frame-Options" not in second.headers


def test_hosts_and_schemes_have_pages_of_their_own():
    assert text("/cached/plain/") == "plain 1"
    assert Client().get("/cached/plain/", SERVER_NAME="localhost").content == b"plain 2"
    assert Client().get("/cached/plain/", secure=True).content == b"plain 3"


# ── For whom ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("view", ["user", "auser", "session", "session_cookie"])
def test_alices_page_never_reaches_bob(prefix, people, view):
    names = ("alice", "bob", "AnonymousUser")
    for number, (visitor, name) in enumerate([*zip(people, names, strict=True)] * 2, 1):
        page = get(f"{prefix}{view}/", visitor)
        assert page.content.decode().endswith(f" {number}")
        assert name in page.content.decode() or view in {"session", "session_cookie"}
        assert "private" in page.headers["Cache-Control"]


def test_a_page_of_somebody_whom_the_view_knows_by_itself_reaches_nobody_else(prefix):
    pages = [get(f"{prefix}keyed/", X_Key=name) for name in ("alice", "bob", "alice")]
    assert [page.content.decode() for page in pages] == ["hello alice 1", "hello bob 2", "hello alice 3"]
    assert all("private" in page.headers["Cache-Control"] for page in pages)


@pytest.mark.parametrize("view", ["csrf", "nonce", "said"])
def test_a_token_a_nonce_or_a_message_is_never_replayed(prefix, view):
    with override_settings(SECURE_CSP={"script-src": ["'self'", "<CSP_NONCE_SENTINEL>"]}):
        pages = [get(f"{prefix}{view}/") for _ in range(3)]
    assert [page.content.decode().rpartition(" ")[2] for page in pages] == ["1", "2", "3"]
    assert all("private" in page.headers["Cache-Control"] for page in pages)


def test_a_page_says_why_it_was_not_stored():
    reasons = {view: get(f"/cached/{view}/").headers["Cache-Status"] for view in ("session", "csrf", "nonce", "stream")}
    assert reasons["session"] == "Backroom; fwd=uri-miss; detail=session"
    assert reasons["csrf"].endswith("detail=csrf-token")
    assert reasons["nonce"].endswith("detail=csp-nonce")
    assert reasons["stream"].endswith("detail=streaming")


def test_what_a_middleware_read_of_the_session_counts_unless_it_is_said_not_to():
    greeting = "tests.cache.middlewares.greet"
    with override_settings(MIDDLEWARE=[*OTHERS, greeting]):
        assert [text("/cached/plain/") for _ in range(2)] == ["plain 1", "plain 2"]
        assert [text("/trusting/") for _ in range(2)] == ["plain 3", "plain 3"]


def test_a_page_for_each_user_is_kept_when_told_so(people):
    alice, bob, stranger = people
    pages = [text("/per-user/", visitor) for visitor in (alice, bob, alice, bob)]
    assert pages == ["hello alice 1", "hello bob 2", "hello alice 1", "hello bob 2"]
    assert [text("/per-user/", stranger) for _ in range(2)] == ["hello AnonymousUser 3"] * 2
    page = get("/per-user/", alice)
    assert "private" in page.headers["Cache-Control"]
    assert "Cookie" in page.headers["Vary"]
    invalidate(f"user:{User.objects.get(username='alice').pk}")
    assert text("/per-user/", alice) == "hello alice 4"
    assert text("/per-user/", bob) == "hello bob 2"


def test_a_page_for_each_user_does_not_keep_what_is_in_a_session(people):
    alice, _, _ = people
    assert [text("/per-user/session/", alice) for _ in range(2)] == ["cart None 1", "cart None 2"]


def test_who_logs_out_is_a_stranger_again(people):
    alice, _, _ = people
    assert text("/per-user/", alice) == "hello alice 1"
    alice.logout()
    assert text("/per-user/", alice) == "hello AnonymousUser 2"


# ── Vary ────────────────────────────────────────────────────────────────────────────────────────


def test_a_page_that_read_a_cookie_varies_by_it_and_by_no_other(prefix):
    def seen(**cookies):
        client = Client()
        client.cookies.load(cookies)
        return text(f"{prefix}theme/", client)

    assert seen(theme="dark") == "theme dark 1"
    assert seen(theme="dark", _ga="1") == "theme dark 1"
    assert seen(theme="dark", _ga="2", other="x") == "theme dark 1"
    assert seen(theme="light") == "theme light 2"
    assert seen() == "theme None 3"
    assert seen(theme="") == "theme  4"
    assert "Cookie" in get(f"{prefix}theme/").headers["Vary"]


@pytest.mark.parametrize("view", ["declared", "adeclared"])
def test_a_page_may_name_its_cookies(view):
    first = get(f"/cached/{view}/", Cookie="theme=dark; _ga=1").content
    assert b"theme=dark" in first
    assert get(f"/cached/{view}/", Cookie="theme=dark; _ga=2").content == first
    assert get(f"/cached/{view}/", Cookie="theme=light").content != first


def test_a_page_that_varies_by_cookies_and_does_not_say_which_varies_by_all_but_those_of_scripts():
    assert get("/cached/whole_cookie/", Cookie="a=1; _ga=1").content == b"cookie 1"
    assert get("/cached/whole_cookie/", Cookie="a=1; _ga=2").content == b"cookie 1"
    assert get("/cached/whole_cookie/", Cookie="a=2").content == b"cookie 2"
    assert get("/cached/whole_cookie/", Cookie="a=1; b=1").content == b"cookie 3"


def test_a_page_varies_by_the_headers_that_it_names(prefix):
    assert text(f"{prefix}varying/", X_Kind="a") == "kind 'a' 1"
    assert text(f"{prefix}varying/", X_Kind="b") == "kind 'b' 2"
    assert text(f"{prefix}varying/", X_Kind="a") == "kind 'a' 1"
    assert get(f"{prefix}varying/", X_Kind="c").headers["Cache-Status"].startswith("Backroom; fwd=vary-miss; stored")


def test_how_a_browser_spells_its_codings_makes_no_page_of_its_own():
    site.answers["headers"] = {"Vary": "Accept-Encoding"}
    assert text("/cached/headers/", Accept_Encoding="gzip, br") == "headers 1"
    assert text("/cached/headers/", Accept_Encoding="br;q=0.9,GZIP;q=1.0") == "headers 1"
    assert text("/cached/headers/", Accept_Encoding="gzip, br;q=0") == "headers 2"
    assert text("/cached/headers/", Accept_Encoding="gzip") == "headers 3"


def test_an_answer_that_comes_to_vary_hides_none_of_the_others():
    assert text("/cached/headers/", X_Kind="a") == "headers 1"
    purge("/cached/headers/")
    site.answers["headers"] = {"Vary": "X-Kind"}
    assert text("/cached/headers/", X_Kind="a") == "headers 2"
    assert text("/cached/headers/", X_Kind="b") == "headers 3"
    site.answers["headers"] = {"Vary": "X-Other"}
    assert text("/cached/headers/", X_Kind="c") == "headers 4"
    assert text("/cached/headers/", X_Kind="c", X_Other="z") == "headers 5"


@override_settings(LANGUAGES=[("en", "English"), ("de", "German")])
def test_languages_have_pages_of_their_own_and_their_spellings_have_not():
    locale = "django.middleware.locale.LocaleMiddleware"
    for order in ([UPDATE, *OTHERS, locale, FETCH], [*OTHERS, locale, SINGLE]):
        caches["default"].clear()
        site.made.clear()
        with override_settings(MIDDLEWARE=order):
            assert text("/language/", Accept_Language="de-DE,de;q=0.9") == "de 1"
            assert text("/language/", Accept_Language="de") == "de 1"
            assert text("/language/", Accept_Language="en-GB") == "en 2"
    with override_settings(MIDDLEWARE=[SINGLE, *OTHERS, locale]):
        caches["default"].clear()
        site.made.clear()
        # Not as often found, and right all the same.
        assert text("/language/", Accept_Language="de") == "de 1"
        assert text("/language/", Accept_Language="en") == "en 2"
        assert text("/language/", Accept_Language="de") == "de 1"
        client = Client()
        client.cookies.load({"django_language": "en"})
        assert text("/language/", client, Accept_Language="de") == "en 3"


# ── What may be stored ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("headers", "is_stored"),
    [
        ({}, True),
        *(({"Cache-Control": value}, False) for value in ("private", "No-Store", "no-cache", 'private="Set-Cookie"')),
        ({"Cache-Control": "max-age=0"}, True),
        ({"Cache-Control": "s-maxage=0"}, False),
        ({"Cache-Control": "s-maxage=60, max-age=0"}, True),
        ({"Cache-Control": "s-maxage=rubbish"}, False),
        ({"Vary": "*"}, False),
        ({"Vary": "Accept, *"}, False),
        ({"Set-Cookie": "a=1"}, False),
    ],
)
def test_the_headers_of_an_answer_say_whether_it_is_stored(headers, is_stored):
    site.answers["headers"] = headers
    assert text("/cached/headers/") == "headers 1"
    assert text("/cached/headers/") == ("headers 1" if is_stored else "headers 2")


@pytest.mark.parametrize(
    ("status", "headers", "is_stored"),
    [
        *((status, {}, True) for status in (200, 203, 204, 300, 301, 308, 404, 410)),
        *((status, {}, False) for status in (201, 202, 302, 303, 304, 307, 400, 401, 403, 429, 500, 503)),
        (302, {"Cache-Control": "max-age=60"}, True),
    ],
)
def test_the_status_of_an_answer_says_whether_it_is_stored(status, headers, is_stored):
    site.answers.update(status=status, headers=headers)
    get("/cached/headers/")
    get("/cached/headers/")
    assert site.made["headers"] == (1 if is_stored else 2)


def test_what_is_not_there_is_remembered_for_a_short_time(clock):
    site.answers["status"] = 404
    get("/cached/headers/")
    clock.go_on(9)
    get("/cached/headers/")
    assert site.made["headers"] == 1
    clock.go_on(2)
    get("/cached/headers/")
    assert site.made["headers"] == 2


def test_a_status_may_have_a_timeout_of_its_own(clock):
    site.answers["status"] = 404
    get("/statuses/")
    clock.go_on(59)
    get("/statuses/")
    assert site.made["headers"] == 1
    site.answers["status"] = 200
    purge("/statuses/")
    get("/statuses/")
    get("/statuses/")
    assert site.made["headers"] == 3


@pytest.mark.parametrize(
    ("control", "expires", "seconds"),
    [
        ("s-maxage=20, max-age=900", None, 20),
        ("max-age=40", None, 40),
        (None, 50, 50),
        (None, None, 300),
    ],
)
def test_the_answer_itself_says_how_long_it_is_good_for(clock, control, expires, seconds):
    from django.utils.http import http_date

    if control:
        site.answers["headers"] = {"Cache-Control": control}
    if expires:
        site.answers["headers"] = {"Expires": http_date(clock.now + expires)}
    with override_settings(MIDDLEWARE=[SINGLE, *OTHERS]):
        get("/headers/")
        clock.go_on(seconds - 1)
        get("/headers/")
        assert site.made["headers"] == 1
        clock.go_on(2)
        get("/headers/")
        assert site.made["headers"] == 2


def test_a_stream_is_passed_on():
    assert [b"".join(get("/cached/stream/")) for _ in range(2)] == [b"ab", b"ab"]
    assert site.made["stream"] == 2


def test_other_methods_are_passed_on_and_make_the_page_anew():
    assert text("/cached/plain/") == "plain 1"
    assert Client().options("/cached/plain/").content == b"plain 2"
    assert text("/cached/plain/") == "plain 1"
    assert Client().post("/cached/plain/").content == b"plain 3"
    assert text("/cached/plain/") == "plain 4"


def test_browsers_may_be_told_another_time():
    assert get("/for-browsers/").headers["Cache-Control"] == "max-age=5"


def test_a_request_with_authorization_is_answered_only_with_what_is_for_everybody():
    assert text("/cached/plain/") == "plain 1"
    answer = get("/cached/plain/", Authorization="Bearer alice")
    assert answer.content == b"plain 2"
    assert "Authorization" in answer.headers["Vary"]
    assert text("/cached/plain/") == "plain 1"
    assert text("/public/", Authorization="Bearer alice") == "plain 3"
    assert text("/public/", Authorization="Bearer bob") == "plain 3"


# ── Addresses ───────────────────────────────────────────────────────────────────────────────────


def test_parameters_that_follow_a_visitor_about_make_no_page_of_their_own(prefix):
    assert text(f"{prefix}query/?page=2") == "page 2 1"
    for more in ("utm_source=x", "fbclid=1", "gclid=2&utm_campaign=a%20b"):
        assert text(f"{prefix}query/?{more}&page=2") == "page 2 1"
    assert text(f"{prefix}query/?utm_source=y&page=3") == "page 3 2"
    assert text(f"{prefix}query/?page=3") == "page 3 2"


def test_the_order_of_parameters_makes_no_page_of_its_own_and_that_of_equal_names_does():
    assert text("/cached/query/?a=1&b=2&page=1") == text("/cached/query/?page=1&b=2&a=1") == "page 1 1"
    assert text("/cached/query/?a=1&a=2") == "page None 2"
    assert text("/cached/query/?a=2&a=1") == "page None 3"
    assert text("/cached/query/?a=%FF") == "page None 4"
    assert text("/cached/query/?a=%FE") == "page None 5"


@pytest.mark.parametrize("view", ["reflecting", "campaign"])
def test_nobody_chooses_by_an_ignored_parameter_what_others_see(prefix, view):
    poisoned = get(f"{prefix}{view}/?utm_source=evil")
    assert b"evil" in poisoned.content
    assert poisoned.headers["Cache-Status"].endswith("detail=tracking-parameters")
    assert "evil" not in text(f"{prefix}{view}/")


def test_a_view_may_have_a_page_for_every_parameter():
    assert text("/every-parameter/?utm_source=a") == "from a 1"
    assert text("/every-parameter/?utm_source=b") == "from b 2"
    assert text("/every-parameter/?utm_source=a") == "from a 1"


# ── Purging ─────────────────────────────────────────────────────────────────────────────────────


def test_a_path_is_purged_with_every_query_and_a_query_alone(prefix):
    for page in (1, 2):
        text(f"{prefix}query/?page={page}")
    purge(f"{prefix}query/?page=1&utm_source=x")
    assert text(f"{prefix}query/?page=1") == "page 1 3"
    assert text(f"{prefix}query/?page=2") == "page 2 2"
    purge(f"http://testserver{prefix}query/")
    assert text(f"{prefix}query/?page=1") == "page 1 4"
    assert text(f"{prefix}query/?page=2") == "page 2 5"


def test_pages_are_purged_by_tags():
    assert [text(f"/tagged/{name}/") for name in "aab"] == ["tagged a 1", "tagged a 1", "tagged b 2"]
    invalidate("name:a")
    assert [text(f"/tagged/{name}/") for name in "ab"] == ["tagged a 3", "tagged b 2"]
    invalidate("said:b")
    assert [text(f"/tagged/{name}/") for name in "ab"] == ["tagged a 3", "tagged b 4"]
    invalidate("all")
    assert [text(f"/tagged/{name}/") for name in "ab"] == ["tagged a 5", "tagged b 6"]


# ── Errors and staleness ────────────────────────────────────────────────────────────────────────


def test_a_page_stands_in_for_one_that_fails(clock):
    assert text("/cached/failing/") == "once up"
    clock.go_on(301)
    answer = get("/cached/failing/")
    assert (answer.content, answer.headers["Age"]) == (b"once up", "301")
    assert answer.headers["Cache-Status"] == "Backroom; hit; ttl=-1; detail=stale-if-error"
    clock.go_on(600)
    with pytest.raises(OSError, match="down"):
        get("/cached/failing/")


def test_a_page_stands_in_for_an_answer_of_500(clock):
    site.answers["headers"] = {"Cache-Control": "max-age=10, stale-if-error=100"}
    with override_settings(MIDDLEWARE=[SINGLE, *OTHERS]):
        assert text("/headers/") == "headers 1"
        site.answers["status"] = 503
        clock.go_on(11)
        assert get("/headers/").status_code == 200
        clock.go_on(100)
        assert get("/headers/").status_code == 503


@pytest.mark.parametrize("words", ["must-revalidate", "proxy-revalidate"])
def test_what_must_be_made_anew_is_never_served_stale(clock, words):
    site.answers["headers"] = {"Cache-Control": f"max-age=900, {words}"}
    get("/cached/headers/")
    site.answers["status"] = 500
    clock.go_on(301)
    assert get("/cached/headers/").status_code == 500


def test_an_error_in_a_view_or_its_template_leaves_no_lock():
    for _ in range(2):
        assert get("/cached/missing/").status_code == 404
        with pytest.raises(OSError, match="in the template"):
            get("/cached/broken_template/")
    assert (site.made["missing"], site.made["broken"]) == (2, 2)


def test_a_stale_page_is_made_anew_by_one_visitor(clock):
    assert text("/stale/") == "plain 1"
    clock.go_on(301)
    answer = get("/stale/")
    assert answer.content == b"plain 2"
    assert answer.headers["Cache-Status"].startswith("Backroom; fwd=stale; stored")


def test_a_visitor_who_has_made_a_stale_page_leaves_nobody_to_wait_for(clock):
    for number in (1, 2, 3):
        assert text("/stale/short/") == f"plain {number}"
        clock.go_on(6)


def test_a_stale_page_stands_in_for_one_that_fails_to_be_made_anew(clock):
    assert text("/stale/while/failing/") == "once up"
    clock.go_on(301)
    answer = get("/stale/while/failing/")
    assert (answer.content, site.made["failing"]) == (b"once up", 2)
    assert answer.headers["Cache-Status"].endswith("detail=stale-if-error")


def test_a_stale_page_is_made_anew_behind_the_visitors_backs(clock):
    with override_settings(BACKROOM={"CACHE_REFRESH": "threads"}):
        assert text("/stale/?page=2&utm_source=x", Accept_Language="de") == "plain 1"
        clock.go_on(301)
        answer = get("/stale/?page=2")
        assert answer.content == b"plain 1"
        assert answer.headers["Cache-Status"] == "Backroom; hit; ttl=-1"
        for thread in threading.enumerate():
            if thread.name == "backroom-cache":
                thread.join(20)
        assert text("/stale/?page=2") == "plain 2"


# ── One at a time ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("order", ["decorator", "single-0", "pair-0"])
def test_fifty_visitors_at_once_have_a_page_made_once(together, monkeypatch, order):
    gate = threading.Event()
    monkeypatch.setattr("tests.cache.site.count", lambda name: (gate.wait(0.3), site.made.update([name]))[0] or 1)
    with override_settings(MIDDLEWARE=ORDERS[order]):
        address = "/cached/plain/" if order == "decorator" else "/plain/"
        pages = together(50, lambda _n: get(address))
    assert {page.content for page in pages} == {b"plain 1"}
    assert site.made["plain"] == 1
    assert sum("collapsed" in page.headers["Cache-Status"] for page in pages) > 0


@pytest.mark.django_db(transaction=True)
def test_nobody_waits_for_a_page_that_is_not_shared(together):
    inside = threading.Barrier(4)
    get("/cached/session/")

    def visit(_number):
        answer = get("/cached/session/")
        inside.wait(20)
        return answer.headers["Cache-Status"]

    assert together(4, visit) == ["Backroom; fwd=bypass; detail=session"] * 4


def test_a_page_that_turned_private_is_no_longer_waited_for_and_can_turn_back():
    assert text("/cached/headers/") == "headers 1"
    purge("/cached/headers/")
    site.answers["headers"] = {"Cache-Control": "private"}
    get("/cached/headers/")
    assert get("/cached/headers/").headers["Cache-Status"].startswith("Backroom; fwd=")
    site.answers.clear()
    assert text("/cached/headers/") == "headers 4"
    assert text("/cached/headers/") == "headers 4"


@pytest.mark.parametrize(
    ("answer", "seconds"),
    [({"status": 500, "headers": {"Cache-Control": "private"}}, 5), ({"headers": {"Cache-Control": "private"}}, 120)],
)
def test_for_how_long_nobody_waits_for_another(clock, answer, seconds):
    def why():
        return get("/cached/headers/").headers["Cache-Status"].split("; ")[1]

    site.answers.update(answer)
    assert why() == "fwd=uri-miss"
    clock.go_on(seconds - 1)
    assert why() == "fwd=bypass"
    clock.go_on(2)
    assert why() == "fwd=uri-miss"


@pytest.mark.parametrize("status", [206, 304, 412, 416])
def test_what_is_answered_to_one_visitors_conditions_keeps_nobody_from_waiting(status):
    site.answers["status"] = status
    get("/cached/headers/")
    site.answers.clear()
    assert get("/cached/headers/").headers["Cache-Status"] == "Backroom; fwd=uri-miss; stored; ttl=300"


def test_what_is_answered_to_conditions_does_not_have_the_page_made_twice_at_once():
    answer = get("/cached/conditional/", If_None_Match='"1"')
    assert (answer.status_code, answer.headers["Cache-Control"]) == (304, "max-age=300")
    assert get("/cached/conditional/").headers["Cache-Status"].startswith("Backroom; fwd=uri-miss; stored")


# ── In an event loop ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("order", ["single-0", "pair-0", "decorator"])
def test_an_event_loop_is_served_alike(order):
    import asyncio

    async def story():
        client = AsyncClient()
        address = "/cached/asynchronous/" if order == "decorator" else "/asynchronous/"
        return [(await client.get(address)).content for _ in range(3)]

    with override_settings(MIDDLEWARE=ORDERS[order]):
        assert asyncio.run(story()) == [b"async 1"] * 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("view", ["user", "auser", "session"])
def test_in_an_event_loop_alices_page_never_reaches_bob_either(prefix, people, view):
    async def story():
        found = []
        for visitor in (*people, *people):
            client = AsyncClient()
            client.cookies = visitor.cookies
            found.append(await client.get(f"{prefix}{view}/"))
        return found

    pages = async_to_sync(story)()
    assert [page.content.decode().rpartition(" ")[2] for page in pages] == list("123456")
    assert all("private" in page.headers["Cache-Control"] for page in pages)
    assert not [page for page in pages if page.has_header("Age")]
