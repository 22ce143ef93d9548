"""What `manage.py check` says of CACHES with our backends in it."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings

from backroom.cache.backends.checks import check_backends

THE_DATABASE = "the database of this run"
SQLITE = "backroom.cache.backends.sqlite.SQLiteCache"


@pytest.mark.parametrize(
    ("params", "ids"),
    [
        ({"LOCATION": "/var/lib/site/cache.sqlite3"}, []),
        (
            {"LOCATION": "/c", "OPTIONS": {"MAX_BYTES": None, "MAX_ENTRIES": 100, "JITTER": 0.1, "FORMAT": "msgpack"}},
            [],
        ),
        ({"LOCATION": "/c", "OPTIONS": {"MAX_BYTE": 7}}, ["backroom.E501"]),
        ({"LOCATION": "/c", "OPTIONS": {"MAX_BYTES": 7}}, ["backroom.E501"]),
        ({"LOCATION": "/c", "OPTIONS": {"FORMAT": "yaml"}}, ["backroom.E501"]),
        ({"LOCATION": "/c", "OPTIONS": {"JITTER": 2}}, ["backroom.E501"]),
        ({"LOCATION": "/c", "OPTIONS": {"CULL_FREQUENCY": 3}}, ["backroom.W501"]),
        ({}, ["backroom.E502"]),
        ({"LOCATION": THE_DATABASE}, ["backroom.E503"]),
        ({"LOCATION": "/srv/media/cache.sqlite3"}, ["backroom.W502"]),
    ],
)
def test_what_is_wrong_is_said(params, ids):
    databases: dict[str, Any] = settings.DATABASES
    if params.get("LOCATION") == THE_DATABASE:
        params = {"LOCATION": databases["default"]["NAME"]}
    ours = {"BACKEND": SQLITE, **params}
    djangos = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"CULL_FREQUENCY": 3}}
    with override_settings(CACHES={"default": ours, "other": djangos}, MEDIA_ROOT="/srv/media"):
        found = check_backends()
    assert [message.id for message in found] == ids
    assert all(message.hint for message in found)


def test_an_unknown_option_comes_with_a_suggestion():
    with override_settings(CACHES={"default": {"BACKEND": SQLITE, "LOCATION": "/c", "OPTIONS": {"MAX_BYTE": 7}}}):
        (message,) = check_backends()
    assert "'MAX_BYTES'" in message.msg
