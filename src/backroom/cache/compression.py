"""Make large values smaller: zstd where Python or its backport has it, zlib everywhere else. It knows bytes and nothing else.

What was packed says how, so a process without zstd reads what zlib packed, and refuses the rest.
"""

import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final, NamedTuple

ZLIB: Final = 1
ZSTD: Final = 2
LEVEL: Final = {ZLIB: 1, ZSTD: 1}
"""The quickest: a cache is asked for time, not for space."""


class CannotUnpack(Exception):
    """The bytes are not what they say they are, or this process lacks the package that reads them."""


class _Zstd(NamedTuple):
    pack: Callable[[bytes], bytes]
    unpack: Callable[[bytes], bytes]
    error: type[Exception]


def pack(data: bytes) -> tuple[int, bytes]:
    """Return how the data was packed, and the packed bytes."""
    if ZSTD_HERE:
        return ZSTD, ZSTD_HERE.pack(data)
    return ZLIB, zlib.compress(data, LEVEL[ZLIB])


def unpack(how: int, data: bytes) -> bytes:
    """Return what was packed; raise `CannotUnpack`."""
    try:
        if how == ZLIB:
            return zlib.decompress(data)
        if how == ZSTD and ZSTD_HERE:
            return ZSTD_HERE.unpack(data)
    except _ERRORS as error:
        raise CannotUnpack(str(error)) from None
    msg = f"packed in a way ({how}) that needs the extra backroom[zstd], or Python 3.14"
    raise CannotUnpack(msg)


def _find_zstd() -> _Zstd | None:
    for name in ("compression.zstd", "backports.zstd"):
        if module := _module(name):
            return _Zstd(lambda data: module.compress(data, LEVEL[ZSTD]), module.decompress, module.ZstdError)
    return None


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        return None


ZSTD_HERE: Final = _find_zstd()
_ERRORS: Final = (zlib.error, ZSTD_HERE.error) if ZSTD_HERE else (zlib.error,)
