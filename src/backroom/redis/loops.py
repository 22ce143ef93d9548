"""Ask from an event loop: one connection to a node for all who wait there, which lives and ends with the loop.

What many coroutines ask at once travels in one piece, and so do the replies, in their order. There is no thread.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from contextvars import Context
from typing import Any, Final, NamedTuple, Protocol

from redis.asyncio import Connection
from redis.exceptions import (
    ConnectionError,  # noqa: A004 - the library's own
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - the library's own
)

from backroom.options import OptionsError
from backroom.redis.addresses import Address, Maker, maker_in_loop_of, problem_of
from backroom.redis.errors import unavailable
from backroom.redis.links import DEMOTED, Command
from backroom.redis.servers import plain
from backroom.redis.topology import Node, Replies, Steps, Topology


class ServerInLoop(Protocol):
    """As `Server`, for one event loop."""

    async def call(self, *command: Any) -> Any:
        """Send a command and return the reply. Raise `RedisUnavailable`, or what the server says of the command."""

    async def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies, errors among them."""

    async def nodes(self) -> list[Node | None]:
        """Return each node that keeps keys; None is the only one."""

    async def call_at(self, node: Node | None, *command: Any) -> Any:
        """Send a command to one of `nodes()` and return the reply."""


def server_in_loop(address: Address) -> ServerInLoop:
    """Return the server of an address for the running loop; raise `OptionsError` when the address cannot be one."""
    loop = asyncio.get_running_loop()
    found = _servers.get((loop, address))
    if found is None:
        if problem := problem_of(address):
            raise OptionsError([problem])
        for other in [other for other in list(_servers) if other[0].is_closed()]:
            # A loop that was closed without ado has taken its connections with it.
            _servers.pop(other, None)
        found = _servers[loop, address] = ClusterInLoop(address) if address.cluster else SingleInLoop(address)
    return found


_servers: Final[dict[tuple[asyncio.AbstractEventLoop, Address], ServerInLoop]] = {}


class _Waiting(NamedTuple):
    outcome: "asyncio.Future[list[Any]]"
    expected: int
    replies: list[Any]


class Line:
    """One connection of the client library, which any number of coroutines ask through at once."""

    def __init__(self, make: Callable[[], Connection], *, patience: float, at_end: Callable[[], Any]) -> None:
        # A Sentinel's connection knows what made it by a weak reference only.
        self._make = make
        self._connection: Any = make()
        self._patience = patience
        self._at_end = at_end
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._unsent: list[bytes] = []
        self._reading: asyncio.Task[None] | None = None
        self._is_open = False
        self._is_flushing = False
        self._end: AsyncGenerator[None, None] | None = None

    def ask_each(self, commands: Sequence[Command]) -> "asyncio.Future[list[Any]]":
        """Send commands; what comes of it are the replies, errors of the server among them."""
        outcome: asyncio.Future[list[Any]] = self._loop.create_future()
        if not commands:
            outcome.set_result([])
            return outcome
        for command in commands:
            self._unsent.extend(self._connection.pack_command(*command))
        self._waiting.append(_Waiting(outcome, len(commands), []))
        if self._reading is None:
            # In a context of its own: it outlives the request that happens to come first.
            self._reading = self._loop.create_task(self._read(), context=Context())
        elif self._is_open and not self._is_flushing:
            self._is_flushing = True
            # Whatever else is asked in this turn of the loop goes along.
            self._loop.call_soon(self._flush)
        return outcome

    async def close(self) -> None:
        """Close the connection."""
        self._is_open = False
        await self._connection.disconnect(nowait=True)

    async def _leave(self) -> None:
        if self._waiting:
            msg = "It is no primary any more."
            raise ConnectionError(msg)
        await self.close()

    async def _read(self) -> None:
        """Hand out replies until nobody waits any more."""
        try:
            is_demoted = False
            async with asyncio.timeout(self._patience) as limit:
                await self._open()
                self._flush()
                while self._waiting:
                    limit.reschedule(self._loop.time() + self._patience)
                    reply = await self._next()
                    is_demoted = is_demoted or isinstance(reply, DEMOTED)
                    self._hand_out(reply)
                    if is_demoted and not (self._waiting and self._waiting[0].replies):
                        # Who connects anew may find the primary.
                        await self._leave()
        except BaseException as error:
            self._reading = None
            self._fail(TimeoutError("Timeout reading from socket") if isinstance(error, TIMEOUTS) else error)
            await self.close()
            if not isinstance(error, Exception):
                raise
        else:
            self._reading = None

    async def _open(self) -> None:
        # The library has no public words for the ends of its stream.
        if self._is_open and self._connection._reader.at_eof():  # noqa: SLF001
            await self.close()
        if not self._is_open:
            await self._connection.connect()
            self._is_open = True
            await self._let_go_of_sentinels()
        if self._end is None:
            # A loop that ends closes its asynchronous generators first, and with this one the connection.
            self._end = self._until_the_end()
            await anext(self._end)

    async def _let_go_of_sentinels(self) -> None:
        watched: Any = getattr(self._connection, "connection_pool", None)
        for sentinel in watched.sentinel_manager.sentinels if watched is not None else ():
            await sentinel.aclose()

    async def _until_the_end(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            self._at_end()
            if (writer := self._connection._writer) is not None:  # noqa: SLF001 - as above
                # With TLS it would wait for the server to take leave, for which the loop does not.
                writer.transport.abort()
            await self.close()
            # The transport closes in the next turn.
            await asyncio.sleep(0)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._is_open and self._unsent:
            unsent, self._unsent = self._unsent, []
            self._connection._writer.write(b"".join(unsent))  # noqa: SLF001

    async def _next(self) -> Any:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error

    def _hand_out(self, reply: Any) -> None:
        first = self._waiting[0]
        first.replies.append(reply)
        if len(first.replies) == first.expected:
            self._waiting.popleft()
            if not first.outcome.done():
                first.outcome.set_result(first.replies)

    def _fail(self, error: BaseException) -> None:
        waiting, self._waiting = self._waiting, deque()
        self._unsent = []
        for each in waiting:
            if not each.outcome.done():
                if isinstance(error, Exception):
                    each.outcome.set_exception(error)
                else:
                    each.outcome.cancel()


TIMEOUTS: Final = (asyncio.TimeoutError,)


class SingleInLoop:
    """One server, or the one that Sentinels say is the primary."""

    def __init__(self, address: Address) -> None:
        self.name = f"Redis at {address}"
        place = (asyncio.get_running_loop(), address)
        self._line = Line(maker_in_loop_of(address), patience=address.timeout, at_end=lambda: _servers.pop(place, None))

    async def call(self, *command: Any) -> Any:
        """See ServerInLoop.call()."""
        reply = (await self.call_each([command]))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """See ServerInLoop.call_each()."""
        try:
            replies = await self._line.ask_each(commands)
        except (RedisError, OSError) as error:
            if (told := unavailable(error, self.name)) is None:
                raise
            raise told from error
        return [plain(reply, self.name) if isinstance(reply, Exception) else reply for reply in replies]

    async def nodes(self) -> list[Node | None]:
        """See ServerInLoop.nodes()."""
        return [None]

    async def call_at(self, _node: Node | None, *command: Any) -> Any:
        """See ServerInLoop.call_at()."""
        return await self.call(*command)


class ClusterInLoop:
    """A Redis Cluster: each key has a slot, each slot a node, and the nodes say when one has moved."""

    def __init__(self, address: Address) -> None:
        self.name = f"Redis Cluster at {address}"
        self._address = address
        self._make: Maker = maker_in_loop_of(address)
        self._place = (asyncio.get_running_loop(), address)
        self._lines: dict[Node, Line] = {}
        seed = self._make()
        self._seed: Node = (str(seed.host), int(seed.port))
        self._topology = Topology(self._seed)

    async def call(self, *command: Any) -> Any:
        """See ServerInLoop.call()."""
        reply = (await self.call_each([command]))[0]
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """See ServerInLoop.call_each()."""
        return [plain(reply, self.name) for reply in await self._go(self._topology.ask_each(commands))]

    async def nodes(self) -> list[Node | None]:
        """See ServerInLoop.nodes()."""
        return [*await self._go(self._topology.nodes())]

    async def call_at(self, node: Node | None, *command: Any) -> Any:
        """See ServerInLoop.call_at()."""
        try:
            reply = (await self._line(node or self._seed).ask_each([command]))[0]
        except (RedisError, OSError) as error:
            if (told := unavailable(error, self.name)) is None:
                raise
            raise told from error
        if isinstance(reply, Exception):
            raise plain(reply, self.name)
        return reply

    async def _go[T](self, steps: Steps[T]) -> T:
        """Ask what is to be asked, of all nodes at once, and return what comes of it."""
        replies: Any = None
        try:
            while True:
                step = steps.send(replies)
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif len(step) == 1:
                    replies = [await self._ask_each(*step[0])]
                else:
                    replies = await asyncio.gather(*(self._ask_each(node, commands) for node, commands in step))
        except StopIteration as end:
            found: T = end.value
            return found
        except (RedisError, OSError) as error:
            if (told := unavailable(error, self.name)) is None:
                raise
            raise told from error

    async def _ask_each(self, node: Node, commands: Sequence[Command]) -> Replies:
        try:
            return await self._line(node).ask_each(commands)
        except (RedisError, OSError) as error:
            return error

    def _line(self, node: Node) -> Line:
        found = self._lines.get(node)
        if found is None:
            host, port = node
            found = self._lines[node] = Line(
                lambda: self._make(host=host, port=port),
                patience=self._address.timeout,
                at_end=lambda: _servers.pop(self._place, None),
            )
        return found
