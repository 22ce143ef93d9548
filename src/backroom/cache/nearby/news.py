"""How processes tell each other which stripes have changed: on Redis, over pub/sub; in front of a file, by a file."""

import contextlib
import json
import logging
import mmap
import os
import random
import select
import threading
import time
from collections.abc import Collection, MutableSequence
from itertools import count
from pathlib import Path
from typing import Any, Final, Protocol

from backroom.cache.trouble import Trouble

logger = logging.getLogger("backroom.cache")

STRIPES: Final = 65_536
MASK: Final = STRIPES - 1
MOST: Final = 5_000
"""Stripes that one message names; more of them are all."""


class News(Protocol):
    """What one process and the others share of a cache's changes."""

    tokens: MutableSequence[int]
    """One of each stripe: another one after each change."""
    hears: bool
    """Whether the tokens can be relied on now."""

    def start(self) -> None:
        """Begin to listen, in this process."""

    def is_settled(self) -> bool:
        """Tell whether what the caller reads now is what everybody reads."""

    def changed(self, stripes: Collection[int] | None) -> None:
        """Change the tokens of stripes, here and wherever else the cache is used; None: of all."""


class NoNews:
    """Nobody else is told: entries are read until they are too old."""

    def __init__(self) -> None:
        self._next = count(1)
        self.tokens: MutableSequence[int] = [0] * STRIPES
        self.hears = True

    def start(self) -> None:
        """See News.start()."""

    def is_settled(self) -> bool:
        """See News.is_settled()."""
        return True

    def changed(self, stripes: Collection[int] | None) -> None:
        """See News.changed()."""
        for stripe in range(STRIPES) if stripes is None else stripes:
            self.tokens[stripe] = next(self._next)


class Deaf(NoNews):
    """There is no way to hear of others' changes, so nothing is read from memory."""

    def __init__(self) -> None:
        super().__init__()
        self.hears = False


class NewsInFile:
    """The tokens are a file that all processes of the machine have mapped: a change is seen in the same moment."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            # A page of a hole in a file ends the process that touches it when the disk is full, so there must be none.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, STRIPES * 8)
            elif os.fstat(descriptor).st_size < STRIPES * 8:
                os.ftruncate(descriptor, STRIPES * 8)
            self._map = mmap.mmap(descriptor, STRIPES * 8)
        finally:
            os.close(descriptor)
        self.tokens: Any = memoryview(self._map).cast("Q")
        self.hears = True

    def start(self) -> None:
        """See News.start()."""

    def is_settled(self) -> bool:
        """See News.is_settled()."""
        return True

    def changed(self, stripes: Collection[int] | None) -> None:
        """See News.changed()."""
        # By chance, not by one more: two processes that change a stripe at once must not arrive at the same token.
        for stripe in range(STRIPES) if stripes is None else stripes:
            self.tokens[stripe] = random.getrandbits(64)


class NewsOnRedis(NoNews):
    """Messages on a channel, and a thread that listens to them. While it cannot, the memory is not read."""

    def __init__(self, server_of: Any, address: Any, channel: str, *, patience: float) -> None:
        super().__init__()
        self.hears = False
        self._server_of = server_of
        self._address = address
        self._channel = channel
        self._patience = patience
        self._trouble = Trouble(str(address))

    def start(self) -> None:
        """See News.start()."""
        threading.Thread(target=self._listen, name="backroom-cache-news", daemon=True).start()

    def changed(self, stripes: Collection[int] | None) -> None:
        """See News.changed()."""
        super().changed(stripes)
        told = None if stripes is None or len(stripes) > MOST else sorted(stripes)
        try:
            self._server_of(self._address).call("PUBLISH", self._channel, json.dumps(told))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others read on for MAX_STALENESS at most
            self._trouble.warn("untold", str(error))

    def _listen(self) -> None:
        pid = os.getpid()
        while os.getpid() == pid:
            link = None
            try:
                link = self._server_of(self._address).link_to(self._channel)
                link.send([("SUBSCRIBE", self._channel)])
                self._hear(link)
            except Exception as error:  # noqa: BLE001 - whatever it is, this goes on
                self._trouble.warn("deaf", str(error))
            finally:
                self.hears = False
                if link is not None:
                    with contextlib.suppress(Exception):
                        link.close()
            time.sleep(min(self._patience / 4, 1))

    def _hear(self, link: Any) -> None:
        """Take in messages until the server is silent although it was asked something."""
        is_asked = True
        # poll() knows descriptors above 1,023, which select() refuses.
        poll = select.poll()
        poll.register(link.fileno(), select.POLLIN)
        while True:
            if not link.has_reply() and not poll.poll(int(self._patience / 4 * 1000) + 1):
                if is_asked:
                    return
                is_asked = True
                link.send([("PING",)])
                continue
            reply = link.reply()
            is_asked = False
            if isinstance(reply, Exception):
                raise reply
            if reply[0] == b"message":
                super().changed(json.loads(reply[2]))
            elif reply[0] == b"subscribe":
                # What was told before was not heard.
                super().changed(None)
                self.hears = True
