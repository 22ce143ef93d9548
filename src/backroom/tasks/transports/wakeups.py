"""Wake idle workers at once. Only ever a hint: a worker that hears nothing finds its work by polling.

SQLite has no way to tell another process of a commit, so an enqueue rings every worker on the machine through a
datagram socket. PostgreSQL tells by NOTIFY, which `stores.sql` sends with the INSERT itself.
"""

import contextlib
import hashlib
import logging
import os
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from django.db import connections, transaction

from backroom.sql.dialect import fetch, is_server

logger = logging.getLogger("backroom.worker")

REST: Final = 0.002
"""Seconds that a listener rests after a ring; rings that come meanwhile are heard as one."""
HEARTBEAT: Final = 1.0
"""Seconds after which a waiting listener looks whether it is to stop."""
PATIENCE: Final = 5.0
"""Seconds before a listener that lost its server tries again."""
TRUST: Final = 5.0
"""Seconds for which a folder that was this user's own is taken to be so still."""
MOST_BELLS: Final = 256
"""Bells that one ring reaches: an enqueue must not take the longer, the more of them dead workers left behind."""

type OnRing = Callable[[], None]


class Listener(Protocol):
    """Calls back when a ring arrives."""

    def start(self) -> None:
        """Begin to listen, in a thread of its own."""

    def stop(self) -> None:
        """Stop listening."""


class Wakeup(Protocol):
    """One way to wake the workers of one backend."""

    channel: str | None
    """The PostgreSQL channel that an INSERT is to notify, if that is the way."""

    def ring_on_commit(self) -> None:
        """Ring when the caller's transaction commits; at once when there is none."""

    def ring(self) -> None:
        """Ring every worker that listens."""

    def listener(self, on_ring: OnRing) -> Listener:
        """Return what calls `on_ring` at each ring."""


@cache
def wakeup_of(database: str, backend_name: str, *, is_on: bool) -> Wakeup:
    """Return how the workers of a backend are woken."""
    if not is_on:
        return Silence()
    if is_server(database):
        return Notifications(database, channel_of(backend_name))
    return Doorbell(database, _address(database))


def channel_of(backend_name: str) -> str:
    """Return the PostgreSQL channel of a backend; its name may hold anything, a channel's may not."""
    return f"backroom_{hashlib.sha256(backend_name.encode()).hexdigest()[:16]}"


class Silence:
    """No wake-up: polling alone."""

    channel: str | None = None

    def ring_on_commit(self) -> None:
        """See Wakeup.ring_on_commit()."""

    def ring(self) -> None:
        """See Wakeup.ring()."""

    def listener(self, _on_ring: OnRing) -> Listener:
        """See Wakeup.listener()."""
        return self

    def start(self) -> None:
        """See Listener.start()."""

    def stop(self) -> None:
        """See Listener.stop()."""


class Doorbell:
    """A folder of datagram sockets, one for each worker process on this machine that has the same database file."""

    channel: str | None = None

    def __init__(self, database: str, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._sender: socket.socket | None = None
        self._trusted_until = 0.0

    def ring_on_commit(self) -> None:
        """See Wakeup.ring_on_commit()."""
        if connections[self._database].in_atomic_block:
            transaction.on_commit(self.ring, using=self._database, robust=True)
        else:
            self.ring()

    def ring(self) -> None:
        """See Wakeup.ring()."""
        try:
            self._trust()
            with os.scandir(self._folder) as entries:
                for entry in islice(entries, MOST_BELLS):
                    self._ring_one(entry.path)
        except OSError:
            # No worker of this user's has hung one up.
            return

    def listener(self, on_ring: OnRing) -> Listener:
        """See Wakeup.listener()."""
        return _DoorbellListener(self._folder, on_ring)

    def _trust(self) -> None:
        """Raise `OSError` unless the folder is this user's own: what lies in it is written to, and deleted."""
        if time.monotonic() >= self._trusted_until:
            _check_private(self._folder)
            self._trusted_until = time.monotonic() + TRUST

    def _ring_one(self, path: str) -> None:
        if self._sender is None:
            self._sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._sender.settimeout(0)
        try:
            self._sender.sendto(b"!", path)
        except ConnectionRefusedError:
            # Its worker was killed before it could take the bell down.
            with contextlib.suppress(OSError):
                Path(path).unlink()
        except OSError:
            # A full buffer means that it has been rung already.
            return


class _DoorbellListener:
    def __init__(self, folder: Path, on_ring: OnRing) -> None:
        self._folder = folder
        self._on_ring = on_ring
        self._path = folder / f"{os.getpid()}-{os.urandom(3).hex()}"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._is_stopped = False

    def start(self) -> None:
        """See Listener.start()."""
        try:
            _make_private(self._folder)
            self._socket.bind(str(self._path))
        except OSError as error:
            self._socket.close()
            logger.warning("action=doorbell_off reason=%r: workers find new tasks by polling", str(error))
            return
        threading.Thread(target=self._listen, name="backroom-doorbell", daemon=True).start()

    def stop(self) -> None:
        """See Listener.stop()."""
        self._is_stopped = True
        with contextlib.suppress(OSError):
            self._path.unlink()

    def _listen(self) -> None:
        self._socket.settimeout(HEARTBEAT)
        while not self._is_stopped:
            with contextlib.suppress(TimeoutError):
                self._socket.recv(1)
                self._on_ring()
                time.sleep(REST)
        self._socket.close()


class Notifications:
    """PostgreSQL's LISTEN, on a connection of its own."""

    def __init__(self, database: str, channel: str) -> None:
        self._database = database
        self.channel: str | None = channel

    def ring_on_commit(self) -> None:
        """See Wakeup.ring_on_commit(); the INSERT has notified already, in the caller's transaction."""

    def ring(self) -> None:
        """See Wakeup.ring()."""
        fetch(self._database, "SELECT pg_notify(%s, '')", [self.channel])

    def listener(self, on_ring: OnRing) -> Listener:
        """See Wakeup.listener()."""
        return _NotificationListener(self._database, str(self.channel), on_ring)


class _NotificationListener:
    def __init__(self, database: str, channel: str, on_ring: OnRing) -> None:
        self._database = database
        self._channel = channel
        self._on_ring = on_ring
        self._is_stopped = False

    def start(self) -> None:
        """See Listener.start()."""
        threading.Thread(target=self._listen, name="backroom-listen", daemon=True).start()

    def stop(self) -> None:
        """See Listener.stop()."""
        self._is_stopped = True

    def _listen(self) -> None:
        while not self._is_stopped:
            wrapper: Any = connections.create_connection(self._database)
            try:
                with wrapper.cursor() as cursor:
                    cursor.execute(f'LISTEN "{self._channel}"')
                self._hear(wrapper.connection)
            except Exception as error:  # noqa: BLE001 - whatever the driver raises: polling goes on, and so does this
                logger.debug("action=listen_lost reason=%r", str(error))
                time.sleep(PATIENCE)
            finally:
                with contextlib.suppress(Exception):
                    wrapper.close()

    def _hear(self, connection: Any) -> None:
        # What was enqueued before LISTEN took hold was not heard.
        self._on_ring()
        while not self._is_stopped:
            for _ in connection.notifies(timeout=HEARTBEAT, stop_after=1):
                self._on_ring()
                time.sleep(REST)


def _address(database: str) -> Path:
    """Return the folder of the bells of a database file, the same for every process that opens the file."""
    name = str(connections[database].settings_dict["NAME"])
    digest = hashlib.sha256(os.path.realpath(name).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"backroom-{os.getuid()}" / digest


def _make_private(folder: Path) -> None:
    """Create the folder for this user alone; raise `OSError` when somebody else's stands there."""
    for part in (folder.parent, folder):
        part.mkdir(mode=0o700, exist_ok=True)
    _check_private(folder)


def _check_private(folder: Path) -> None:
    """Raise `OSError` unless the folder is there and nobody but this user can write to it."""
    for part in (folder.parent, folder):
        found = part.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
            msg = f"{part} does not belong to this user alone"
            raise PermissionError(msg)
