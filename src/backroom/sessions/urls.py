"""The addresses of the page "your devices": `path("devices/", include("backroom.sessions.urls"))`."""

from django.urls import path

from backroom.sessions.views import Devices

app_name = "backroom_sessions"

urlpatterns = [path("", Devices.as_view(), name="devices")]
