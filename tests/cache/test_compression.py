"""Large values made smaller: by zstd where there is any, by zlib elsewhere, each told apart by what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from backroom.cache import compression
from backroom.cache.backends.sqlite import SQLiteCache
from backroom.cache.compression import ZLIB, ZSTD, CannotUnpack, pack, unpack

TEXT = b"the same again and again " * 1_000


@pytest.fixture
def without_zstd(monkeypatch):
    """Have a Python that knows zlib alone."""
    monkeypatch.setattr(compression, "ZSTD_HERE", None)
    monkeypatch.setattr(compression, "_ERRORS", compression._ERRORS[:1])


def test_zstd_is_used_where_it_is():
    how, packed = pack(TEXT)
    assert how == ZSTD
    assert packed.startswith(b"\x28\xb5\x2f\xfd")
    assert len(packed) < len(TEXT) / 20
    assert unpack(how, packed) == TEXT


@pytest.mark.usefixtures("without_zstd")
def test_zlib_is_used_elsewhere():
    how, packed = pack(TEXT)
    assert how == ZLIB
    assert unpack(how, packed) == TEXT


def test_what_zlib_has_packed_is_read_with_zstd_as_well(request):
    request.getfixturevalue("without_zstd")
    how, packed = pack(TEXT)
    request.getfixturevalue("monkeypatch").undo()
    assert unpack(how, packed) == TEXT


@pytest.mark.parametrize("how", [ZLIB, ZSTD])
def test_what_was_damaged_is_refused(how):
    with pytest.raises(CannotUnpack):
        unpack(how, b"no packed bytes")
    with pytest.raises(CannotUnpack):
        unpack(7, b"")


def test_a_value_that_this_process_cannot_unpack_is_a_miss(tmp_path: Path, request, caplog):
    cache = SQLiteCache(tmp_path / "cache.sqlite3", {"OPTIONS": {"COMPRESS_FROM": 1_000}})
    cache.set_many({"text": TEXT.decode(), "pickle": (TEXT,)})
    assert cache.get_many(["text", "pickle"]) == {"text": TEXT.decode(), "pickle": (TEXT,)}
    request.getfixturevalue("without_zstd")
    assert cache.get("text") is None
    assert cache.get_many(["text", "pickle"]) == {}
    assert "backroom[zstd]" in caplog.text
