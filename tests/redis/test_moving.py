"""A slot of a cluster moves from one node to another: nothing is lost, and nothing is taken for gone meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from backroom.clock import after
from backroom.redis import Address, RedisUnavailable, server_of
from backroom.sessions.documents import Changes
from backroom.sessions.keys import KeyHash
from backroom.sessions.records import Header
from backroom.sessions.steps import run
from backroom.sessions.stores import redis as sessions
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.records import Query, Renewal
from backroom.tasks.stores.redis import RedisStore
from backroom.testing.stores.case import LEASE, NOW, new_record, request, succeeded
from tests.redis.servers import Move, TcpRedis, cluster


@pytest.fixture(scope="module")
def nodes(services_folder: Path) -> Iterator[list[TcpRedis]]:
    with cluster(services_folder / "moving-cluster") as nodes:
        yield nodes


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("backroom.redis.topology.PAUSE", 0.001)


def test_tasks_wait_until_all_of_them_have_moved(nodes: list[TcpRedis]) -> None:
    store = RedisStore(server_of(Address(url=nodes[0].tcp_url, cluster=True)), "default")
    records = [new_record() for _ in range(6)]
    store.insert(records)
    held = store.claim(request(2))
    later = new_record()
    move = Move(nodes, store.shards[0])
    # Nothing has moved yet; then something has, and at last all of it, before the nodes agree.
    for most in (0, 3, 1_000):
        move.go_on(most)
        for work in (
            lambda: store.insert([later]),
            lambda: store.insert([later, new_record()]),
            lambda: store.exchange([succeeded(held[0])], request(9)),
            lambda: store.renew([Renewal(claim.id, claim.fence) for claim in held], after(NOW, LEASE)),
            lambda: store.get([later.id]),
            lambda: store.find(Query()),
        ):
            with pytest.raises(StoreUnavailable, match="is moving the keys"):
                work()
    move.end()
    assert store.insert([later]) == {}
    assert store.apply([succeeded(claim) for claim in held]) == {claim.id for claim in held}
    assert {claim.id for claim in store.claim(request(9))} == {each.id for each in [*records[2:], later]}


def test_no_session_is_taken_for_gone(nodes: list[TcpRedis]) -> None:
    store = sessions.RedisStore(Address(url=nodes[0].tcp_url, cluster=True), "moving")
    hash_ = KeyHash("a" * 43)
    header = Header(hash_, "7", NOW, NOW, NOW, after(NOW, LEASE), "", "", "")
    assert run(store.insert(header, Changes(stored={"a": "1"}), {}))
    move = Move(nodes, "moving:{sessions}")
    for most in (0, 1, 1_000):
        move.go_on(most)
        with pytest.raises(RedisUnavailable, match="is moving the keys"):
            run(store.write(hash_, Changes(stored={"a": "2"}), {}))
        assert run(store.exists(hash_))
    move.end()
    assert run(store.write(hash_, Changes(stored={"a": "2"}), {}))
    loaded = run(store.load(hash_, NOW))
    assert loaded is not None
    assert loaded.contents == {"a": "2"}
