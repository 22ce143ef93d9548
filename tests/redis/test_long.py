"""Long payloads and results: who looks for something else does not read them, and nobody reads too many at once."""

from __future__ import annotations

from typing import Any

import pytest

from backroom.clock import after
from backroom.redis import Address, server_of
from backroom.tasks.records import Query, Record
from backroom.tasks.stores.redis import CHUNK_BYTES, CLAIM_BYTES, ROW_BYTES, RedisStore
from backroom.tasks.stores.redisrecords import LONG
from backroom.testing.stores.case import NOW, failed, new_record, raised, released, request, succeeded
from tests.redis.servers import TcpRedis

BIG = 100_000
TEXT = "\u00e4 text " * (BIG // 7)
RESULT = f'"{"r" * BIG}"'


@pytest.fixture
def store(only: TcpRedis) -> RedisStore:
    return RedisStore(server_of(Address(url=only.url)), "default")


def finished(store: RedisStore, count: int) -> list[Record]:
    """Have so many tasks with a long payload and a long result."""
    store.insert([new_record(payload=f'{{"args":["{TEXT}"],"kwargs":{{}}}}') for _ in range(count)])
    claims = claimed(store, count)
    store.apply([succeeded(claim, RESULT)._replace(prune_at=NOW) for claim in claims])
    return claims


def claimed(store: RedisStore, count: int) -> list[Record]:
    """Claim so many, in as many steps as it takes."""
    claims: list[Record] = []
    while len(claims) < count:
        more = store.claim(request(count - len(claims)))
        assert more, f"{len(claims)} are all there is"
        claims += more
    return claims


def ids_in_order(records: list[Record]) -> list[str]:
    """Return the ids of records in the order in which they are to be claimed."""
    return [each.id for each in sorted(records, key=lambda each: (-each.priority, each.id))]


def sent(server: TcpRedis, work: Any) -> int:
    """Return how many bytes some work makes the server send."""

    def so_far() -> int:
        return int(server.info("stats").partition("total_net_output_bytes:")[2].split()[0])

    before = so_far()
    work()
    return so_far() - before


def lengths(store: RedisStore, server: TcpRedis, record: Record) -> dict[str, int]:
    return {
        name: server.ask("HSTRLEN", f"{store.shards[0]}:{name}", record.id)
        for name in ("tasks", "live", "payloads", "results")
    }


def test_a_search_reads_and_sends_nothing_that_is_long(store: RedisStore, only: TcpRedis) -> None:
    claims = finished(store, 60)
    kept = lengths(store, only, claims[0])
    assert max(kept["tasks"], kept["live"]) < 2 * LONG
    assert min(kept["payloads"], kept["results"]) > BIG - 2 * LONG
    queries = (Query(task_path="no.such.task"), Query(states=("successful",), queue_name="mail"), Query(reason="lost"))
    for query in queries:
        assert sent(only, lambda query=query: store.find(query)) < BIG, query
    assert sent(only, lambda: store.find(Query(task_path=claims[0].task_path), limit=1)) < 4 * BIG


def test_no_script_sends_more_than_one_row_beyond_its_measure(store: RedisStore, only: TcpRedis) -> None:
    claims = finished(store, 30)
    only.ask("CONFIG", "RESETSTAT")
    records = store.find(Query(states=("successful",)), limit=50).records
    assert [record.id for record in records] == [claim.id for claim in reversed(claims)]
    assert {record.result for record in records} == {RESULT}
    assert only.calls()["evalsha"] >= 1 + 30 * 2 * BIG // (ROW_BYTES + 3 * BIG)


def test_no_script_is_told_of_more_results_than_fit(store: RedisStore, only: TcpRedis) -> None:
    store.insert([new_record() for _ in range(4)])
    claims = store.claim(request(3))
    long = f'"{"r" * (CHUNK_BYTES // 2)}"'
    only.ask("CONFIG", "RESETSTAT")
    exchange = store.exchange([succeeded(claim, long) for claim in claims], request(1))
    assert exchange.applied == {claim.id for claim in claims}
    assert len(exchange.claims) == 1
    assert only.calls()["evalsha"] == 3


def test_they_come_back_as_they_went_whatever_becomes_of_the_task(store: RedisStore, only: TcpRedis) -> None:
    record = new_record(payload=f'{{"args":["{TEXT}"],"kwargs":{{}}}}')
    store.insert([record])
    [claim] = store.claim(request())
    assert claim.payload == record.payload
    long = raised(claim)._replace(errors=RESULT, due_at=NOW)
    store.apply([long])
    [claim] = store.claim(request(now=after(NOW, 1)))
    assert (claim.payload, claim.errors, claim.attempts) == (record.payload, RESULT, 2)
    store.apply([released(claim)])
    [claim] = store.claim(request(now=after(NOW, 2), ids=[claim.id]))
    assert (claim.payload, claim.errors) == (record.payload, RESULT)
    # What has become short leaves nothing behind.
    store.apply([failed(claim)._replace(errors="[]", prune_at=NOW)])
    assert lengths(store, only, claim)["results"] == 0
    [read] = store.get([claim.id])
    assert (read.payload, read.errors, read.reason) == (record.payload, "[]", "error")
    assert store.find(Query(reason="error")).records == [read]
    assert store.prune(NOW, 10) == 1
    assert [name for name in only.ask("KEYS", "*") if ":bell:" not in name and not name.endswith(":queues")] == []


def test_what_is_long_is_written_a_few_at_a_time(store: RedisStore, only: TcpRedis) -> None:
    count = 25
    only.ask("CONFIG", "RESETSTAT")
    store.insert([new_record(payload=f'{{"args":["{"p" * BIG}"],"kwargs":{{}}}}') for _ in range(count)])
    parts = -(-count * BIG // CHUNK_BYTES)
    assert only.calls()["evalsha"] >= parts
    claims = claimed(store, count)
    only.ask("CONFIG", "RESETSTAT")
    # All of it is applied, and the claim comes with the last.
    assert len(store.exchange([succeeded(claim, RESULT) for claim in claims], request()).applied) == count
    assert parts <= only.calls()["evalsha"] <= parts + 1


@pytest.mark.parametrize("queues", [(), ("default",), ("default", "mail")])
def test_no_claim_brings_more_than_one_task_beyond_its_measure(
    store: RedisStore, only: TcpRedis, queues: tuple[str, ...]
) -> None:
    records = [
        new_record(payload=f'{{"args":["{"p" * BIG}"],"kwargs":{{}}}}', queue_name=name, priority=number % 3)
        for number, name in enumerate(["default", "mail"] * 15)
    ]
    store.insert(records)
    expected = ids_in_order([each for each in records if not queues or each.queue_name in queues])
    found: list[Record] = []
    sizes = []
    only.ask("DEL", "backroom:{default}:bell:")
    while len(found) < len(expected):
        sizes.append(sent(only, lambda: found.extend(store.claim(request(30, queues=queues)))))
        assert len(found) > 5 * len(sizes), sizes
        # What is left is as it was, and somebody is told of it.
        is_left = len(found) < len(expected)
        assert only.ask("LLEN", "backroom:{default}:bell:") == (1 if is_left else 0)
        only.ask("DEL", "backroom:{default}:bell:")
    assert [claim.id for claim in found] == expected
    assert {(claim.attempts, claim.fence) for claim in found} == {(1, 1)}
    assert max(sizes) < CHUNK_BYTES + 2 * BIG
    assert store.counts() == {
        (name, state): count
        for name in ("default", "mail")
        for state, count in [("running" if not queues or name in queues else "ready", 15)]
    }


@pytest.mark.parametrize("limit", [30, 25])
def test_a_claim_by_id_brings_all_of_them_some_in_each_reply(store: RedisStore, only: TcpRedis, limit: int) -> None:
    # For whoever has come with an id, what he does not get is another's.
    records = [new_record(payload=f'{{"args":["{"p" * BIG}"],"kwargs":{{}}}}', priority=n % 3) for n in range(30)]
    store.insert(records)
    store.claim(request(1, ids=[records[0].id]))
    only.ask("CONFIG", "RESETSTAT")
    claims = store.claim(request(limit, ids=[each.id for each in records]))
    assert [claim.id for claim in claims] == ids_in_order(records[1:])[:limit]
    assert {(claim.attempts, claim.fence) for claim in claims} == {(1, 1)}
    assert only.calls()["evalsha"] >= len(claims) * BIG // CLAIM_BYTES + 1
    left = len(records) - 1 - len(claims)
    assert len(store.claim(request(30))) == left


def test_what_failed_with_long_errors_counts_too(store: RedisStore, only: TcpRedis) -> None:
    store.insert([new_record() for _ in range(20)])
    claims = store.claim(request(20))
    store.apply([raised(claim)._replace(errors=RESULT, due_at=NOW) for claim in claims])
    assert len(store.claim(request(20, now=after(NOW, 1)))) == 10
