"""Somebody has deleted tasks by hand, and left the rest of them: what is whole goes on, and nothing waits for ever."""

from __future__ import annotations

from typing import Any

import pytest

from backroom.clock import after
from backroom.redis import Server
from backroom.tasks.records import Query
from backroom.tasks.stores.redis import RedisStore
from backroom.testing.stores.case import NOW, deferred, new_record, request, succeeded, unique


@pytest.fixture
def store(server: Server) -> RedisStore:
    return RedisStore(server, "default")


def damage(store: RedisStore, *ids: str, what: str = "tasks") -> None:
    store.server.call("HDEL", f"{store.shards[0]}:{what}", *ids)


@pytest.mark.parametrize("how", [{"queues": ("default",)}, {}, {"queues": ("default", "mail")}])
def test_what_is_whole_is_claimed(store: RedisStore, how: dict[str, Any]) -> None:
    records = [new_record() for _ in range(6)] + [new_record(queue_name="mail")]
    store.insert(records)
    damage(store, records[0].id, records[2].id)
    claims = store.claim(request(4, **how)) + store.claim(request(9))
    assert [claim.id for claim in claims] == [each.id for each in records if each not in (records[0], records[2])]
    assert store.counts() == {("default", "running"): 4, ("mail", "running"): 1}
    assert store.find(Query(queue_name="default")).records[-1].id == records[1].id


def test_what_is_whole_becomes_due(store: RedisStore) -> None:
    records = [new_record(**deferred(10)) for _ in range(3)]
    store.insert(records)
    damage(store, records[0].id)
    assert len(store.find(Query(states=("deferred",))).records) == 2
    assert [claim.id for claim in store.claim(request(9, now=after(NOW, 10)))] == [each.id for each in records[1:]]


def test_what_is_left_is_pruned(store: RedisStore) -> None:
    store.insert([new_record() for _ in range(3)])
    claims = store.claim(request(3))
    store.apply([succeeded(claim)._replace(prune_at=NOW) for claim in claims])
    damage(store, claims[1].id, what="live")
    assert store.prune(NOW, 10) == 3
    assert store.prune(NOW, 10) == 0


def test_a_unique_key_that_nobody_has_is_free(store: RedisStore) -> None:
    gone, first, second = (new_record(**unique("key", "unfinished")) for _ in range(3))
    store.insert([gone])
    damage(store, gone.id)
    # Of two that come together the first one has it, although neither is written yet.
    assert store.insert([first, second]) == {second.id: first.id}
    assert store.insert([second]) == {second.id: first.id}
