"""The names of several keys, made together, are those that each has by itself."""

from __future__ import annotations

import gc
import tracemalloc
import warnings
from typing import Any

import pytest
from django.core.cache import CacheKeyWarning

from backroom.cache.backends.sqlite import SQLiteCache
from backroom.cache.onefile.statements import id_of, ids_of

KEYS: list[list[Any]] = [
    [],
    ["a", 7, b"raw"],
    ["a", "ü", "half \udc80"],
    ["a", "with space"],
    ["a", "\x7f"],
    ["a", "x" * 300],
    ["twice", "twice"],
]


def backwards(key: str, prefix: str, version: int) -> str:
    return f"{version}.{prefix}.{str(key)[::-1]}"


@pytest.mark.parametrize("keys", KEYS)
@pytest.mark.parametrize("params", [{}, {"KEY_PREFIX": "shop", "VERSION": 3}, {"KEY_FUNCTION": backwards}])
def test_keys_made_together_are_named_as_alone_and_warned_of_as_often(tmp_path, params, keys):
    cache = SQLiteCache(tmp_path / "cache.sqlite3", params)
    for version in (None, 9):
        with warnings.catch_warnings(record=True) as alone:
            warnings.simplefilter("always", CacheKeyWarning)
            expected = [cache.make_and_validate_key(key, version) for key in keys]
        with warnings.catch_warnings(record=True) as together:
            warnings.simplefilter("always", CacheKeyWarning)
            found = cache.make_and_validate_keys(keys, version)
        assert found == expected
        assert len(together) == len(alone)
        assert ids_of(found) == [id_of(each) for each in found]


def test_nothing_is_kept_of_how_many_keys_there_were():
    keys = [f"key-{number}" for number in range(2_000)]
    gc.collect()
    tracemalloc.start()
    try:
        for count in range(1_950, 2_000):
            ids_of(keys[:count])
        assert tracemalloc.get_traced_memory()[0] < 500_000
    finally:
        tracemalloc.stop()


class Suspicious(SQLiteCache):
    def validate_key(self, key: str) -> None:
        if "secret" in key:
            msg = "No secrets here."
            raise ValueError(msg)


def test_a_validation_of_the_projects_own_is_asked_of_each_key(tmp_path):
    with pytest.raises(ValueError, match="No secrets"):
        Suspicious(tmp_path / "cache.sqlite3", {}).get_many(["plain", "secret"])
