"""Ask a server, a Sentinel's primary or a cluster, all in the same words."""

import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from redis import exceptions
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from backroom.options import OptionsError
from backroom.redis.addresses import Address, Maker, maker_of, problem_of
from backroom.redis.errors import RedisUnavailable, unavailable
from backroom.redis.keys import slot_of
from backroom.redis.links import Command, Link, Pool


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


type Node = tuple[str, int]

SLOTS: Final = 16_384
WITHOUT_KEY: Final = frozenset({"PING", "INFO", "CONFIG", "TIME", "CLUSTER", "SCRIPT", "CLIENT", "ACL", "MEMORY"})
KEY_THIRD: Final = frozenset({"EVAL", "EVALSHA", "FCALL"})
REDIRECTIONS: Final = 8
"""How often a command follows the nodes' word for where its key is, or waits for them to agree."""
PAUSE: Final = 0.05


class Cluster:
    """A Redis Cluster: each key has a slot, each slot a node, and the nodes say when one has moved."""

    def __init__(self, address: Address) -> None:
        self.name = f"Redis Cluster at {address}"
        self._address = address
        self._make: Maker = maker_of(address)
        self._seed = Pool(self._make, self.name, limit=address.max_connections, patience=address.timeout)
        self._pools: dict[Node, Pool] = {}
        self._slots: list[Node] = []

    def call(self, *command: Any) -> Any:
        """See Server.call()."""
        with _told(self.name):
            return self._follow(command)

    def call_each(self, commands: Sequence[Command]) -> list[Any]:
        """See Server.call_each()."""
        by_pool: dict[Pool, list[int]] = {}
        with _told(self.name):
            for index, command in enumerate(commands):
                by_pool.setdefault(self._pool_of(command), []).append(index)
            replies: list[Any] = [None] * len(commands)
            for pool, indexes in by_pool.items():
                found = self._ask_each(pool, [commands[index] for index in indexes])
                for index, reply in zip(indexes, found, strict=True):
                    replies[index] = self._redirected(commands[index], reply)
        return [plain(reply, self.name) for reply in replies]

    def call_everywhere(self, *command: Any) -> list[Any]:
        """See Server.call_everywhere()."""
        with _told(self.name):
            return [self._ask(self._pool(node), command) for node in sorted(set(self._nodes_of_slots()))]

    def nodes(self) -> "list[Node | None]":
        """See Server.nodes()."""
        with _told(self.name):
            return [*sorted(set(self._nodes_of_slots()))]

    def call_at(self, node: "Node | None", *command: Any) -> Any:
        """See Server.call_at()."""
        with _told(self.name):
            return self._ask(self._seed if node is None else self._pool(node), command)

    def link_to(self, name: str) -> Link:
        """See Server.link_to()."""
        with _told(self.name):
            return self._pool(self._nodes_of_slots()[slot_of(name)]).new()

    def _redirected(self, command: Command, reply: Any) -> Any:
        if not isinstance(reply, AskError | TryAgainError | ClusterDownError):
            return reply
        try:
            return self._follow(command)
        except RedisError as error:
            return error

    def _follow(self, command: Command) -> Any:
        """Ask the node that has the key, going where the nodes say it is by now."""
        pool = self._pool_of(command)
        is_asking = False
        last: Exception = ClusterDownError("The nodes do not agree on who has the key")
        for left in range(REDIRECTIONS, -1, -1):
            try:
                return self._ask(pool, command, is_asking=is_asking)
            except MovedError as moved:
                self._slots = []
                pool, is_asking = self._pool((moved.host or self._host_of(pool), int(moved.port))), False
                last = moved
            except AskError as asked:
                pool, is_asking = self._pool((asked.host or self._host_of(pool), int(asked.port))), True
                last = asked
            except (TryAgainError, ClusterDownError) as error:
                last = error
                if left:
                    time.sleep(PAUSE)
            except (exceptions.ConnectionError, exceptions.TimeoutError):
                # The next command asks the others who has taken its slots over.
                self._slots = []
                raise
        raise last

    def _ask_each(self, pool: Pool, commands: Sequence[Command]) -> list[Any]:
        try:
            with pool.link() as link:
                return link.ask_each(commands)
        except (exceptions.ConnectionError, exceptions.TimeoutError):
            self._slots = []
            raise

    def _ask(self, pool: Pool, command: Command, *, is_asking: bool = False) -> Any:
        if not is_asking:
            return pool.ask(command)
        with pool.link() as link:
            link.ask(("ASKING",))
            return link.ask(command)

    def _pool_of(self, command: Command) -> Pool:
        name = str(command[0]).upper()
        if name in WITHOUT_KEY:
            return self._pool(self._nodes_of_slots()[0])
        key: Any = command[3 if name in KEY_THIRD else 1]
        return self._pool(self._nodes_of_slots()[slot_of(key)])

    def _pool(self, node: Node) -> Pool:
        host, port = node
        make: Callable[..., Any] = self._make
        found = self._pools.get(node)
        if found is None:
            made = Pool(
                lambda: make(host=host, port=port),
                f"{self.name}, node {host}:{port}",
                limit=self._address.max_connections,
                patience=self._address.timeout,
            )
            found = self._pools.setdefault(node, made)
        return found

    def _host_of(self, pool: Pool) -> str:
        return next((host for (host, _), known in self._pools.items() if known is pool), "")

    def _nodes_of_slots(self) -> list[Node]:
        slots = self._slots
        if not slots:
            slots = self._slots = self._ask_for_slots()
        return slots

    def _ask_for_slots(self) -> list[Node]:
        """Ask the first node that answers, of those known and of the one in the settings."""
        known = list(self._pools.values())
        random.shuffle(known)
        for pool in [*known, self._seed]:
            try:
                return slots_in(self._ask(pool, ("CLUSTER", "SLOTS")), self._seed_host())
            except (exceptions.ConnectionError, exceptions.TimeoutError, ClusterDownError):
                # One that was taken out of the cluster knows of no slots either.
                if pool is self._seed:
                    raise
        raise AssertionError  # The loop ends with the seed.

    def _seed_host(self) -> str:
        return str(getattr(self._make(), "host", ""))


def slots_in(reply: Any, asked: str) -> list[Node]:
    """Return the node of each slot out of the reply to CLUSTER SLOTS; a node that says no host is the one asked."""
    nodes: list[Node | None] = [None] * SLOTS
    for first, last, primary, *_replicas in reply:
        node = (primary[0].decode() if primary[0] else asked, int(primary[1]))
        nodes[first : last + 1] = [node] * (last - first + 1)
    found = [node for node in nodes if node is not None]
    if len(found) < SLOTS:
        raise ClusterDownError("Not every slot is served")
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
