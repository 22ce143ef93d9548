"""The page "your devices": where one is signed in, with a button that ends it. It works without scripts."""

from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import logout
from django.contrib.auth.mixins import LoginRequiredMixin
from django.contrib.auth.views import redirect_to_login
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from backroom.sessions import people
from backroom.sessions.info import SessionInfo
from backroom.sessions.stepup import was_recently_authenticated

CSP_MIDDLEWARE: Final = "django.middleware.csp.ContentSecurityPolicyMiddleware"
STRICT_CSP: Final = (
    "default-src 'none'; style-src {static}; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@method_decorator(never_cache, name="dispatch")
class Devices(LoginRequiredMixin, TemplateView):
    """GET lists the user's sessions; POST ends one (`end`), all others (`end_others`), or names one (`name`, `label`).

    With `confirm_within`, a number of seconds, who ends or names one must have signed in within that time, and is sent
    to do so otherwise (ASVS 5.0, 7.5.2).
    """

    template_name = "backroom/sessions/devices.html"
    title = _("Your devices")
    confirm_within: float | None = None
    strict_csp = True

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Give the page the policy that it was made for, unless the site has one of its own."""
        response = super().dispatch(request, *args, **kwargs)
        if self.strict_csp and CSP_MIDDLEWARE not in settings.MIDDLEWARE:
            response.headers.setdefault("Content-Security-Policy", STRICT_CSP.format(static=_static_source()))
        return response

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add the sessions, this one first, and what was just done."""
        session: Any = self.request.session
        found = people.sessions_of(self.request.user)
        here = session.key_hash
        ordered = sorted(found, key=lambda each: each.last_seen_at, reverse=True)
        mine = [each for each in ordered if each.key == here]
        others = [each for each in ordered if each.key != here]
        done = self.request.GET.get("done")
        return super().get_context_data(title=self.title, current=mine, others=others, done=done, **kwargs)

    def post(self, request: HttpRequest) -> HttpResponseBase:
        """Do what a button says, and show the page again."""
        if self.confirm_within is not None and not was_recently_authenticated(request, self.confirm_within):
            return redirect_to_login(request.path)
        if "end_others" in request.POST:
            people.revoke_others(request)
            return self._again("others")
        if (handle := request.POST.get("end")) is not None:
            return self._end(self._find(handle))
        if (handle := request.POST.get("name")) is not None:
            people.set_label(self._find(handle), request.POST.get("label", ""))
            return self._again("name")
        return HttpResponse(status=HTTPStatus.BAD_REQUEST)

    def _end(self, found: SessionInfo) -> HttpResponseBase:
        session: Any = self.request.session
        if found.key == session.key_hash:
            logout(self.request)
            return _see_other(str(settings.LOGOUT_REDIRECT_URL or "/"))
        people.revoke(found)
        return self._again("one")

    def _find(self, handle: str) -> SessionInfo:
        """Return one of the user's own sessions: nobody else's can be named here."""
        for each in people.sessions_of(self.request.user):
            if each.handle == handle:
                return each
        raise Http404

    def _again(self, done: str) -> HttpResponseBase:
        return _see_other(f"{self.request.path}?done={done}")


def devices_url() -> str:
    """Return where the page is."""
    return reverse("backroom_sessions:devices")


def _see_other(url: str) -> HttpResponseBase:
    response = HttpResponseRedirect(url)
    response.status_code = HTTPStatus.SEE_OTHER
    return response


def _static_source() -> str:
    scheme, separator, rest = (settings.STATIC_URL or "").partition("//")
    return f"'self' {scheme}//{rest.partition('/')[0]}" if separator else "'self'"
