"""The pages of a visitor: sign-in, notepad, the session and its cookie, the colours."""

import json
import time
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import UserCreationForm
from django.contrib.auth.views import LoginView
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse, reverse_lazy
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods, require_POST
from django.views.generic import CreateView

from visitors.forms import TWO_WEEKS, EntryForm, NoteForm, SignInForm
from visitors.theme import is_theme, theme

NOTE: Final = "note-"
"""What the name of each note begins with. Each has a name of its own, so two tabs that note at once both keep theirs."""
MOST_NOTES: Final = 20
SHOWN_OF_AN_ID: Final = 6

DONE: Final = {
    "set": "The name was set. One statement merged it into the session.",
    "deleted": "The name was deleted.",
    "cleared": "Everything in the session was deleted. Its id is the same.",
    "flushed": "The session was ended and its row deleted. The next thing that you keep begins another one.",
    "renewed": "The session has a new id and the same contents.",
    "expiry": "The end of the session was moved.",
}
EXPIRIES: Final[dict[str, tuple[str, int | timedelta | None]]] = {
    "minute": ("in a minute", timedelta(minutes=1)),
    "close": ("when the browser closes", 0),
    "default": ("as the settings say", None),
    "now": ("now", -1),
}


class SignIn(LoginView):
    """Signing in keeps what the visitor had in the session, and gives it a new id."""

    template_name = "visitors/sign_in.html"
    authentication_form = SignInForm

    def form_valid(self, form: BaseForm) -> HttpResponse:
        """Sign in, until the browser closes or for two weeks."""
        response = super().form_valid(form)  # type: ignore[arg-type]
        self.request.session.set_expiry(TWO_WEEKS if form.cleaned_data["remember"] else 0)
        return response


class SignUp(CreateView):  # type: ignore[type-arg]
    """A name and a password are all that an account is."""

    template_name = "visitors/sign_up.html"
    form_class = UserCreationForm
    success_url = reverse_lazy("notepad")

    def form_valid(self, form: Any) -> HttpResponse:
        """Make the account and sign in."""
        response = super().form_valid(form)
        login(self.request, form.instance)
        self.request.session.set_expiry(0)
        return response


@require_http_methods(["GET", "HEAD", "POST"])
def notepad(request: HttpRequest) -> HttpResponse:
    """Keep notes in the session of whoever comes, signed in or not."""
    form = NoteForm(request.POST if "add" in request.POST else None)
    if request.method == "POST":
        if (name := request.POST.get("delete", "")).startswith(NOTE):
            request.session.pop(name, None)
            return _see("notepad")
        if form.is_valid():
            request.session[f"{NOTE}{time.time_ns()}"] = form.cleaned_data["text"]
            for name, _text in _notes(request)[:-MOST_NOTES]:
                del request.session[name]
            return _see("notepad")
    return render(request, "visitors/notepad.html", {"notes": _notes(request), "form": form, "most": MOST_NOTES})


@require_http_methods(["GET", "HEAD", "POST"])
def session(request: HttpRequest) -> HttpResponse:
    """Show what the cookie says and what the server has, with a button for each thing that can be done."""
    form = EntryForm()
    if request.method == "POST":
        if "set" in request.POST:
            form = EntryForm(request.POST)
            if form.is_valid():
                request.session[form.cleaned_data["name"]] = form.cleaned_data["value"]
                return _see("session", "set")
        elif done := _done_to(request):
            return _see("session", done)
    return render(request, "visitors/session.html", {**_shown(request), "form": form})


@require_POST
def choose_theme(request: HttpRequest) -> HttpResponse:
    """Remember the colours in a cookie, or forget them, and go back to the page."""
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    response = _redirect(back if safe else reverse("desk"))
    chosen = request.POST.get("theme", "")
    if is_theme(chosen):
        theme.set(response, chosen)
    else:
        theme.delete(response)
    return response


def _notes(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the names and texts of the notes, the oldest first."""
    return sorted((name, text) for name, text in request.session.items() if name.startswith(NOTE))


def _done_to(request: HttpRequest) -> str:
    """Do what a button says to the session, and return the word for it; "" for no button of ours."""
    match next(iter(request.POST.keys() & {"delete", "clear", "flush", "renew", "expiry"}), ""):
        case "delete":
            request.session.pop(request.POST["delete"], None)
            return "deleted"
        case "clear":
            request.session.clear()
            return "cleared"
        case "flush":
            request.session.flush()
            return "flushed"
        case "renew":
            request.session.cycle_key()
            return "renewed"
        case "expiry" if request.POST["expiry"] in EXPIRIES:
            request.session.set_expiry(EXPIRIES[request.POST["expiry"]][1])
            return "expiry"
        case _:
            return ""


def _shown(request: HttpRequest) -> dict[str, Any]:
    contents = request.session
    entries = [(name, json.dumps(value, ensure_ascii=False)) for name, value in contents.items()]
    session_id = contents.session_key
    return {
        "cookie_name": settings.SESSION_COOKIE_NAME,
        # The whole of it opens the session: over somebody's shoulder, too.
        "cookie_value": f"{session_id[:SHOWN_OF_AN_ID]}…" if session_id else "",
        "entries": [(name, value) for name, value in entries if not name.startswith("_")],
        "own_entries": [name for name, _value in entries if name.startswith("_")],
        "info": getattr(contents, "info", None),
        "closes_with_browser": contents.get_expire_at_browser_close(),
        "done": DONE.get(request.GET.get("done", "")),
        "expiries": [(word, label) for word, (label, _value) in EXPIRIES.items()],
    }


def _see(name: str, done: str = "") -> HttpResponse:
    return _redirect(reverse(name) + (f"?done={done}" if done else ""))


def _redirect(url: str) -> HttpResponse:
    response = HttpResponseRedirect(url)
    # 303: the page is fetched again, and reloading it sends no form twice.
    response.status_code = HTTPStatus.SEE_OTHER
    return response
