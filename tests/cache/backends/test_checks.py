"""What `manage.py check` says of CACHES with our backends in it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import SystemCheckError
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
        ({"LOCATION": ["/c", "/d"]}, ["backroom.E502"]),
        ({"LOCATION": THE_DATABASE}, ["backroom.E503"]),
        ({"LOCATION": "/srv/media/cache.sqlite3"}, ["backroom.W502"]),
        ({"LOCATION": "/var"}, ["backroom.E502"]),
        ({"LOCATION": "cache.sqlite3"}, ["backroom.W503"]),
        ({"LOCATION": Path("cache", "one.sqlite3")}, ["backroom.W503"]),
        ({"LOCATION": "/c", "MAX_BYTES": None, "jitter": 0.1, "TIMEOUT": 5, "KEY_PREFIX": "k"}, ["backroom.E501"] * 2),
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


REDIS = "backroom.cache.backends.redis.RedisCache"
TIERED = "backroom.cache.backends.tiered.TieredCache"


@pytest.mark.parametrize(
    ("params", "ids"),
    [
        ({"BACKEND": REDIS, "LOCATION": "redis://127.0.0.1:6379/1"}, []),
        ({"BACKEND": REDIS, "LOCATION": ["redis://a/1", "rediss://b/1"], "OPTIONS": {"SENTINELS": ["c:26379"]}}, []),
        ({"BACKEND": REDIS}, ["backroom.E504"]),
        ({"BACKEND": REDIS, "LOCATION": "127.0.0.1:6379"}, ["backroom.E504"]),
        ({"BACKEND": REDIS, "LOCATION": "redis://a/1;memcached://b"}, ["backroom.E504"]),
        ({"BACKEND": REDIS, "LOCATION": "redis://tasks/0", "OPTIONS": {"SENTINELS": ["c"]}}, ["backroom.E504"]),
        ({"BACKEND": REDIS, "LOCATION": "redis://a/1", "OPTIONS": {"IGNORE_EXCEPTION": True}}, ["backroom.E501"]),
        ({"BACKEND": REDIS, "LOCATION": "redis://a/1", "OPTIONS": {"SOCKET_TIMEOUT": 0}}, ["backroom.E501"]),
        ({"BACKEND": TIERED, "LOCATION": "other", "OPTIONS": {"MAX_STALENESS": 5}}, []),
        ({"BACKEND": TIERED, "LOCATION": "other", "OPTIONS": {"MAX_STALENES": 5}}, ["backroom.E501"]),
        ({"BACKEND": TIERED, "LOCATION": "other", "OPTIONS": {"MAX_STALENESS": 0}}, ["backroom.E501"]),
        ({"BACKEND": TIERED, "LOCATION": "other", "MAX_STALENESS": 5}, ["backroom.E501"]),
        ({"BACKEND": REDIS, "LOCATION": "redis://a/1", "SOCKET_TIMEOUT": 1}, ["backroom.E501"]),
        ({"BACKEND": TIERED, "LOCATION": "nowhere"}, ["backroom.E504"]),
        ({"BACKEND": TIERED, "LOCATION": "default"}, ["backroom.E504"]),
        ({"BACKEND": TIERED}, ["backroom.E504"]),
        ({"BACKEND": TIERED, "LOCATION": ["other"]}, ["backroom.E504"]),
    ],
)
def test_what_is_wrong_with_a_server_or_two_tiers_is_said(params, ids, caplog):
    other = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    with override_settings(CACHES={"default": params, "other": other}, BACKROOM={}):
        found = check_backends()
    assert [message.id for message in found] == ids
    assert all(message.hint for message in found)
    assert not caplog.records


def test_the_words_say_what_to_write():
    ours = {"BACKEND": SQLITE, "LOCATION": "cache.sqlite3", "MAX_ENTRIES": 9, "OPTIONS": {"MAX_BYTES": 7}}
    with override_settings(CACHES={"default": ours}):
        option, misplaced, location = [f"{message.msg} {message.hint}" for message in check_backends()]
    assert "Option 'MAX_BYTES' is 7. Use a whole number of at least 1,048,576 or None. " in option
    assert misplaced == (
        "CACHES['default'] has 'MAX_ENTRIES' beside OPTIONS, where nothing reads it. Put it into OPTIONS, as 'MAX_ENTRIES'."
    )
    assert location == (
        "CACHES['default'] has the LOCATION 'cache.sqlite3', which is another file in each folder that a process is started "
        "in. Say where it is: BASE_DIR / 'cache.sqlite3'."
    )


def test_a_folder_for_a_location_keeps_nothing_as_its_check_says(tmp_path):
    with override_settings(CACHES={"default": {"BACKEND": SQLITE, "LOCATION": tmp_path}}):
        (found,) = check_backends()
        caches["default"].set("key", 1)
        assert caches["default"].get("key") is None
        caches["default"].close()
    assert str(found.hint).endswith("Until then nothing is cached.")


VERBS = [
    lambda cache: cache.get("key"),
    lambda cache: cache.get_many(["key"]),
    lambda cache: cache.set("key", 1),
    lambda cache: cache.add("key", 1),
    lambda cache: cache.incr("key"),
    lambda cache: cache.delete("key"),
    lambda cache: cache.ttl("key"),
    lambda cache: cache.clear(),
    lambda cache: cache.lock("key").acquire(blocking=False),
    lambda cache: async_to_sync(cache.aget)("key"),
    lambda cache: async_to_sync(cache.aset)("key", 1),
]


@pytest.mark.parametrize(
    ("params", "id_"),
    [
        ({"BACKEND": SQLITE}, "backroom.E502"),
        ({"BACKEND": SQLITE, "LOCATION": ["/c"]}, "backroom.E502"),
        ({"BACKEND": TIERED, "LOCATION": "without"}, "backroom.E502"),
        ({"BACKEND": TIERED, "LOCATION": "nowhere"}, "backroom.E504"),
        ({"BACKEND": TIERED, "LOCATION": "default"}, "backroom.E504"),
    ],
)
def test_a_cache_that_names_no_place_ends_in_a_message_and_not_in_a_traceback(params, id_, tmp_path, monkeypatch):
    """Checks of Django's own make every cache that there is."""
    monkeypatch.chdir(tmp_path)
    others = {} if params["BACKEND"] == SQLITE else {"without": {"BACKEND": SQLITE}}
    with override_settings(CACHES={"default": params, **others}):
        with pytest.raises(SystemCheckError, match=id_):
            call_command("check", tags=["caches", "backroom"])
        for verb in VERBS:
            with pytest.raises(ImproperlyConfigured, match="LOCATION"):
                verb(caches["default"])
        caches["default"].close()
    assert not list(tmp_path.parent.glob(f"{tmp_path.name}*/*"))


def test_to_check_a_cache_makes_no_file(tmp_path):
    """Whoever builds an image is another user than the one who runs it, and could not share what they made."""
    folder = tmp_path / "cache"
    with override_settings(CACHES={"default": {"BACKEND": SQLITE, "LOCATION": folder / "cache.sqlite3"}}):
        call_command("check", tags=["caches", "backroom"])
        assert not folder.exists()


@pytest.mark.parametrize(
    ("backend", "wrong", "right"),
    [(REDIS, "IGNORE_EXCEPTION", "IGNORE_EXCEPTIONS"), (TIERED, "MAX_STALENES", "MAX_STALENESS")],
)
def test_every_backend_suggests_what_was_meant(backend, wrong, right):
    place = {REDIS: "redis://a/1", TIERED: "default"}[backend]
    ours = {"BACKEND": backend, "LOCATION": place, "OPTIONS": {wrong: 1}}
    with override_settings(
        CACHES={"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}, "ours": ours}
    ):
        (message,) = check_backends()
    assert f"'{right}'" in message.msg


def test_an_unknown_option_comes_with_a_suggestion():
    with override_settings(CACHES={"default": {"BACKEND": SQLITE, "LOCATION": "/c", "OPTIONS": {"MAX_BYTE": 7}}}):
        (message,) = check_backends()
    assert "'MAX_BYTES'" in message.msg


def test_what_djangos_backend_takes_as_an_option_is_told_its_place():
    options = {"db": 2, "PASSWORD": "hush", "IGNORE_EXCEPTION": True}
    ours = {"BACKEND": REDIS, "LOCATION": "redis://a", "OPTIONS": options}
    with override_settings(CACHES={"default": ours}):
        *moved, mistyped = [message.hint for message in check_backends()]
    place = "It is part of LOCATION: redis://username:password@host:6379/db. Until then the option is left out."
    assert moved == [place, place]
    assert mistyped == "Until then the option is left out."


def test_a_mistyped_key_beside_options_is_told_what_was_meant():
    ours = {"BACKEND": SQLITE, "LOCATION": "/c", "TIMOUT": 5, "key_prefix": "k", "OWNER": "of a backend made of ours"}
    with override_settings(CACHES={"default": ours}):
        (message,) = check_backends()
    assert (message.id, message.hint) == ("backroom.E501", "Did you mean 'TIMEOUT'?")


def test_a_format_whose_package_is_missing_is_told_and_so_is_where_redis_is_named(monkeypatch):
    monkeypatch.setattr("backroom.cache.backends.base.find_spec", lambda _name: None)
    caches = {
        "default": {"BACKEND": REDIS, "LOCATION": "redis://a/1", "OPTIONS": {"FORMAT": "msgpack"}},
        "nowhere": {"BACKEND": REDIS},
    }
    with override_settings(CACHES=caches, BACKROOM={}):
        missing, unnamed = check_backends()
    assert (missing.id, unnamed.id) == ("backroom.E501", "backroom.E504")
    assert "pip install msgpack" in missing.msg
    assert "Set LOCATION, or BACKROOM['REDIS_URL']" in unnamed.msg


@pytest.mark.parametrize(("timeout", "left"), [(math.inf, None), (-math.inf, 0), (math.nan, 300)])
def test_a_timeout_that_is_no_number_ends_no_command(tmp_path, timeout, left):
    """Of an infinite one Django's own class raises, and with it every check and every command."""
    ours = {"BACKEND": SQLITE, "LOCATION": tmp_path / "c", "TIMEOUT": timeout}
    with override_settings(CACHES={"default": ours}):
        assert check_backends() == []
        assert caches["default"].default_timeout == left
        caches["default"].set("a", 1)
        assert caches["default"].get("a") == (None if left == 0 else 1)
