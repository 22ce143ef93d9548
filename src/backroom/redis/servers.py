"""Ask a server, a Sentinel's primary or a cluster, all in the same words."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from backroom.options import OptionsError
from backroom.redis.addresses import Address, Maker, maker_of, problem_of
from backroom.redis.errors import RedisUnavailable, unavailable
from backroom.redis.links import Command, Link, Pool
from backroom.redis.topology import ELSEWHERE, Node, Replies, Steps, Topology


class Server(Protocol):
    """Where commands go. Safe to use from several threads, and after a fork."""

    name: str
    """What to call it before a person."""

    def call(self, *command: Any) -> Any:
        """Send a command and return the reply. Raise `RedisUnavailable`, or what the server says of the command."""

    def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands in as few round trips as can be and return their replies, errors among them."""

    def call_everywhere(self, *command: Any) -> list[Any]:
        """Send a command to every node that keeps keys and return their replies."""

    def nodes(self) -> "list[Node | None]":
        """Return each node that keeps keys; None is the only one."""

    def call_at(self, node: "Node | None", *command: Any) -> Any:
        """Send a command to one of `nodes()` and return the reply."""

    def link_to(self, name: str) -> Link:
        """Return a connection of one's own to the node that has a key."""


def server_of(address: Address) -> Server:
    """Return the server of an address, one for this process; raise `OptionsError` when the address cannot be one."""
    place = (os.getpid(), address)
    found = _servers.get(place)
    if found is None:
        if problem := problem_of(address):
            raise OptionsError([problem])
        # What a parent made stays the parent's; of two threads that come first at once both get the same.
        made: Server = Cluster(address) if address.cluster else Single(address)
        found = _servers.setdefault(place, made)
    return found


_servers: Final[dict[tuple[int, Address], Server]] = {}


class Single:
    """One server, or the one that Sentinels say is the primary."""

    def __init__(self, address: Address) -> None:
        self.name = f"Redis at {address}"
        self._pool = Pool(maker_of(address), self.name, limit=address.max_connections, patience=address.timeout)

    def call(self, *command: Any) -> Any:
        """See Server.call()."""
        try:
            return self._pool.ask(command)
        except (RedisError, OSError) as error:
            if (told := unavailable(error, self.name)) is not None:
                raise told from error
            raise

    def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """See Server.call_each()."""
        with _told(self.name), self._pool.link() as link:
            replies = link.ask_each(commands)
        return [plain(reply, self.name) for reply in replies]

    def call_everywhere(self, *command: Any) -> list[Any]:
        """See Server.call_everywhere()."""
        return [self.call(*command)]

    def nodes(self) -> "list[Node | None]":
        """See Server.nodes()."""
        return [None]

    def call_at(self, _node: "Node | None", *command: Any) -> Any:
        """See Server.call_at()."""
        return self.call(*command)

    def link_to(self, _name: str) -> Link:
        """See Server.link_to()."""
        return self._pool.new()


class Cluster:
    """A Redis Cluster: each key has a slot, each slot a node, and the nodes say when one has moved."""

    def __init__(self, address: Address) -> None:
        self.name = f"Redis Cluster at {address}"
        self._address = address
        self._make: Maker = maker_of(address)
        made = self._make()
        self._seed: Node = (str(made.host), int(made.port))
        self._topology = Topology(self._seed)
        self._pools: dict[Node, Pool] = {}

    def call(self, *command: Any) -> Any:
        """See Server.call()."""
        node = self._topology.home_of(command)
        if node is not None:
            # As a rule the first answer is the last, and this is half the way.
            try:
                return self._pool(node).ask(command)
            except ELSEWHERE:
                pass
            except (RedisError, OSError) as error:
                if (told := unavailable(error, self.name)) is None:
                    raise
                if told.may_have_happened:
                    self._topology.forget()
                raise told from error
        return _raised(self.call_each([command])[0])

    def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """See Server.call_each()."""
        return [plain(reply, self.name) for reply in self._go(self._topology.ask_each(commands))]

    def call_everywhere(self, *command: Any) -> list[Any]:
        """See Server.call_everywhere()."""
        return [_raised(plain(reply, self.name)) for reply in self._go(self._topology.ask_everywhere(command))]

    def nodes(self) -> "list[Node | None]":
        """See Server.nodes()."""
        return [*self._go(self._topology.nodes())]

    def call_at(self, node: "Node | None", *command: Any) -> Any:
        """See Server.call_at()."""
        with _told(self.name):
            return self._pool(node or self._seed).ask(command)

    def link_to(self, name: str) -> Link:
        """See Server.link_to()."""
        return self._pool(self._go(self._topology.node_of(name))).new()

    def _go[T](self, steps: Steps[T]) -> T:
        """Ask what is to be asked, and return what comes of it."""
        replies: Any = None
        with _told(self.name):
            try:
                while True:
                    step = steps.send(replies)
                    if isinstance(step, float):
                        time.sleep(step)
                    else:
                        replies = [self._ask_each(node, commands) for node, commands in step]
            except StopIteration as end:
                found: T = end.value
                return found

    def _ask_each(self, node: Node, commands: Sequence[Command]) -> Replies:
        try:
            with self._pool(node).link() as link:
                return link.ask_each(commands)
        except (RedisError, OSError) as error:
            return error

    def _pool(self, node: Node) -> Pool:
        host, port = node
        found = self._pools.get(node)
        if found is None:
            made = Pool(
                lambda: self._make(host=host, port=port),
                f"{self.name}, node {host}:{port}",
                limit=self._address.max_connections,
                patience=self._address.timeout,
            )
            found = self._pools.setdefault(node, made)
        return found


@contextmanager
def _told(name: str) -> Iterator[None]:
    try:
        yield
    except RedisUnavailable:
        raise
    except (RedisError, OSError) as error:
        if (told := unavailable(error, name)) is None:
            raise
        raise told from error


def plain(reply: Any, name: str) -> Any:
    """Return a reply as it is, an error that means the server cannot serve as a `RedisUnavailable`."""
    return unavailable(reply, name) or reply if isinstance(reply, Exception) else reply


def _raised(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise reply
    return reply
