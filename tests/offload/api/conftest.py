"""The settings of a project that uses REST framework and drf-spectacular."""

import pytest


@pytest.fixture(autouse=True)
def _rest_framework(settings):
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "rest_framework", "drf_spectacular"]
    settings.REST_FRAMEWORK = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    settings.SPECTACULAR_SETTINGS = {"TITLE": "Reports", "VERSION": "1"}
