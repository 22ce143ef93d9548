"""Which node of a cluster has a key, and where to go on asking when it has it no more. Asks nobody itself.

What is to be asked is yielded, and the replies are sent in: so threads and event loops follow the same rules.
"""

import random
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import AskError, ClusterDownError, MovedError, TryAgainError

from backroom.redis.keys import slot_of
from backroom.redis.links import Command

type Node = tuple[str, int]
type Question = tuple[Node, Sequence[Command]]
type Replies = list[Any] | Exception
"""Of one node: a reply to each command, errors among them; or why it could not be asked."""
type Steps[T] = Generator[list[Question] | float, list[Replies], T]
"""Yields what to ask next, of several nodes at once, or for how many seconds to wait; returns what has come of it."""

SLOTS: Final = 16_384
WITHOUT_KEY: Final = frozenset({"PING", "INFO", "CONFIG", "TIME", "CLUSTER", "SCRIPT", "CLIENT", "ACL", "MEMORY"})
KEY_THIRD: Final = frozenset({"EVAL", "EVALSHA", "FCALL"})
ELSEWHERE: Final = (AskError, TryAgainError, ClusterDownError)
"""What a node says whose word is to be followed; `MovedError` is one of the first."""
REDIRECTIONS: Final = 8
"""How often a command follows the nodes' word for where its key is, or waits for them to agree."""
PAUSE: Final = 0.05


class Topology:
    """The slots of one cluster, as its nodes last said."""

    def __init__(self, seed: Node) -> None:
        self._seed = seed
        self._slots: list[Node] = []
        self._known: set[Node] = set()

    def home_of(self, command: Command) -> Node | None:
        """Return the node that should have a command's key; None while nothing is known."""
        slots = self._slots
        return slots[_slot_for(command)] if slots else None

    def forget(self) -> None:
        """Ask anew before the next command: a node is away, and another takes its slots over."""
        self._slots = []

    def ask_each(self, commands: Sequence[Command]) -> Steps[list[Any]]:
        """Return the replies to commands, errors that the servers reply among them; raise where a node is away."""
        by_node: dict[Node, list[int]] = {}
        slots = yield from self._table()
        for index, command in enumerate(commands):
            by_node.setdefault(slots[_slot_for(command)], []).append(index)
        replies: list[Any] = [None] * len(commands)
        found = yield from self._ask([(node, [commands[each] for each in some]) for node, some in by_node.items()])
        patience = REDIRECTIONS
        for (node, indexes), some in zip(by_node.items(), found, strict=True):
            for index, reply in zip(indexes, some, strict=True):
                replies[index] = reply
                if isinstance(reply, ELSEWHERE):
                    last = replies[index] = yield from self._follow(commands[index], reply, node, patience)
                    if isinstance(last, ELSEWHERE):
                        # The nodes have been waited for. For the others too would be that time for each of them.
                        patience = 1
        return replies

    def ask_everywhere(self, command: Command) -> Steps[list[Any]]:
        """Return the replies of all nodes that keep keys."""
        nodes = yield from self.nodes()
        return [reply for [reply] in (yield from self._ask([(node, [command]) for node in nodes]))]

    def nodes(self) -> Steps[list[Node]]:
        """Return the nodes that keep keys."""
        return sorted(set((yield from self._table())))

    def node_of(self, name: str) -> Steps[Node]:
        """Return the node that has a key."""
        return (yield from self._table())[slot_of(name)]

    def _follow(self, command: Command, reply: Any, node: Node, patience: int) -> Steps[Any]:
        """Return the reply of the node that has the key by now, or what is wrong still after so many more."""
        sent_away_by = {node}
        for _ in range(patience):
            match reply:
                case MovedError():
                    self.forget()
                    node = (reply.host or node[0], int(reply.port))
                    if node in sent_away_by:
                        # Not all of them have heard of the move, or of the failover.
                        yield PAUSE
                    sent_away_by.add(node)
                    [[reply]] = yield from self._ask([(node, [command])])
                case AskError():
                    there = (reply.host or node[0], int(reply.port))
                    [[_, reply]] = yield from self._ask([(there, [("ASKING",), command])])
                case TryAgainError() | ClusterDownError():
                    yield PAUSE
                    self.forget()
                    node = (yield from self._table())[_slot_for(command)]
                    [[reply]] = yield from self._ask([(node, [command])])
                case _:
                    return reply
        # Each sends to another: what the asker is to do is the same as where one says so itself.
        return TryAgainError(str(reply)) if isinstance(reply, AskError) else reply

    def _ask(self, questions: list[Question]) -> Steps[list[list[Any]]]:
        answers = yield questions
        for each in answers:
            if isinstance(each, Exception):
                self.forget()
                raise each
        return [each for each in answers if not isinstance(each, Exception)]

    def _table(self) -> Steps[list[Node]]:
        """Return the node of each slot; where it is not known, ask a node that is, and the one of the settings last."""
        if slots := self._slots:
            return slots
        known = list(self._known - {self._seed})
        random.shuffle(known)
        for node in known:
            [answer] = yield [(node, [("CLUSTER", "SLOTS")])]
            # Whatever is wrong with one node, another may know.
            with suppress(Exception):
                return self._learn(answer, node)
        [answer] = yield [(self._seed, [("CLUSTER", "SLOTS")])]
        return self._learn(answer, self._seed)

    def _learn(self, answer: Replies, node: Node) -> list[Node]:
        slots = slots_in(answer, asked=node[0])
        self._slots, self._known = slots, set(slots)
        return slots


def slots_in(answer: Replies, *, asked: str) -> list[Node]:
    """Return the node of each slot out of the answer to CLUSTER SLOTS; a node that says no host is the one asked."""
    [reply] = [answer] if isinstance(answer, Exception) else answer
    if isinstance(reply, Exception):
        raise reply
    nodes: list[Node | None] = [None] * SLOTS
    for first, last, primary, *_replicas in reply:
        node = (primary[0].decode() if primary[0] else asked, int(primary[1]))
        nodes[first : last + 1] = [node] * (last - first + 1)
    found = [node for node in nodes if node is not None]
    if len(found) < SLOTS:
        # One that was taken out of the cluster knows of no slots either.
        msg = "Not every slot is served"
        raise ClusterDownError(msg)
    return found


def _slot_for(command: Command) -> int:
    name = str(command[0]).upper()
    if name in WITHOUT_KEY:
        return 0
    key: Any = command[3 if name in KEY_THIRD else 1]
    return slot_of(key)
