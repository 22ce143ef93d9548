"""{% cache %}: rendered by one at a time, invalidated by tags, never kept with a secret in it."""

from __future__ import annotations

import asyncio
import math
import threading
from itertools import count
from typing import Any

import pytest
from django.core.cache import caches
from django.middleware.csrf import get_token
from django.template import Context, Engine, RequestContext, TemplateSyntaxError
from django.test import RequestFactory, override_settings
from django.utils.csp import LazyNonce

from backroom.cache import ainvalidate_fragment, cached, invalidate, invalidate_fragment
from tests.cache.conftest import LOCMEM

ENGINE = Engine(libraries={"cache": "backroom.cache.templatetags.backroom_cache"})


def render(tag, context=None, inside="{{ number }}"):
    template = ENGINE.from_string("{% load cache %}{% cache " + tag + " %}" + inside + "{% endcache %}")
    return template.render(Context(context or {}))


def test_a_fragment_is_rendered_once(any_cache):
    numbers = count(1)
    context = {"number": lambda: next(numbers), "user": 1}
    assert [render("300 side user", context) for _ in range(2)] == ["1", "1"]
    assert render("300 side user", context | {"user": 2}) == "2"
    invalidate_fragment("side", [1])
    assert render("300 side user", context) == "3"
    assert render("300 side user", context | {"user": 2}) == "2"
    asyncio.run(ainvalidate_fragment("side", [1]))
    assert render("300 side user", context) == "4"


def test_a_fragment_is_forgotten_where_it_is_said_to_lie():
    numbers = count(1)
    context = {"number": lambda: next(numbers)}
    for alias, expected in (("default", "1"), ("other", "2"), (None, "3")):
        before = render('300 side using="other"', context)
        assert before == render('300 side using="other"', context)
        invalidate_fragment("side", alias=alias)
        assert render('300 side using="other"', context) == expected


def test_fragments_lie_where_djangos_lie():
    numbers = count(1)
    with override_settings(
        CACHES=caches.settings | {"template_fragments": {"BACKEND": LOCMEM, "LOCATION": "fragments"}}
    ):
        assert [render("300 side", {"number": lambda: next(numbers)}) for _ in range(2)] == ["1", "1"]
        caches["default"].clear()
        assert render("300 side", {"number": lambda: next(numbers)}) == "1"
        invalidate_fragment("side")
        assert render("300 side", {"number": lambda: next(numbers)}) == "2"
        caches["template_fragments"].clear()


def test_a_fragment_has_tags_and_is_invalidated_with_what_it_shows():
    numbers = count(1)
    inner = cached(100, key="shown", tags="inner")(lambda: next(numbers))
    assert [render('300 side tags="prices news"', {"number": inner}) for _ in range(2)] == ["1", "1"]
    # Rendered anew, with what the function still keeps; and then with what it does not.
    for tag, shown in (("news", "1"), ("inner", "2")):
        invalidate(tag)
        assert render('300 side tags="prices news"', {"number": inner}) == shown


def test_one_visitor_renders_a_stale_fragment_anew(clock):
    numbers = count(1)
    context = {"number": lambda: next(numbers)}
    assert render("10 side stale=60", context) == "1"
    clock.go_on(11)
    assert render("10 side stale=60", context) == "2"


def test_a_fragment_that_fifty_visitors_want_is_rendered_once(together):
    calls = []

    def number():
        calls.append(1)
        threading.Event().wait(0.1)
        return "text"

    assert together(50, lambda _n: render("300 wanted", {"number": number})) == ["text"] * 50
    assert len(calls) == 1


def test_text_that_is_safe_is_escaped_once():
    assert render("300 safe", {"number": "<b>"}) == render("300 safe", {"number": "<b>"}) == "&lt;b&gt;"


def test_a_token_is_never_kept():
    def tokens():
        request = RequestFactory().get("/")
        text = render("300 form", {"request": request, "number": lambda: get_token(request)})
        assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]
        return text

    assert tokens() != tokens()


def test_a_token_is_never_kept_though_the_request_is_no_variable_of_the_template():
    def tokens():
        template = ENGINE.from_string("{% load cache %}{% cache 300 form %}{% csrf_token %}{% endcache %}")
        return template.render(RequestContext(RequestFactory().get("/")))

    first = tokens()
    assert "csrfmiddlewaretoken" in first
    assert first != tokens()


def test_a_nonce_is_never_kept():
    def nonces():
        request: Any = RequestFactory().get("/")
        request._csp_nonce = LazyNonce()
        return render("300 script", {"request": request, "number": lambda: str(request._csp_nonce)})

    assert nonces() != nonces()


def test_a_token_elsewhere_on_the_page_does_no_harm():
    numbers = count(1)

    def page():
        request = RequestFactory().get("/")
        get_token(request)
        text = render("300 beside", {"request": request, "number": lambda: next(numbers)})
        assert request.META["CSRF_COOKIE_NEEDS_UPDATE"]
        return text

    assert [page(), page()] == ["1", "1"]


@pytest.mark.parametrize(
    "tag", ["", "300", '300 a using="nowhere"', "nothing a", '"x" a', '300 a stale="x"', "endless a"]
)
def test_a_tag_that_cannot_work_says_so(tag):
    with pytest.raises(TemplateSyntaxError):
        render(tag, {"endless": math.inf})


@override_settings(USE_I18N=True)
def test_long_and_strange_values_make_keys_that_every_cache_takes():
    assert render('300 poem "' + "a " * 400 + 'ünï"', inside="x") == "x"
