"""Declared cookies: what goes in comes out, what others put in does not, and browsers keep what is set."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from backroom.cookies import Cookie, CookieRefused, CookieTooLarge
from backroom.cookies.checks import check_cookies, check_cookies_of_a_server
from backroom.sealing import _library

KINDS: dict[str, dict[str, Any]] = {"plain": {}, "signed": {"signed": True}, "encrypted": {"encrypted": True}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
every_kind = pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)


@pytest.fixture(autouse=True)
def _nothing_else_declared():
    """Leave to the checks only what a test declares."""
    before = set(Cookie.declared)
    yield
    for cookie in set(Cookie.declared) - before:
        Cookie.declared.discard(cookie)


def sent(cookie: Cookie[Any], value: Any, **more: Any) -> Any:
    """Return the cookie as a response sets it."""
    response = HttpResponse()
    cookie.set(response, value, **more)
    return response.cookies[cookie.name]


def back(cookie: Cookie[Any], text: str) -> HttpRequest:
    """Return the request of a browser that has the cookie."""
    request = HttpRequest()
    request.COOKIES[cookie.name] = text
    return request


def returned(cookie: Cookie[Any], value: Any) -> Any:
    return cookie.get(back(cookie, sent(cookie, value).value), "default")


@every_kind
@given(value=JSON)
def test_any_json_comes_back(options, value):
    assert returned(Cookie("c", **options), value) == value


@given(value=JSON)
def test_the_header_needs_no_quotes_and_scripts_can_read_a_plain_value(value):
    import json
    from urllib.parse import unquote

    header = sent(Cookie("c"), value)
    assert header.coded_value == header.value
    assert json.loads(unquote(header.value)) == value


def test_it_goes_all_the_way_through_a_browser_and_back(settings):
    settings.ROOT_URLCONF = __name__
    client = Client()
    client.get("/set/")
    assert client.get("/get/").json() == {"value": {"name": 'é; "x", \\'}}
    client.get("/delete/")
    assert client.get("/get/").json() == {"value": None}


BASKET = Cookie("basket", kind=dict, max_age=60, signed=True)


def set_it(request: HttpRequest) -> HttpResponse:
    response = HttpResponse()
    BASKET.set(response, {"name": 'é; "x", \\'})
    return response


def get_it(request: HttpRequest) -> HttpResponse:
    from django.http import JsonResponse

    return JsonResponse({"value": BASKET.get(request)})


def delete_it(request: HttpRequest) -> HttpResponse:
    response = HttpResponse()
    BASKET.delete(response)
    return response


urlpatterns = [path("set/", set_it), path("get/", get_it), path("delete/", delete_it)]


@pytest.mark.parametrize("options", [KINDS["signed"], KINDS["encrypted"]])
def test_a_changed_value_is_as_good_as_none(options):
    cookie = Cookie("c", max_age=60, **options)
    text = sent(cookie, {"role": "visitor"}).value
    for position in range(0, len(text), 3):
        other = "A" if text[position] != "A" else "B"
        assert cookie.get(back(cookie, text[:position] + other + text[position + 1 :])) is None, position
    for forged in ("", "x", text[:-1], text + "x", "%", "null", "1.2.3", "é" * 40, "\ud800" * 40):
        assert cookie.get(back(cookie, forged), "default") == "default"


@pytest.mark.parametrize("options", [KINDS["signed"], KINDS["encrypted"]])
def test_a_changed_value_is_logged_by_the_name_of_its_cookie_alone(options, caplog):
    cookie = Cookie("basket", **options)
    with caplog.at_level("WARNING", "backroom.cookies"):
        cookie.get(back(cookie, "forged" * 20))
    assert caplog.messages == ["action=refused cookie=basket"]


@pytest.mark.parametrize("options", [KINDS["signed"], KINDS["encrypted"]])
def test_a_value_is_no_good_under_another_name(options):
    one, two = Cookie("one", **options), Cookie("two", **options)
    assert two.get(back(two, sent(one, "mine").value)) is None


def test_an_encrypted_value_cannot_be_read():
    assert "4111" not in sent(Cookie("c", encrypted=True), "4111 1111").value
    assert "4111" in sent(Cookie("c", signed=True), "4111 1111").value


@pytest.mark.parametrize("options", [KINDS["signed"], KINDS["encrypted"]])
def test_the_secret_key_can_be_rotated(options, settings):
    cookie = Cookie("c", **options)
    text = sent(cookie, "kept").value
    settings.SECRET_KEY_FALLBACKS = [settings.SECRET_KEY]
    settings.SECRET_KEY = "another"
    assert cookie.get(back(cookie, text)) == "kept"
    settings.SECRET_KEY_FALLBACKS = []
    assert cookie.get(back(cookie, text)) is None


@pytest.mark.parametrize("options", [KINDS["signed"], KINDS["encrypted"]])
def test_a_copy_is_no_good_after_its_time_whatever_the_browser_says(options, monkeypatch):
    import time

    cookie, for_ever = Cookie("c", max_age=60, **options), Cookie("f", **options)
    text, other = sent(cookie, 1).value, sent(for_ever, 1).value
    assert cookie.get(back(cookie, text)) == 1
    now = time.time()
    monkeypatch.setattr("backroom.cookies.cookie.time.time", lambda: now + 62)
    assert cookie.get(back(cookie, text)) is None
    assert for_ever.get(back(for_ever, other)) == 1


def test_values_of_another_type_are_as_good_as_none_and_are_not_set():
    number = Cookie("n", kind=int)
    assert number.get(back(number, "12")) == 12
    for text in ("%22x%22", "true", "null", "1.5", "[1]"):
        assert number.get(back(number, text), 7) == 7
    with pytest.raises(TypeError, match="'n' holds int, not 'x'"):
        number.set(HttpResponse(), "x")  # type: ignore[arg-type]
    assert Cookie("b", kind=bool).get(back(Cookie("b"), "true")) is True


def test_a_check_narrows_the_values():
    def is_theme(value: str) -> bool:
        return value in {"light", "dark"}

    theme = Cookie("theme", kind=str, check=is_theme)
    assert theme.get(back(theme, "%22dark%22")) == "dark"
    assert theme.get(back(theme, "%22evil%22"), "light") == "light"
    with pytest.raises(TypeError, match="str that is_theme allows"):
        theme.set(HttpResponse(), "evil")


def test_what_is_no_json_is_as_good_as_none():
    cookie = Cookie("c")
    for text in ("{", "dark", "%FF", "[" * 100_000):
        assert cookie.get(back(cookie, text), "default") == "default"
    assert cookie.get(HttpRequest()) is None


@pytest.mark.parametrize(
    ("max_age", "seconds"),
    [(60, 60), (timedelta(days=2), 172_800), (0.9, 0), (-5, 0), (None, "")],
)
def test_it_lives_as_long_as_is_said(max_age, seconds):
    for header in (sent(Cookie("c", max_age=max_age), 1), sent(Cookie("c", max_age=5), 1, max_age=max_age)):
        assert header["max-age"] == seconds
        assert bool(header["expires"]) is (max_age is not None)


def test_it_lives_until_a_moment():
    until = datetime.now(UTC) + timedelta(hours=1)
    assert 3598 <= sent(Cookie("c", max_age=until), 1)["max-age"] <= 3600
    assert sent(Cookie("c", max_age=datetime(2020, 1, 1)), 1)["max-age"] == 0  # noqa: DTZ001 - a naive one is of the site's zone


def test_a_moment_without_a_zone_is_of_the_sites_zone(monkeypatch):
    now = datetime(2030, 1, 1, 12, tzinfo=UTC)
    monkeypatch.setattr("backroom.cookies.cookie.time.time", now.timestamp)
    # One o'clock in the afternoon at Greenwich, as a clock in Tokyo shows it.
    with timezone.override("Asia/Tokyo"):
        assert sent(Cookie("c"), 1, max_age=datetime(2030, 1, 1, 22))["max-age"] == 3600  # noqa: DTZ001 - that is it


def test_deleting_names_the_same_place():
    cookie = Cookie("c", path="/shop/", domain="example.org", secure=True, samesite="None", partitioned=True)
    response = HttpResponse()
    cookie.delete(response)
    header = response.cookies["c"].OutputString()
    expected = {"Max-Age=0", "Path=/shop/", "Domain=example.org", "Secure", "SameSite=None", "Partitioned", "HttpOnly"}
    assert expected <= set(header.split("; "))
    assert "1970" in header


def test_attributes_are_safe_unless_told_otherwise(settings):
    header = sent(Cookie("c"), 1)
    assert (header["httponly"], header["samesite"], header["path"], header["domain"]) == (True, "Lax", "/", "")
    assert not header["secure"]
    settings.SESSION_COOKIE_SECURE = True
    assert sent(Cookie("c"), 1)["secure"]
    assert not sent(Cookie("c", secure=False), 1)["secure"]


@pytest.mark.parametrize("name", ["__Host-c", "__host-c", "__Secure-c", "__SECURE-c"])
def test_a_prefix_is_kept_by_itself(name):
    header = sent(Cookie(name), 1)
    assert (header["secure"], header["path"], header["domain"]) == (True, "/", "")


def test_a_secure_prefix_leaves_the_path_and_the_domain_to_the_site():
    header = sent(Cookie("__Secure-c", path="/shop/", domain="example.org"), 1)
    assert (header["secure"], header["path"], header["domain"]) == (True, "/shop/", "example.org")


@pytest.mark.parametrize(
    ("name", "options", "problem"),
    [
        ("__Host-c", {"secure": False}, "must be Secure"),
        ("__Host-c", {"path": "/shop/"}, "path '/'"),
        ("__hOsT-c", {"domain": "example.org"}, "no domain"),
        ("__Secure-c", {"secure": False}, "must be Secure"),
        ("c", {"samesite": "None", "secure": False}, "SameSite=None must be Secure"),
        ("c", {"partitioned": True, "secure": False}, "partitioned cookie must be Secure"),
        ("", {}, "no name"),
        ("two words", {}, "no name"),
        ("a=b", {}, "no name"),
        ("Path", {}, "no name"),
        ("c", {"signed": True, "encrypted": True}, "leave out signed"),
        ("c", {"path": "/;Domain=evil.example"}, "path is no part"),
        ("c", {"path": "/\r\nSet-Cookie: a=b"}, "path is no part"),
        ("c", {"path": "/café/"}, "path is no part"),
        ("c", {"domain": "example.org; Secure"}, "domain is no part"),
    ],
)
def test_what_no_browser_would_keep_is_refused_when_it_is_declared(name, options, problem):
    with pytest.raises(CookieRefused, match=problem):
        Cookie(name, **options)


@every_kind
def test_what_is_too_large_is_refused_with_the_name_and_the_size(options):
    cookie = Cookie("basket-of-mine", **options)
    response = HttpResponse()
    cookie.set(response, "small")
    before = response.cookies["basket-of-mine"].value
    with pytest.raises(CookieTooLarge, match=r"'basket-of-mine' would have [45],\d{3} bytes, and browsers keep 4,096"):
        cookie.set(response, "x" * 4_000 + "é" * 20)
    assert response.cookies["basket-of-mine"].value == before
    with pytest.raises(CookieTooLarge):
        cookie.set(fresh := HttpResponse(), "x" * 5_000)
    assert fresh.cookies == {}


def test_the_largest_that_browsers_keep_is_set():
    cookie = Cookie("c")
    rest = len(sent(cookie, "").OutputString())
    assert len(sent(cookie, "x" * (4096 - rest)).OutputString()) == 4096
    with pytest.raises(CookieTooLarge):
        sent(cookie, "x" * (4097 - rest))


def test_partitioned_is_said_and_survives_a_second_set():
    cookie = Cookie("c", partitioned=True, secure=True)
    response = HttpResponse()
    cookie.set(response, 1)
    cookie.set(response, 2)
    assert response.cookies["c"].OutputString().count("Partitioned") == 1


# ── Checks ──────────────────────────────────────────────────────────────────────────────────────────


def ids(messages: Any) -> list[Any]:
    for message in messages:
        assert message.hint, message
    return [message.id for message in messages]


@pytest.mark.parametrize("prefix", ["SESSION", "CSRF", "LANGUAGE"])
def test_djangos_cookies_that_no_browser_would_keep_are_told(settings, prefix):
    assert ids(check_cookies()) == []
    setattr(settings, f"{prefix}_COOKIE_NAME", "__Host-it")
    setattr(settings, f"{prefix}_COOKIE_PATH", "/app")
    setattr(settings, f"{prefix}_COOKIE_DOMAIN", "example.org")
    messages = check_cookies()
    assert ids(messages) == ["backroom.E411"] * 3
    assert "must be Secure" in messages[0].msg
    assert "'/app'" in messages[1].msg
    assert "'example.org'" in messages[2].msg


def test_a_session_cookie_for_all_sites_must_be_secure(settings):
    settings.SESSION_COOKIE_SAMESITE = "None"
    settings.BACKROOM = {"SESSIONS": {"PARTITIONED": True}}
    assert ids(check_cookies()) == ["backroom.E411"] * 2
    settings.SESSION_COOKIE_SECURE = True
    assert ids(check_cookies()) == []


def test_a_declared_cookie_that_depends_on_a_setting_is_told(settings):
    cookie = Cookie("embedded", samesite="None")
    assert ids(check_cookies()) == ["backroom.E412"]
    settings.SESSION_COOKIE_SECURE = True
    assert ids(check_cookies()) == []
    assert repr(cookie) == "<Cookie embedded>"


def test_encryption_without_its_package_is_told(monkeypatch):
    cookie = Cookie("secret", encrypted=True)
    monkeypatch.setattr("backroom.cookies.checks.can_seal", lambda: False)
    (message,) = check_cookies()
    assert message.id == "backroom.E413"
    assert cookie.name in message.msg
    assert message.hint is not None
    assert "pip install './backroom[encryption]'" in message.hint


def test_who_encrypts_without_the_package_is_told_what_to_install(monkeypatch):
    cookie = Cookie("secret", encrypted=True)
    morsel = sent(cookie, "4111")
    monkeypatch.setitem(sys.modules, "cryptography.exceptions", None)
    _library.cache_clear()
    for work in (lambda: sent(cookie, "4111"), lambda: cookie.get(back(cookie, morsel.value))):
        with pytest.raises(ImproperlyConfigured, match=r"cryptography.*pip install '\./backroom\[encryption\]'"):
            work()


def test_what_travels_unprotected_is_told_on_deployment(settings):
    cookie = Cookie("loose", samesite=None)
    told = {message.id for message in check_cookies_of_a_server() if cookie.name in message.msg}
    assert told == {"backroom.W411", "backroom.W412"}
    settings.SESSION_COOKIE_SECURE = True
    assert {message.id for message in check_cookies_of_a_server() if cookie.name in message.msg} == {"backroom.W412"}


def test_djangos_check_command_runs_both_and_the_second_on_deployment_alone():
    cookie = Cookie("embedded", samesite="None"), Cookie("loose", samesite=None)
    always = {message.id for message in run_checks()}
    deployed = {message.id for message in run_checks(include_deployment_checks=True)}
    assert "backroom.E412" in always & deployed
    assert {"backroom.W411", "backroom.W412"} <= deployed - always
    del cookie
