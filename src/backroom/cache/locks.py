"""Who computes: at most one at a time, for as long as a lease lasts, on whatever cache there is.

A lock is a key that only one can add, with a word that says whose it is; a cache that compares and deletes in one step
(`delete_if`) does so, any other in two. Where `add()` lets two in, as in Django's
file cache, a lock of the operating system takes its place. Nothing that is stored depends on a lock: when one is lost,
a value is computed twice.
"""

import fcntl
import logging
import os
import secrets
import struct
import sys
from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from math import ceil
from pathlib import Path
from threading import Lock
from typing import Any, Final

from django.core.cache import caches
from django.core.cache.backends.filebased import FileBasedCache

from backroom.cache.folders import make_private
from backroom.cache.steps import Run, Steps, ask

logger = logging.getLogger("backroom.cache")

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
    if is_always_claimed(alias):
        return (yield from _claim_range(caches[alias], key))
    return (yield from _claim_key(alias, lock_key(key), seconds))


def is_always_claimed(alias: str) -> bool:
    """Tell whether somebody has a lock that is not to be had, without a look at its key: it is a byte of a file."""
    return CAN_LOCK_RANGES and isinstance(caches[alias], FileBasedCache)


def _claim_key(alias: str, key: str, seconds: float) -> Steps[Held | None]:
    word = secrets.token_hex(8)

    def give_back() -> Steps[None]:
        try:
            # After the lease another may hold it.
            if hasattr(caches[alias], "delete_if"):
                yield from ask(alias, "delete_if", key, word)
            elif (yield from ask(alias, "get", key)) == word:
                yield from ask(alias, "delete", key)
        except Exception as error:  # noqa: BLE001 - what was made is to be served; the lock ends with its lease
            logger.warning("action=lock-not-given-back error=%s", type(error).__qualname__)

    try:
        is_ours = yield from ask(alias, "add", key, word, ceil(seconds))
    except CancelledError:
        # It may have been taken all the same.
        yield from give_back()
        raise
    return Held(give_back) if is_ours else None


def _claim_range(cache: Any, key: str) -> Steps[Held | None]:
    """Lock one byte, far behind the end of an empty file; the system frees it when this process ends."""
    # Its folder is what the backend calls it; there is no public name.
    path = Path(cache._dir) / LOCK_FILE  # noqa: SLF001
    place = int.from_bytes(blake2b(cache.make_key(key).encode(), digest_size=7).digest())
    attempt = _Attempt()
    try:
        descriptor: int | None = yield Run(lambda: attempt.keep(_lock(path, place)))
    except CancelledError:
        attempt.give_up()
        raise
    if descriptor is None:
        return None

    def give_back() -> Steps[None]:
        # It waits for nothing, so it is no step: steps that are closed take none any more.
        os.close(descriptor)
        yield from ()

    return Held(give_back)


class _Attempt:
    """A lock that a thread takes for somebody who may not be there any more when it has it."""

    def __init__(self) -> None:
        self._guard = Lock()
        self._is_given_up = False
        self._descriptor: int | None = None

    def keep(self, descriptor: int | None) -> int | None:
        """Return what was taken, or close it if nobody wants it."""
        with self._guard:
            self._descriptor = descriptor
            if self._is_given_up:
                self._close()
        return descriptor

    def give_up(self) -> None:
        """Close what was taken, and what will be."""
        with self._guard:
            self._is_given_up = True
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _lock(path: Path, place: int) -> int | None:
    make_private(path.parent)
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
