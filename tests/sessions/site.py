"""A small site with sessions. `@pytest.mark.urls("tests.sessions.site")`."""

from typing import Any

from django.contrib import admin
from django.contrib.auth import authenticate, login, logout, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import LoginView
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import SimpleTemplateResponse
from django.urls import include, path
from django.views.decorators.cache import cache_page

from backroom.sessions import recently_authenticated
from backroom.sessions.views import Devices


def read(request: HttpRequest) -> HttpResponse:
    return JsonResponse(dict(request.session.items()))


def write(request: HttpRequest) -> HttpResponse:
    request.session.update(request.GET.dict())
    return HttpResponse(request.session.session_key or "")


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("no session was looked at")


def sign_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.GET["name"], password="secret")
    assert user
    login(request, user)
    return HttpResponse("in")


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("out")


@login_required
def password(request: HttpRequest) -> HttpResponse:
    user: Any = request.user
    user.set_password("another")
    user.save()
    update_session_auth_hash(request, user)
    return HttpResponse("changed")


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"for {request.user.get_username() or 'nobody'}")


async def awho(request: HttpRequest) -> HttpResponse:
    user = await request.auser()
    await request.session.aset("seen", True)
    return HttpResponse(f"for {user.get_username() or 'nobody'}")


@recently_authenticated(300)
def delicate(request: HttpRequest) -> HttpResponse:
    return HttpResponse("delicate")


@recently_authenticated(300, login_url="/elsewhere/")
async def adelicate(request: HttpRequest) -> HttpResponse:
    return HttpResponse("delicate")


def broken(request: HttpRequest) -> HttpResponse:
    request.session["lost"] = True
    return HttpResponse(status=500)


def public(request: HttpRequest) -> HttpResponse:
    who(request)
    response = HttpResponse("public?")
    response.headers["Cache-Control"] = "public, max-age=60"
    return response


def late(request: HttpRequest) -> HttpResponse:
    """Look into the session, and write to it, when the template is rendered."""

    def visits() -> int:
        request.session["visits"] = request.session.get("visits", 0) + 1
        return int(request.session["visits"])

    return SimpleTemplateResponse(engines["django"].from_string("visit {{ visits }}"), {"visits": visits})


def streamed(request: HttpRequest) -> StreamingHttpResponse:
    visits = request.session["visits"] = request.session.get("visits", 0) + 1
    return StreamingHttpResponse(iter([f"visit {visits}"]))


def missing(request: HttpRequest) -> HttpResponse:
    raise Http404(request.session.get("visits"))


def forbidden(request: HttpRequest) -> HttpResponse:
    raise PermissionDenied(request.session.get("visits"))


def crashing(request: HttpRequest) -> HttpResponse:
    request.session["lost"] = True
    raise ZeroDivisionError


urlpatterns = [
    path("late/", late),
    path("streamed/", streamed),
    path("missing/", missing),
    path("forbidden/", forbidden),
    path("crashing/", crashing),
    path("read/", read),
    path("write/", write),
    path("plain/", plain),
    path("in/", sign_in),
    path("out/", sign_out),
    path("password/", password),
    path("who/", who),
    path("awho/", awho),
    path("cached/", cache_page(60)(who)),
    path("cached-plain/", cache_page(60)(plain)),
    path("public/", public),
    path("delicate/", delicate),
    path("adelicate/", adelicate),
    path("broken/", broken),
    path("devices/", include("backroom.sessions.urls")),
    path("careful/", Devices.as_view(confirm_within=300)),
    path("accounts/login/", LoginView.as_view(template_name="admin/login.html", extra_context={"site_header": ""})),
    path("admin/", admin.site.urls),
]
