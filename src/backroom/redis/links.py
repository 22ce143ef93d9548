"""One connection, and the few of them that a process keeps open to one node."""

import os
import select
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakSet

from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

try:
    from hiredis import pack_command as _pack_command
except ModuleNotFoundError:
    pack_command: Any = None
else:
    pack_command = _pack_command

from backroom.redis.addresses import Maker
from backroom.redis.errors import RedisUnavailable

type Command = Sequence[str | bytes | int | float]

DEMOTED: Final = (ReadOnlyError, MasterDownError)
"""What a server says that is no primary any more: who connects anew may find the one that is."""


class Link:
    """A connection of the client library, which connects when it is first used, and the shortest way through it."""

    __slots__ = ("__weakref__", "_connection", "_poll", "_polled")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._poll = select.poll()
        self._polled: int | None = None

    def ask(self, command: Command) -> Any:
        """Send one command and return the reply; raise what the server or the library raises."""
        connection = self._connection
        if self.fileno() is None:
            # By itself it would connect without asking the Sentinels.
            connection.connect()
        connection.send_packed_command([self._packed(command)], check_health=False)
        return connection.read_response()

    def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go and return their replies; an error that the server replies is one of them."""
        self.send(commands)
        replies = [self.reply() for _ in commands]
        if any(isinstance(reply, DEMOTED) for reply in replies):
            self.close()
        return replies

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands, whose replies are to be fetched in their order."""
        connection = self._connection
        if self.fileno() is None:
            connection.connect()
        connection.send_packed_command([b"".join(map(self._packed, commands))], check_health=False)

    def reply(self) -> Any:
        """Wait for the next reply and return it, an error too."""
        try:
            return self._connection.read_response()
        except ResponseError as error:
            return error

    def is_stale(self) -> bool:
        """Tell whether the server has closed the connection, or said something that nobody asked for."""
        descriptor = self.fileno()
        if descriptor is None:
            return False
        if descriptor != self._polled:
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
            self._polled = descriptor
        # The library's own look takes five times as long, and this one stands before every command.
        return bool(self._poll.poll(0))

    def has_reply(self) -> bool:
        """Tell whether a reply, or the end of the connection, has arrived and can be read without waiting."""
        return bool(self._connection.can_read(timeout=0))

    def fileno(self) -> int | None:
        """Return the descriptor to wait on, or None while not connected."""
        # The library has no public word for it.
        socket = self._connection._sock  # noqa: SLF001
        return None if socket is None else int(socket.fileno())

    def connect(self) -> None:
        """Connect now."""
        self._connection.connect()

    def close(self) -> None:
        """Close the connection; it opens again when it is used again."""
        self._connection.disconnect()

    def _packed(self, command: Command) -> bytes:
        # The library looks at each argument first, for kinds that a command of ours never has.
        if pack_command is not None:
            packed: bytes = pack_command(tuple(command))
            return packed
        return b"".join(self._connection.pack_command(*command))


class Pool:
    """The connections of this process to one node, taken by one thread at a time, the last used one first."""

    def __init__(self, make: Maker, name: str, *, limit: int, patience: float) -> None:
        self.name = name
        self._make = make
        self._limit = limit
        self._patience = patience
        self._start()

    def ask(self, command: Command) -> Any:
        """Send one command on any connection and return the reply."""
        link = self._take()
        try:
            reply = link.ask(command)
        except BaseException as error:
            self._put_back(link, error)
            raise
        self._put_back(link)
        return reply

    @contextmanager
    def link(self) -> Iterator[Link]:
        """Lend a connection."""
        link = self._take()
        try:
            yield link
        except BaseException as error:
            self._put_back(link, error)
            raise
        self._put_back(link)

    def new(self) -> Link:
        """Return a connection that is the caller's alone."""
        return Link(self._make())

    def _start(self) -> None:
        self._idle: deque[Link] = deque()
        self._lent: WeakSet[Link] = WeakSet()
        self._free = threading.BoundedSemaphore(self._limit)
        self._pid = os.getpid()

    def _take(self) -> Link:
        if self._pid != os.getpid():
            # Forked: the connections of the parent are the parent's.
            self._start()
        # Whoever is interrupted in between never gives the permit back: then fewer are lent than it seems.
        if not self._free.acquire(timeout=self._patience) and len(self._lent) >= self._limit:
            msg = f"All {self._limit} connections to {self.name} are in use. Raise 'max_connections'."
            raise RedisUnavailable(msg)
        try:
            link = self._idle.pop()
        except IndexError:
            link = self.new()
        self._lent.add(link)
        if link.is_stale():
            link.close()
        return link

    def _put_back(self, link: Link, error: BaseException | None = None) -> None:
        # What a server says of a command is a reply; whatever else went wrong may have left one unread.
        if error is not None and (not isinstance(error, ResponseError) or isinstance(error, DEMOTED)):
            link.close()
        self._lent.discard(link)
        self._idle.append(link)
        with suppress(ValueError):
            self._free.release()
