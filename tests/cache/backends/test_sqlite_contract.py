"""The contract of caches, on SQLiteCache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from backroom.cache.backends.sqlite import SQLiteCache
from backroom.testing.cache import CacheContract, LockContract


class OnSQLite:
    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.location = tmp_path / "cache.sqlite3"

    def make_cache(self, **params: Any) -> SQLiteCache:
        return SQLiteCache(self.location, params)


class TestSQLiteCache(OnSQLite, CacheContract, LockContract):
    pass


class TestSQLiteCacheWithMsgpack(OnSQLite, CacheContract, LockContract):
    def make_cache(self, **params: Any) -> SQLiteCache:
        return SQLiteCache(self.location, {"OPTIONS": {"FORMAT": "msgpack", "COMPRESS_FROM": 10}} | params)
