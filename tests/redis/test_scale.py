"""A long queue: what a task takes in memory, and that a claim, a page and a step of pruning stay as small as before."""

from __future__ import annotations

import random
from typing import Any

import pytest

from backroom.redis import Address, server_of
from backroom.tasks.records import Claim, Query, Record, State
from backroom.tasks.stores.redis import LOOKS, RedisStore
from backroom.testing.stores.case import NOW, new_record, released, request, succeeded
from tests.redis.servers import TcpRedis

FEW, MANY = 1_000, 40_000
WAITING, DONE = 640, 900
"""Bytes of a small task at most; docs/how-to/redis.md names what was measured with a million of them."""


@pytest.fixture
def store(only: TcpRedis) -> RedisStore:
    return RedisStore(server_of(Address(url=only.url)), "default")


def used(server: TcpRedis) -> int:
    return int(server.info("memory").partition("used_memory:")[2].split()[0])


def fill(store: RedisStore, count: int) -> None:
    payload = '{"args":[12345,"someone@example.com"],"kwargs":{}}'
    store.insert([new_record(payload=payload) for _ in range(count)])


def inside(server: TcpRedis, work: Any) -> dict[str, int]:
    """Return which commands some work makes the server carry out, scripts and all."""
    server.ask("CONFIG", "RESETSTAT")
    work()
    return {name: count for name, count in server.calls().items() if "|" not in name and name != "info"}


def test_a_task_takes_a_few_hundred_bytes(store: RedisStore, only: TcpRedis) -> None:
    empty = used(only)
    fill(store, MANY)
    assert used(only) - empty < WAITING * MANY
    while claims := store.claim(request(500)):
        store.apply([succeeded(claim)._replace(prune_at=NOW) for claim in claims])
    assert used(only) - empty < DONE * MANY
    while store.prune(NOW, 500):
        continue
    assert only.ask("DBSIZE") <= 2, only.ask("KEYS", "*")
    assert store.counts() == {}


def test_a_claim_does_as_much_however_long_the_queue_is(store: RedisStore, only: TcpRedis) -> None:
    done = []
    for count in (FEW, MANY):
        fill(store, count)
        claims = store.claim(request(20))
        store.apply([released(claim) for claim in claims])
        done.append(inside(only, lambda: store.claim(request(20))))
        store.apply([released(claim) for claim in store.find(Query(states=("running",))).records])
    assert done[0] == done[1]
    assert inside(only, store.counts)["hscan"] == 1
    assert sum(inside(only, store.counts).values()) <= 2
    assert done[0]["evalsha"] == done[0]["zpopmin"] == 1


def test_names_of_queues_that_others_have_emptied_hide_no_task(store: RedisStore, only: TcpRedis) -> None:
    names = [f"customer-{number}" for number in range(FEW)]
    store.insert([new_record(queue_name=name) for name in names])
    for name in names[1:]:
        assert len(store.claim(request(1, queues=(name,)))) == 1
    assert only.ask("HLEN", "backroom:{default}:queues") == only.ask("ZCARD", "backroom:{default}:heads") == FEW
    assert [claim.queue_name for claim in store.claim(request(1))] == names[:1]
    # That the others are empty is seen once.
    assert [inside(only, lambda: store.claim(request(1)))["zrange"] > FEW for _ in range(2)] == [True, False]
    assert only.ask("HLEN", "backroom:{default}:queues") == only.ask("ZCARD", "backroom:{default}:heads") == 0


def test_a_claim_does_as_much_however_many_queues_there_are(store: RedisStore, only: TcpRedis) -> None:
    did = {}
    for count in (100, 10_000):
        only.ask("FLUSHALL")
        names = tuple(f"customer-{number}" for number in range(count))
        store.insert([new_record(queue_name=name, priority=number % 3) for number, name in enumerate(names)])
        for who, queues in (("all", ()), ("named", names)):
            # The first claims of the test make the script known.
            store.claim(request(20, queues=queues))
            asked = request(20, queues=queues)
            did[who, count] = inside(only, lambda asked=asked: store.claim(asked))
            # What is given back finds its place again.
            store.apply([released(claim) for claim in store.find(Query(states=("running",))).records])
    assert did["all", 100] == did["all", 10_000]
    assert did["named", 100] == did["named", 10_000]
    assert sum(did["all", 10_000].values()) < 200
    assert store.counts()["customer-0", "ready"] == 1


def test_no_command_looks_into_more_than_some_hundred_queues(store: RedisStore, only: TcpRedis) -> None:
    names = [f"customer-{number:05}" for number in range(5 * LOOKS)]
    records = [new_record(queue_name=name) for name in names]
    store.insert(records)
    counted: list[dict[tuple[str, State], int]] = []
    did = inside(only, lambda: counted.append(store.counts()))
    assert counted == [{(name, "ready"): 1 for name in names}]
    # A command may tell of some more than it was asked for.
    assert did["hscan"] >= 3
    found: list[Record] = []
    did = inside(only, lambda: found.extend(store.oldest_ready()))
    assert [each.id for each in found] == [each.id for each in records]
    assert did["evalsha"] >= did["zrange"] / LOOKS
    assert did["hscan"] >= 3


def test_a_queue_of_many_priorities_takes_as_many_looks(store: RedisStore, only: TcpRedis) -> None:
    names = [f"customer-{number}" for number in range(20)]
    records = [new_record(queue_name=name, priority=number) for name in names for number in range(90)]
    store.insert(records)
    found: list[Record] = []
    did = inside(only, lambda: found.extend(store.oldest_ready()))
    assert [each.id for each in found] == [
        min(each.id for each in records if each.queue_name == name) for name in sorted(names)
    ]
    assert did["zrange"] == 20 * 91
    # Beside the one that reads the records found.
    assert did["evalsha"] == 1 + -(-20 // -(-LOOKS // 91))


@pytest.mark.parametrize("count", [3, 40])
def test_each_queue_stands_at_its_first_task_or_before_it(store: RedisStore, only: TcpRedis, count: int) -> None:
    draw = random.Random(count)
    names = [f"customer-{number}" for number in range(count)]
    held: list[Claim] = []
    for _ in range(60):
        store.insert([new_record(queue_name=draw.choice(names), priority=draw.randint(-2, 2)) for _ in range(9)])
        asked = draw.choice([[], names[::2], draw.sample(names, 2)])
        held += store.claim(request(draw.randint(1, 12), queues=asked))
        draw.shuffle(held)
        back, held = held[:3], held[3:]
        store.apply([released(claim) for claim in back[:2]] + [succeeded(claim) for claim in back[2:]])
        firsts = stands(store, names)
        for name, ready in zip(names, first_ready(store, names), strict=True):
            assert not ready or firsts[name] <= ready
    while store.claim(request(50)):
        continue
    assert first_ready(store, names) == [()] * count
    assert store.oldest_ready() == []


def stands(store: RedisStore, names: list[str]) -> dict[str, tuple[float, bytes]]:
    """Return where the queues stand, which is written down twice."""
    known = store.server.call("HMGET", f"{store.shards[0]}:queues", *names)
    pairs = [(name, each.split()) for name, each in zip(names, known, strict=True) if each]
    heads = iter(store.server.call("ZRANGE", f"{store.shards[0]}:heads", 0, -1, "WITHSCORES"))
    listed = {(float(score), head) for head, score in zip(heads, heads, strict=True)}
    assert listed == {(float(score), id_ + b" " + name.encode()) for name, (score, id_) in pairs}
    return {name: (float(score), id_) for name, (score, id_) in pairs}


def first_ready(store: RedisStore, names: list[str]) -> list[tuple[float, bytes] | tuple[()]]:
    asked = [("ZRANGE", f"{store.shards[0]}:ready:{name}", 0, 0, "WITHSCORES") for name in names]
    return [(float(found[1]), found[0]) if found else () for found in store.server.call_each(asked)]


def test_pruning_goes_in_steps(store: RedisStore, only: TcpRedis) -> None:
    fill(store, FEW)
    store.apply([succeeded(claim)._replace(prune_at=NOW) for claim in store.claim(request(FEW))])
    assert inside(only, lambda: store.prune(NOW, 100))["evalsha"] == 1
    assert store.counts() == {("default", "successful"): FEW - 100}


def test_a_page_that_finds_nothing_ends_before_it_has_read_everything(store: RedisStore, only: TcpRedis) -> None:
    fill(store, MANY)
    pages = []
    did = inside(only, lambda: pages.append(store.find(Query(task_path="no.such.task"), limit=10)))
    assert did["evalsha"] == 20
    [page] = pages
    assert page.records == []
    assert page.next_after is not None
    # And goes on where it stopped, until there is nothing more.
    assert store.find(Query(task_path="no.such.task"), after=page.next_after).next_after is not None
    assert store.find(Query(reason="lost"), limit=10) == ([], None)
    assert len(store.find(Query(queue_name="default"), limit=10).records) == 10


def test_what_one_worker_runs_is_found_at_once_among_thousands(store: RedisStore, only: TcpRedis) -> None:
    fill(store, 2_500)
    store.claim(request(2_400))
    claims = store.claim(request(20, worker_id="worker-2"))
    fill(store, 10 * FEW)
    found = []
    did = inside(only, lambda: found.extend(store.find(Query(worker_id="worker-2")).records))
    assert [each.id for each in found] == [claim.id for claim in reversed(claims)]
    # One looks, and one reads.
    assert did["evalsha"] == 2


def test_few_in_one_state_are_found_among_many_in_others(store: RedisStore) -> None:
    fill(store, 10)
    claims = store.claim(request(3))
    fill(store, MANY)
    assert [each.id for each in store.find(Query(worker_id="worker-1")).records] == [
        claim.id for claim in reversed(claims)
    ]
    assert store.find(Query(states=("running",), queue_name="other")) == ([], None)
