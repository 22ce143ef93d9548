"""The rules of a cluster, with nodes whose answers the tests make up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import AskError, ClusterDownError, ConnectionError, MovedError, TryAgainError  # noqa: A004

from backroom.redis import slot_of
from backroom.redis.topology import PAUSE, REDIRECTIONS, Node, Steps, Topology

HERE, THERE, NEW = ("10.0.0.1", 1), ("10.0.0.2", 2), ("10.0.0.3", 3)
GET = ("GET", "a")


def table(low: Node, high: Node) -> list[Any]:
    return [
        [first, last, [host.encode(), port]] for first, last, (host, port) in ((0, 8_191, low), (8_192, 16_383, high))
    ]


class Nodes:
    """Answers what a topology asks, and notes it."""

    def __init__(self, **answers: Callable[[Node], Any]) -> None:
        self.answers: dict[str, Callable[[Node], Any]] = {"CLUSTER": lambda _node: table(HERE, THERE)} | answers
        self.asked: list[tuple[Node, str]] = []
        self.waited: list[float] = []

    def go(self, steps: Steps[Any]) -> Any:
        replies: Any = None
        try:
            while True:
                step = steps.send(replies)
                if isinstance(step, float):
                    self.waited.append(step)
                else:
                    replies = [self._answer(node, commands) for node, commands in step]
        except StopIteration as end:
            return end.value

    def _answer(self, node: Node, commands: Any) -> Any:
        found = []
        for command in commands:
            self.asked.append((node, command[0]))
            reply = self.answers.get(command[0], lambda _node: b"OK")(node)
            if isinstance(reply, ConnectionError):
                return reply
            found.append(reply)
        return found

    @property
    def since(self) -> list[tuple[Node, str]]:
        """What was asked since this was last read."""
        asked, self.asked = self.asked, []
        return asked


def home(key: str) -> Node:
    return HERE if slot_of(key) <= 8_191 else THERE


def test_each_command_goes_to_the_node_that_has_its_key() -> None:
    nodes, topology = Nodes(), Topology(HERE)
    commands = [("EVALSHA", "digest", 1, "b"), GET, ("PING",)]
    assert nodes.go(topology.ask_each(commands)) == [b"OK"] * 3
    assert home("a") != home("b")
    assert sorted(nodes.since) == sorted(
        [(HERE, "CLUSTER"), (home("b"), "EVALSHA"), (home("a"), "GET"), (HERE, "PING")]
    )
    assert nodes.go(topology.nodes()) == [HERE, THERE]
    assert nodes.go(topology.node_of("b")) == home("b")
    assert nodes.go(topology.ask_everywhere(("PING",))) == [b"OK", b"OK"]
    assert nodes.since == [(HERE, "PING"), (THERE, "PING")]


@pytest.mark.parametrize("host", ["10.0.0.3", ""])
def test_a_key_that_has_moved_is_asked_for_where_it_is(host: str) -> None:
    target = (host or home("a")[0], 3)

    def get(node: Node) -> Any:
        return b"1" if node == target else MovedError(f"{slot_of('a')} {host}:3")

    nodes, topology = Nodes(GET=get), Topology(HERE)
    assert nodes.go(topology.ask_each([GET])) == [b"1"]
    assert nodes.since[1:] == [(home("a"), "GET"), (target, "GET")]
    # The next command asks anew who has what.
    nodes.answers["CLUSTER"] = lambda _node: table(target, target)
    assert nodes.go(topology.ask_each([GET])) == [b"1"]
    assert [what for _, what in nodes.since] == ["CLUSTER", "GET"]


def test_a_key_on_its_way_is_asked_for_in_words_that_its_new_node_accepts() -> None:
    def get(node: Node) -> Any:
        return b"1" if node == NEW else AskError(f"{slot_of('a')} 10.0.0.3:3")

    nodes, topology = Nodes(GET=get), Topology(HERE)
    for _ in range(2):
        assert nodes.go(topology.ask_each([GET])) == [b"1"]
        assert nodes.since[-3:] == [(home("a"), "GET"), (NEW, "ASKING"), (NEW, "GET")]


@pytest.mark.parametrize("error", [TryAgainError("TRYAGAIN"), ClusterDownError("CLUSTERDOWN")])
def test_it_waits_a_while_for_the_nodes_to_agree(error: Exception) -> None:
    replies = [b"1", error, error]
    nodes, topology = Nodes(GET=lambda _node: replies.pop()), Topology(HERE)
    assert nodes.go(topology.ask_each([GET])) == [b"1"]
    assert nodes.waited == [PAUSE, PAUSE]
    nodes.answers["GET"] = lambda _node: error
    assert nodes.go(topology.ask_each([GET])) == [error]
    assert len(nodes.waited) == 2 + REDIRECTIONS


def test_nodes_that_send_to_each_other_for_ever_are_asked_a_few_times_only() -> None:
    nodes, topology = Nodes(GET=lambda node: MovedError(f"1 10.0.0.{5 - node[1]}:{5 - node[1]}")), Topology(HERE)
    [reply] = nodes.go(topology.ask_each([GET]))
    assert isinstance(reply, TryAgainError)
    assert [what for _, what in nodes.since].count("GET") == 1 + REDIRECTIONS
    assert len(nodes.waited) == REDIRECTIONS - 1


@pytest.mark.parametrize("wrong", [None, TryAgainError("TRYAGAIN")])
def test_many_wait_no_longer_for_nodes_that_disagree_than_one(wrong: Exception | None) -> None:
    def get(node: Node) -> Any:
        return wrong or MovedError(f"1 10.0.0.{5 - node[1]}:{5 - node[1]}")

    nodes, topology = Nodes(GET=get), Topology(HERE)
    replies = nodes.go(topology.ask_each([GET] * 20 + [("PING",)]))
    assert [type(reply) for reply in replies[:-1]] == [TryAgainError] * 20
    assert replies[-1] == b"OK"
    assert len(nodes.waited) == (REDIRECTIONS - 1 if wrong is None else REDIRECTIONS + 19)


def test_who_is_sent_to_and_fro_waits_until_the_nodes_agree() -> None:
    first, other = home("a"), home("b")
    nodes, topology = Nodes(), Topology(HERE)

    def get(node: Node) -> Any:
        # Who takes over says so after two waits.
        if node == other and len(nodes.waited) == 2:
            return b"1"
        host, port = first if node == other else other
        return MovedError(f"{slot_of('a')} {host}:{port}")

    nodes.answers["GET"] = get
    assert nodes.go(topology.ask_each([GET])) == [b"1"]
    assert nodes.waited == [PAUSE, PAUSE]


def test_a_node_that_is_away_makes_the_next_command_ask_the_others() -> None:
    def cluster(node: Node) -> Any:
        return ConnectionError("no") if node == HERE else table(NEW, NEW)

    nodes, topology = Nodes(), Topology(HERE)
    nodes.go(topology.ask_each([("PING",)]))
    nodes.answers |= {"CLUSTER": cluster, "PING": lambda node: ConnectionError("no") if node == HERE else b"PONG"}
    with pytest.raises(ConnectionError):
        nodes.go(topology.ask_each([("PING",)]))
    assert nodes.go(topology.ask_each([("PING",)])) == [b"PONG"]
    assert nodes.go(topology.nodes()) == [NEW]


@pytest.mark.parametrize("silence", [[], ClusterDownError("CLUSTERDOWN"), ConnectionError("no")])
def test_a_node_that_knows_of_no_slots_is_passed_over(silence: Any) -> None:
    nodes, topology = Nodes(CLUSTER=lambda _node: table(THERE, THERE)), Topology(HERE)
    nodes.go(topology.nodes())
    topology._slots = []
    nodes.answers["CLUSTER"] = lambda node: silence if node == THERE else table(NEW, NEW)
    nodes.since  # noqa: B018
    assert nodes.go(topology.nodes()) == [NEW]
    topology._slots = []
    nodes.answers["CLUSTER"] = lambda _node: silence
    with pytest.raises((ClusterDownError, ConnectionError)):
        nodes.go(topology.nodes())
