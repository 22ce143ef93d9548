"""The addresses of the site."""

from django.urls import include, path

from reports.views import Desk, programs, slow

urlpatterns = [
    path("", Desk.as_view(), name="desk"),
    path("slow/", slow, name="slow"),
    path("programs/", programs, name="programs"),
    path("", include("visitors.urls")),
    path("almanac/", include("almanac.urls")),
    # Every order has an address of its own below this one: its progress, its result, its events.
    path("operations/", include("backroom.offload.urls")),
]
