"""The addresses of a visitor's pages."""

from django.contrib.auth.views import LogoutView
from django.urls import include, path

from visitors.views import SignIn, SignUp, choose_theme, notepad, session

urlpatterns = [
    path("sign-in/", SignIn.as_view(), name="sign-in"),
    path("sign-up/", SignUp.as_view(), name="sign-up"),
    path("sign-out/", LogoutView.as_view(), name="sign-out"),
    path("notepad/", notepad, name="notepad"),
    path("session/", session, name="session"),
    path("theme/", choose_theme, name="theme"),
    path("devices/", include("backroom.sessions.urls")),
]
