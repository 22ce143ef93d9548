"""One connection, and the few of them that a process keeps open to one node."""

import os
import select
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakSet

from redis.connection import DefaultParser
from redis.exceptions import (
    ConnectionError,  # noqa: A004 - the library's own
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    ResponseError,
)

try:
    import hiredis
except ModuleNotFoundError:
    _hiredis: Any = None
else:
    _hiredis = hiredis

from backroom.redis.addresses import Maker
from backroom.redis.errors import TROUBLE, RedisUnavailable

type Command = Sequence[str | bytes | int | float]

DEMOTED: Final = (ReadOnlyError, MasterDownError)
"""What a server says that is no primary any more: who connects anew may find the one that is."""
SOCKET: Final = "_sock"
"""Where a connection of the library has its socket, None while it is not connected."""
AT_ONCE: Final = 65_536
"""Bytes that are taken from a connection at once."""


class Link:
    """A connection that the client library opens when it is first used, and the shortest way through it.

    With hiredis it speaks and reads by itself: the library's own way through its layers takes longer than the server.
    That takes the library's socket, which has no public name. Where a version hides it, and without hiredis, a link goes
    the library's way; it has no descriptor to wait on then.
    """

    __slots__ = ("__weakref__", "_connection", "_poll", "_reader", "_socket")

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._socket: Any = None
        self._reader: Any = None
        self._poll = select.poll()

    def ask(self, command: Command) -> Any:
        """Send one command and return the reply; raise what the server or the library raises."""
        self.send((command,))
        reply = self._read()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def ask_each(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in one go and return their replies; an error that the server replies is one of them."""
        self.send(commands)
        replies = [self.reply() for _ in commands]
        if any(isinstance(reply, DEMOTED) for reply in replies):
            self.close()
        return replies

    def send(self, commands: Sequence[Command]) -> None:
        """Send commands, whose replies are to be fetched in their order."""
        socket = self._opened()
        if _hiredis is None or socket is None:
            self._connection.send_packed_command(self._connection.pack_commands(commands), check_health=False)
        elif len(commands) == 1:
            socket.sendall(_hiredis.pack_command(tuple(commands[0])))
        else:
            socket.sendall(b"".join([_hiredis.pack_command(tuple(command)) for command in commands]))

    def reply(self) -> Any:
        """Wait for the next reply and return it, an error too."""
        reply = self._read()
        if isinstance(reply, Exception) and not isinstance(reply, ResponseError):
            # It says that there is no server to speak of: it is loading its data, say, or does not know who this is.
            raise reply
        return reply

    def is_stale(self) -> bool:
        """Tell whether the server has closed the connection, or said something that nobody asked for."""
        if self._known() is None:
            return self._is_hidden and self._has_something()
        # The library's own look takes five times as long, and this one stands before every command.
        return bool(self._poll.poll(0))

    def has_reply(self) -> bool:
        """Tell whether a reply, or the end of the connection, has arrived and can be read without waiting."""
        if self._known() is None or self._reader is None:
            return self._has_something()
        # What TLS has taken in already shows at no descriptor.
        pending = getattr(self._socket, "pending", None)
        return bool(self._reader.has_data() or (pending and pending()) or self._poll.poll(0))

    def fileno(self) -> int | None:
        """Return the descriptor to wait on, or None while not connected, or where the library hides it."""
        socket = self._known()
        return None if socket is None else int(socket.fileno())

    def connect(self) -> None:
        """Connect now."""
        self._connection.connect()

    def close(self) -> None:
        """Close the connection; it opens again when it is used again."""
        self._connection.disconnect()

    def _opened(self) -> Any:
        socket = self._known()
        if socket is None:
            # By itself the library would connect without asking the Sentinels.
            self._connection.connect()
            socket = self._known()
        return socket

    def _known(self) -> Any:
        """Return the socket, None while there is none, with a reader and a poll that are its own."""
        socket = getattr(self._connection, SOCKET, None)
        if socket is not self._socket:
            self._socket, self._reader = socket, None
            if socket is not None:
                self._poll = select.poll()
                self._poll.register(socket, select.POLLIN)
                self._reader = self._new_reader()
        return socket

    def _new_reader(self) -> Any:
        if _hiredis is None:
            return None
        # The library knows the class of each error that a server may reply; an error that is none of them is said so too.
        return _hiredis.Reader(protocolError=InvalidResponse, replyError=DefaultParser.parse_error)

    @property
    def _is_hidden(self) -> bool:
        return not hasattr(self._connection, SOCKET)

    def _has_something(self) -> bool:
        """Ask the library whether a reply, or the end of the connection, has arrived; where there is none, it connects."""
        try:
            return bool(self._connection.can_read(timeout=0))
        except TROUBLE:
            return True

    def _read(self) -> Any:
        reader = self._reader
        if reader is None:
            try:
                return self._connection.read_response()
            except ResponseError as error:
                return error
        while (reply := reader.gets()) is False:
            received = self._socket.recv(AT_ONCE)
            if not received:
                msg = "The server closed the connection."
                raise ConnectionError(msg)
            reader.feed(received)
        return reply


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
        # Who is interrupted with a link in its hands lets it fall, and so it is gone from here too.
        self._links: WeakSet[Link] = WeakSet()
        self._waiting = 0
        self._returned = threading.Condition()
        self._pid = os.getpid()

    def _take(self) -> Link:
        if self._pid != os.getpid():
            # Forked: the connections of the parent are the parent's.
            self._start()
        try:
            link = self._idle.pop()
        except IndexError:
            link = self._one_more()
        if link.is_stale():
            link.close()
        return link

    def _one_more(self) -> Link:
        """Return a new link, or, when there are as many as there may be, the next that somebody puts back."""
        deadline = time.monotonic() + self._patience
        with self._returned:
            self._waiting += 1
            try:
                while len(self._links) >= self._limit:
                    with suppress(IndexError):
                        return self._idle.pop()
                    left = deadline - time.monotonic()
                    if left <= 0:
                        msg = f"All {self._limit} connections to {self.name} are in use. Raise 'max_connections'."
                        raise RedisUnavailable(msg)
                    self._returned.wait(left)
                link = self.new()
                self._links.add(link)
                return link
            finally:
                self._waiting -= 1

    def _put_back(self, link: Link, error: BaseException | None = None) -> None:
        # What a server says of a command is a reply; whatever else went wrong may have left one unread.
        if error is not None and (not isinstance(error, ResponseError) or isinstance(error, DEMOTED)):
            link.close()
        self._idle.append(link)
        # Who waits has counted itself before it looked: either it has seen this link, or it is seen here.
        if self._waiting:
            with self._returned:
                self._returned.notify()
