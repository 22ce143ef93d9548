"""Who computes: at most one at a time, for as long as a lease lasts, on whatever cache there is.

A lock is a key that only one can add, with a word that says whose it is; a cache that compares and deletes in one step
(`delete_if`) does so, any other in two. Where `add()` lets two in, as in Django's
file cache, a lock of the operating system takes its place. Nothing that is stored depends on a lock: when one is lost,
a value is computed twice.
"""

import fcntl
import os
import secrets
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from pathlib import Path
from typing import Any, Final

from django.core.cache import caches
from django.core.cache.backends.filebased import FileBasedCache

from backroom.cache.steps import Run, Steps, ask

LOCK_FILE: Final = "backroom.locks"
CAN_LOCK_RANGES: Final = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class Held:
    """A lock that was taken, and how it is given back."""

    give_back: Callable[[], Steps[None]]


def lock_key(key: str) -> str:
    """Return the key under which the lock of another key lies."""
    return f"backroom.lock.{blake2b(key.encode(), digest_size=16).hexdigest()}"


def claim(alias: str, key: str, seconds: float) -> Steps[Held | None]:
    """Take the lock of a key, or return None when another has it; after so many seconds it is free again."""
    if _locks_ranges(alias):
        return (yield from _claim_range(caches[alias], key))
    return (yield from _claim_key(alias, lock_key(key), seconds))


def is_claimed(alias: str, key: str) -> Steps[bool]:
    """Tell whether somebody has the lock of a key. A cache that cannot be written to lets nobody have it."""
    if _locks_ranges(alias):
        return True
    return (yield from ask(alias, "get", lock_key(key))) is not None


def _locks_ranges(alias: str) -> bool:
    return CAN_LOCK_RANGES and isinstance(caches[alias], FileBasedCache)


def _claim_key(alias: str, key: str, seconds: float) -> Steps[Held | None]:
    word = secrets.token_hex(8)
    if not (yield from ask(alias, "add", key, word, ceil(seconds))):
        return None

    def give_back() -> Steps[None]:
        # After the lease another may hold it.
        if hasattr(caches[alias], "delete_if"):
            yield from ask(alias, "delete_if", key, word)
        elif (yield from ask(alias, "get", key)) == word:
            yield from ask(alias, "delete", key)

    return Held(give_back)


def _claim_range(cache: Any, key: str) -> Steps[Held | None]:
    """Lock one byte, far behind the end of an empty file; the system frees it when this process ends."""
    # Its folder is what the backend calls it; there is no public name.
    path = Path(cache._dir) / LOCK_FILE  # noqa: SLF001
    place = int.from_bytes(blake2b(cache.make_key(key).encode(), digest_size=7).digest())
    descriptor: int | None = yield Run(lambda: _lock(path, place))
    if descriptor is None:
        return None

    def give_back() -> Steps[None]:
        yield Run(lambda: os.close(descriptor))

    return Held(give_back)


def _lock(path: Path, place: int) -> int | None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # struct flock: of the open file rather than of the process, so that threads keep one another out too.
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, place, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except BaseException as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | PermissionError):
            return None
        raise
    return descriptor
