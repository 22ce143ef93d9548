"""A site of pages that are cached, each with what could go wrong; `made` counts how often each was made."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.contrib.auth.models import User
from django.http import Http404, HttpResponse, HttpResponseNotModified, HttpResponseRedirect, StreamingHttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.cache import cache_control
from django.views.decorators.clickjacking import xframe_options_exempt
from django.views.decorators.csp import csp_override

from backroom.cache import cache_page, depend_on, invalidate_on_commit, vary_on_cookies

made: Counter[str] = Counter()
answers: dict[str, Any] = {}


def count(name: str) -> int:
    made[name] += 1
    return made[name]


def plain(request):
    return HttpResponse(f"plain {count('plain')}")


def user(request):
    return HttpResponse(f"hello {request.user} {count('user')}")


async def auser(request):
    return HttpResponse(f"hello {await request.auser()} {count('auser')}")


def keyed(request):
    """Know the visitor by a key in a header, as API frameworks do."""
    request.user = User(username=request.headers["X-Key"])
    return HttpResponse(f"hello {request.user} {count('keyed')}")


def conditional(request):
    if request.headers.get("If-None-Match"):
        return HttpResponseNotModified()
    return HttpResponse(f"conditional {count('conditional')}", headers={"ETag": '"1"'})


def address(request):
    return HttpResponse(f"for {request.META['REMOTE_ADDR']} {count('address')}")


def session(request):
    return HttpResponse(f"cart {request.session.get('cart')} {count('session')}")


def session_cookie(request):
    return HttpResponse(f"id {request.COOKIES.get('sessionid')} {count('session_cookie')}")


def csrf(request):
    return HttpResponse(f"token {get_token(request)} {count('csrf')}")


def nonce(request):
    return HttpResponse(f"nonce {getattr(request, '_csp_nonce', '')} {count('nonce')}")


def said(request):
    return HttpResponse(f"said {[str(each) for each in messages.get_messages(request)]} {count('said')}")


def session_key(request):
    return HttpResponse(f"cart of {request.session.session_key} {count('session_key')}")


def keeping(request):
    """Write into the session of which the key was read."""
    request.session["of"] = str(request.session.session_key)
    return HttpResponse(f"kept {count('keeping')}")


def visited(request):
    """Tell new visitors from others, by what there is rather than by what is in it."""
    way = answers["way"]
    return HttpResponse(f"{'again' if way(request) else 'welcome'} {count('visited')}")


def theme(request):
    return HttpResponse(f"theme {request.COOKIES.get('theme')} {count('theme')}")


@vary_on_cookies("theme")
def declared(request):
    return HttpResponse(f"theme {request.META.get('HTTP_COOKIE')} {count('declared')}")


def whole_cookie(request):
    return HttpResponse(f"cookie {count('whole_cookie')}", headers={"Vary": "Cookie"})


def headers(request):
    """Answer with whatever the test asks for."""
    response = HttpResponse(f"headers {count('headers')}", status=answers.get("status", 200))
    for name, value in answers.get("headers", {}).items():
        response.headers[name] = value
    for name, value in answers.get("cookies", {}).items():
        response.set_cookie(name, value)
    return response


def varying(request):
    value = request.headers.get("X-Kind")
    return HttpResponse(f"kind {value!r} {count('varying')}", headers={"Vary": "X-Kind"})


def query(request):
    return HttpResponse(f"page {request.GET.get('page')} {count('query')}")


def reflecting(request):
    return HttpResponse(f"at {request.get_full_path()} {count('reflecting')}")


def campaign(request):
    return HttpResponse(f"from {request.GET.get('utm_source')} {count('campaign')}")


def stream(request):
    count("stream")
    return StreamingHttpResponse([b"a", b"b"])


def missing(request):
    count("missing")
    raise Http404


def redirecting(request):
    count("redirecting")
    return HttpResponseRedirect("/elsewhere/", headers=answers.get("headers", {}))


def failing(request):
    number = count("failing")
    if number > 1:
        raise OSError("down")
    return HttpResponse("once up")


def failing_for(request, what):
    """Fail over what belongs to one visitor."""
    looks = {
        "theme": lambda: request.COOKIES.get("theme"),
        "user": lambda: request.user.pk,
        "session": lambda: request.session.get("cart"),
        "utm_source": lambda: request.GET["utm_source"],
    }
    looks[what]()
    count("failing_for")
    raise OSError(what)


def by_key(request):
    number = count("by_key")
    if number > made["keys"]:
        raise LookupError(f"no such key: {request.headers['X-Key']}")
    return HttpResponse("keyed", headers={"Vary": "X-Key"})


@cache_page(300)
def head(request):
    return HttpResponse(f"head {count('head')} ")


@cache_page(300)
def foot(request):
    return HttpResponse(f"foot {count('foot')}")


class Base(View):
    name = ""

    def get(self, request):
        return HttpResponse(f"{self.name} {count(self.name)} ")


@method_decorator(cache_page(300), name="dispatch")
class Left(Base):
    name = "left"


@method_decorator(cache_page(300), name="dispatch")
class Right(Base):
    name = "right"


def side(request, name):
    return HttpResponse(f"{name} {count(name)} ")


class Caller:
    def __call__(self, request):
        return HttpResponse(f"sixth {count('sixth')} ")


def made_of_parts(request):
    """Answer with what several cached views answer to the same request."""
    views = (
        head,
        foot,
        Left.as_view(),
        Right.as_view(),
        cache_page(300)(Base.as_view(name="third")),
        cache_page(300)(partial(side, name="fourth")),
        cache_page(300, key_prefix="fifth")(partial(side, name="fifth")),
        cache_page(300)(Caller()),
    )
    answers: list[Any] = [view(request) for view in views]
    return HttpResponse(b"".join(each.content for each in answers))


def template(request):
    text = engines["django"].from_string("template {{ number }}")
    response = TemplateResponse(request, text, {"number": lambda: count("template")})
    response.headers["X-Frame"] = "kept"
    return response


def broken_template(request):
    def number():
        count("broken")
        raise OSError("in the template")

    return TemplateResponse(request, engines["django"].from_string("{{ number }}"), {"number": number})


def tagged(request, name):
    depend_on(f"said:{name}")
    return HttpResponse(f"tagged {name} {count('tagged')}")


@xframe_options_exempt
@csp_override({"default-src": ["'self'", "https://example.org"]})
def embedded(request):
    return HttpResponse(f"embedded {count('embedded')}")


def language(request):
    return HttpResponse(f"{request.LANGUAGE_CODE} {count('language')}")


def long(request):
    return HttpResponse(f"long {count('long')} {'.' * 500}")


def told(request):
    """Say to Django's middlewares, as sessions do, that there is nothing to store."""
    request._cache_update_cache = False
    return HttpResponse(f"told {request.session.get('cart')} {count('told')}")


def changing(request):
    """Change something in the transaction around it, and show what it has changed."""
    depend_on("changed")
    invalidate_on_commit("changed")
    return HttpResponse(f"changed {count('changing')}")


def nothing(request, exception=None):
    """Answer 404, and greet whom a middleware knows."""
    greeting = f" {request.user}" if "X-Key" in request.headers else ""
    return HttpResponse(f"nothing here{greeting}", status=404)


handler404 = nothing


def painted(request):
    return HttpResponse(f"painted {request.colour} {count('painted')}")


@vary_on_cookies("theme")
async def adeclared(request):
    return HttpResponse(f"theme {request.META.get('HTTP_COOKIE')} {count('adeclared')}")


def basket(request):
    return HttpResponse(f"basket {request.basket} {count('basket')}")


def closing(request):
    response: Any = HttpResponse(f"closing {count('closing')}")
    response._resource_closers.append(lambda: count("closed"))
    return response


async def asynchronous(request):
    return HttpResponse(f"async {count('asynchronous')}")


VIEWS: dict[str, Any] = {
    view.__name__: view
    for view in (
        *(plain, user, auser, session, session_cookie, csrf, nonce, said, theme, declared, whole_cookie, headers),
        *(varying, query, reflecting, campaign, stream, missing, redirecting, failing, template, broken_template),
        *(embedded, language, asynchronous, keyed, conditional, session_key, keeping, visited, long, told, changing),
        *(painted, adeclared, basket, made_of_parts),
    )
}

cached = cache_page(300, stale_if_error=600)

urlpatterns = [
    # As they are, for the middlewares, and with the decorator.
    *(path(f"{name}/", login_not_required(view)) for name, view in VIEWS.items()),
    *(path(f"cached/{name}/", cached(view)) for name, view in VIEWS.items()),
    path("per-user/", cache_page(300, per_user=True)(user)),
    path("per-user/session/", cache_page(300, per_user=True)(session)),
    path("trusting/", cache_page(300, trust_middleware=True)(plain)),
    path("for-browsers/", cache_page(300, browser=5)(plain)),
    path("stale/", cache_page(300, stale=600, early=0)(plain)),
    path("stale/headers/", cache_page(300, stale=600, early=0)(headers)),
    path("stale/language/", cache_page(300, stale=600, early=0)(language)),
    path("stale/failing/", cache_page(300, stale_if_error=600)(failing)),
    path("stale/short/", cache_page(5, stale=60, early=0)(plain)),
    path("stale/closing/", cache_page(300, stale=600, early=0)(closing)),
    path("stale/while/failing/", cache_page(300, stale=600, early=0)(failing)),
    path("failing-for/<str:what>/", cache_page(300)(failing_for)),
    path("trusting/failing/", cache_page(300, trust_middleware=True)(failing)),
    path("by-key/", cache_page(300)(by_key)),
    path("go/<path:rest>", cache_page(300)(lambda request, **_kwargs: plain(request))),
    path("listed/", cache_page(300, tags=(tag for tag in ["listed"]))(plain)),
    path("stale/address/", cache_page(300, stale=600, early=0)(address)),
    path("public/", cached(cache_control(public=True)(plain))),
    path("tagged/<str:name>/", cache_page(300, tags=lambda _request, name: [f"name:{name}", "all"])(tagged)),
    path("every-parameter/", cache_page(300, ignore_parameters=())(campaign)),
    path("statuses/", cache_page(300, statuses={404: 60, 200: 0})(headers)),
]
