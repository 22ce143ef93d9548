"""The almanac, for people and for programs, and what can be done to it."""

from django.urls import path

from almanac.views import almanac, crowd, figures, forget

urlpatterns = [
    path("", almanac, name="almanac"),
    path("figures/", figures, name="almanac-figures"),
    path("forget/", forget, name="almanac-forget"),
    path("crowd/", crowd, name="almanac-crowd"),
]
