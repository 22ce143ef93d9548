"""No addresses: a test that needs some names its own module with `@pytest.mark.urls`."""

from django.urls import URLPattern, URLResolver

urlpatterns: list[URLPattern | URLResolver] = []
