"""Wake idle workers at once. Only ever a hint: a worker that hears nothing finds its work by polling.

SQLite has no way to tell another process of a commit, so an enqueue rings every worker on the machine through a
datagram socket. PostgreSQL tells by NOTIFY, which `stores.sql` sends with the INSERT itself.
"""

import contextlib
import hashlib
import logging
import os
import select
import socket
import stat
import tempfile
import time
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

from django.db import connections, transaction

from backroom.sql.dialect import fetch, is_server
from backroom.tasks.records import Claim
from backroom.tasks.stores.base import Request

logger = logging.getLogger("backroom.worker")

HEARTBEAT: Final = 0.1
"""Seconds after which `is_heard` looks again at a listener that has no descriptor yet."""
PATIENCE: Final = 5.0
"""Seconds before a listener that lost its server tries again."""
TRUST: Final = 5.0
"""Seconds for which a folder that was this user's own is taken to be so still."""
MOST_BELLS: Final = 256
"""Bells that one ring reaches: an enqueue must not take the longer, the more of them dead workers left behind."""


class Listener(Protocol):
    """Hears rings on a descriptor, so that one thread can wait for them and for other things at once.

    Used by one thread. What keeps it from hearing is logged and tried again later: polling goes on without it.

    Some can be sent ahead with a worker's request, and then bring the claims with the ring. The others are only hints.
    """

    @property
    def takes_requests(self) -> bool:
        """Whether `send` can be called."""
        return False

    def open(self) -> None:
        """Begin to hear."""

    def fileno(self) -> int | None:
        """Return the descriptor that becomes readable at a ring; None while there is none.

        Asked by one who is about to wait, and can take what a ring is for.
        """

    def hear(self) -> bool:
        """Take in what has arrived, without waiting for more; tell whether it rang."""

    def close(self) -> None:
        """Hear no more."""

    def send(self, request: Request) -> None:
        """Have this claimed at the next ring, or when there has been none for a while. One at a time."""
        msg = f"{type(self).__name__} only rings: it cannot claim {request.limit} tasks."
        raise TypeError(msg)

    @property
    def asked(self) -> int:
        """How many claims the request that is on its way may bring."""
        return 0

    def brought(self) -> list[Claim] | None:
        """Return, once, what the request that came back has claimed; None when none came back."""
        return None

    def call_back(self) -> list[Claim]:
        """Have the request that is on its way come back now, and return what it has claimed."""
        return []

    def has_missed(self) -> bool:
        """Tell, once, that a request was lost by now, and what it may have claimed is unknown."""
        return False


class Wakeup(Protocol):
    """One way to wake the workers of one backend."""

    channel: str | None
    """The PostgreSQL channel that an INSERT is to notify, if that is the way."""

    def ring_on_commit(self) -> None:
        """Ring when the caller's transaction commits; at once when there is none."""

    def ring(self) -> None:
        """Ring every worker that listens."""

    def listener(self) -> Listener:
        """Return what hears the rings."""


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


class Silence(Listener):
    """No wake-up: polling alone."""

    channel: str | None = None

    def ring_on_commit(self) -> None:
        """See Wakeup.ring_on_commit()."""

    def ring(self) -> None:
        """See Wakeup.ring()."""

    def listener(self) -> Listener:
        """See Wakeup.listener()."""
        return self

    def open(self) -> None:
        """See Listener.open()."""

    def fileno(self) -> int | None:
        """See Listener.fileno()."""
        return None

    def hear(self) -> bool:
        """See Listener.hear()."""
        return False

    def close(self) -> None:
        """See Listener.close()."""


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

    def listener(self) -> Listener:
        """See Wakeup.listener()."""
        return _DoorbellListener(self._folder)

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


class _DoorbellListener(Listener):
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / f"{os.getpid()}-{os.urandom(3).hex()}"
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """See Listener.open()."""
        bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        bell.settimeout(0)
        try:
            _make_private(self._folder)
            bell.bind(str(self._path))
        except OSError as error:
            bell.close()
            logger.warning("action=doorbell_off reason=%r: workers find new tasks by polling", str(error))
            return
        self._socket = bell

    def fileno(self) -> int | None:
        """See Listener.fileno()."""
        return self._socket.fileno() if self._socket else None

    def hear(self) -> bool:
        """See Listener.hear()."""
        is_rung = False
        with contextlib.suppress(OSError):
            while self._socket:
                self._socket.recv(1)
                is_rung = True
        return is_rung

    def close(self) -> None:
        """See Listener.close()."""
        if self._socket:
            self._socket.close()
            self._socket = None
            with contextlib.suppress(OSError):
                self._path.unlink()


class Notifications:
    """PostgreSQL's LISTEN and NOTIFY."""

    def __init__(self, database: str, channel: str) -> None:
        self._database = database
        self.channel: str | None = channel

    def ring_on_commit(self) -> None:
        """See Wakeup.ring_on_commit(); the INSERT has notified already, in the caller's transaction."""

    def ring(self) -> None:
        """See Wakeup.ring()."""
        # Not on the connection that may listen: behind a pooler it would hear itself, and nobody else.
        wrapper: Any = connections.create_connection(self._database)
        try:
            with wrapper.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, '')", [self.channel])
        finally:
            wrapper.close()

    def listener(self) -> Listener:
        """See Wakeup.listener()."""
        return _NotificationListener(self._database, str(self.channel))


class _NotificationListener(Listener):
    """Hears on its thread's own connection: the server's process that wakes this one is awake for what is asked next."""

    def __init__(self, database: str, channel: str) -> None:
        self._database = database
        self._channel = channel
        self._listening: Any = None
        self._is_rung = False
        self._retry_at = 0.0

    def open(self) -> None:
        """See Listener.open()."""
        try:
            fetch(self._database, f'LISTEN "{self._channel}"')
        except Exception as error:  # noqa: BLE001 - whatever the driver raises: polling goes on, and so does this
            self._lose(error)
            return
        self._listening = self._connection
        # What arrives with the reply to a statement, the driver hands out itself.
        self._listening.add_notify_handler(self._take)
        # What was enqueued before LISTEN took hold was not heard.
        self._is_rung = True

    def fileno(self) -> int | None:
        """See Listener.fileno()."""
        if not self._is_listening and time.monotonic() >= self._retry_at:
            self.open()
        return self._listening.fileno() if self._is_listening else None

    def hear(self) -> bool:
        """See Listener.hear()."""
        if self._is_listening:
            try:
                self._listening.pgconn.consume_input()
                while self._listening.pgconn.notifies():
                    self._is_rung = True
            except Exception as error:  # noqa: BLE001 - as above
                self._lose(error)
        is_rung, self._is_rung = self._is_rung, False
        return is_rung

    def close(self) -> None:
        """See Listener.close()."""
        if self._is_listening:
            self._listening.remove_notify_handler(self._take)
            with contextlib.suppress(Exception):
                # Others may use the connection after this.
                fetch(self._database, f'UNLISTEN "{self._channel}"')
        self._listening = None

    @property
    def _connection(self) -> Any:
        """The driver's connection, which is another one after each loss of the server."""
        return connections[self._database].connection

    @property
    def _is_listening(self) -> bool:
        return self._listening is not None and self._listening is self._connection

    def _take(self, _notification: object) -> None:
        self._is_rung = True

    def _lose(self, error: Exception) -> None:
        logger.debug("action=listen_lost reason=%r", str(error))
        self._retry_at = time.monotonic() + PATIENCE
        self._listening = None
        with contextlib.suppress(Exception):
            connections[self._database].close()


def is_heard(listener: Listener, *, within: float) -> bool:
    """Wait at most so many seconds for a ring; tell whether there was one."""
    deadline = time.monotonic() + within
    while not listener.hear():
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        # poll() knows descriptors above 1,023, which select() refuses.
        poll = select.poll()
        if (descriptor := listener.fileno()) is not None:
            poll.register(descriptor, select.POLLIN)
        poll.poll(int(min(left, HEARTBEAT) * 1000) + 1)
    return True


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
