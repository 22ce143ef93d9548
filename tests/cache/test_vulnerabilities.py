"""The seven ways in which Django's page cache was found to leak in 2026, each tried on ours in every place it can stand."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.utils.cache import patch_vary_headers

from backroom.cache import cache_page
from backroom.cache.middleware import CacheMiddleware, FetchFromCacheMiddleware, UpdateCacheMiddleware
from tests.cache import site
from tests.cache.test_pages import ORDERS, OTHERS

pytestmark = [pytest.mark.urls("tests.cache.site"), pytest.mark.django_db]

SEES_THE_COOKIE = {"single-0", "single-1", "pair-0"}
"""The orders in which the cache stands further out than SessionMiddleware."""


def _by_decorator(view):
    return cache_page(300)(view)


def _by_middleware(view):
    return CacheMiddleware(view)


def _by_pair(view):
    return UpdateCacheMiddleware(FetchFromCacheMiddleware(view))


@pytest.fixture(params=[_by_decorator, _by_middleware, _by_pair])
def cached(request) -> Any:
    """Give each way to put a cache in front of a view: Django's contracts of a decorator and of a middleware."""
    return request.param


class Answering:
    """A view that answers with the number of its call and these headers."""

    def __init__(self, headers=None, cookies=None):
        self.headers = headers or {}
        self.cookies = cookies or {}
        self.calls = 0

    def __call__(self, request):
        self.calls += 1
        response = HttpResponse(f"{self.calls}", headers=self.headers)
        for name, value in self.cookies.items():
            response.set_cookie(name, value)
        return response


def visit(view, **headers):
    return view(RequestFactory().get("/private/", headers=headers))


@pytest.mark.parametrize("order", ORDERS)
def test_cve_2026_35192_a_session_saved_on_every_request_is_not_handed_out_with_a_public_page(order):
    site.made.clear()
    with override_settings(MIDDLEWARE=ORDERS[order], SESSION_SAVE_EVERY_REQUEST=True):
        address = "/cached/plain/" if order in {"decorator", "both"} else "/plain/"
        victim, attacker = Client(), Client()
        victim.force_login(User.objects.create_user("victim"))
        victims_id = victim.cookies["sessionid"].value
        served: Any = victim.get(address)
        answer: Any = attacker.get(address)
        if order in SEES_THE_COOKIE:
            # What stands further out of this cache is not to keep it either.
            assert "stored" not in served.headers["Cache-Status"]
            assert "private" in served.headers["Cache-Control"]
        assert "sessionid" not in answer.cookies
        assert victims_id not in answer.serialize().decode()


@pytest.mark.parametrize("vary", ["*", "Cookie, *", "*, Accept"])
def test_cve_2026_6907_an_answer_that_varies_by_everything_is_not_stored(cached, vary):
    view = Answering({"Vary": vary})
    answer = cached(view)
    assert [visit(answer).content, visit(answer).content] == [b"1", b"2"]


@pytest.mark.parametrize("control", ["Private", "PRIVATE, max-age=60", "No-Store", "max-age=60, NO-CACHE"])
def test_cve_2026_8404_directives_are_read_in_any_case(cached, control):
    answer = cached(Answering({"Cache-Control": control}))
    assert [visit(answer).content, visit(answer).content] == [b"1", b"2"]


def test_cve_2026_35193_an_answer_to_authorization_is_not_given_to_another(cached):
    answer = cached(Answering())
    first = visit(answer, Authorization="Bearer alice")
    assert first.headers["Vary"] == "Authorization"
    assert visit(answer, Authorization="Bearer bob").content == b"2"
    assert visit(answer).content == b"3"
    # And what was stored for everybody is not what alice is asked to be content with.
    assert visit(answer, Authorization="Bearer alice").content == b"4"


@pytest.mark.parametrize("vary", [" * ", "Cookie , * , Pony", "*\t"])
def test_cve_2026_48587_white_space_hides_no_asterisk(cached, vary):
    answer = cached(Answering({"Vary": vary}))
    assert [visit(answer).content, visit(answer).content] == [b"1", b"2"]


@pytest.mark.parametrize("sent", [{}, {"Cookie": "language=de"}, {"Cookie": "session=old"}])
@pytest.mark.parametrize("vary", [None, "Cookie"])
def test_cve_2026_48588_an_answer_that_sets_a_cookie_is_not_stored(cached, sent, vary):
    def view(request):
        response = Answering(cookies={"session": "secret"})(request)
        if vary:
            patch_vary_headers(response, [vary])
        return response

    answer = cached(view)
    assert "session" in visit(answer, **sent).cookies
    # Found again it would have come without a cookie, as the answer of a hit has none.
    assert "session" in visit(answer, **sent).cookies
    assert "private" in visit(answer, **sent).headers["Cache-Control"]


def test_cve_2026_113593_a_header_that_is_empty_is_not_one_that_is_absent(cached):
    answer = cached(Answering({"Vary": "X-Tenant"}))
    assert visit(answer, **{"X-Tenant": ""}).content == b"1"
    assert visit(answer).content == b"2"
    assert visit(answer, **{"X-Tenant": ""}).content == b"1"
    assert visit(answer, **{"X-Tenant": "acme"}).content == b"3"


INTERNET_EXPLORER = "Mozilla/4.0 (compatible; MSIE 8.0; Windows NT 6.1)"


@pytest.mark.parametrize("view", ["theme", "session"])
def test_cve_2014_1418_no_browser_is_sent_a_page_without_what_keeps_it_from_others(view):
    def headers(**sent):
        client: Any = Client(headers=sent)
        answer = client.get(f"/cached/{view}/")
        return {name: answer.headers.get(name) for name in ("Vary", "Cache-Control")}

    site.made.clear()
    with override_settings(MIDDLEWARE=OTHERS):
        assert headers(**{"User-Agent": INTERNET_EXPLORER}) == headers()
        assert headers()["Vary"] == "Cookie"


def test_the_places_tried_are_all_there_are():
    assert len(ORDERS) >= len(OTHERS) + 2
