"""What scripts do first for the usual task: it leaves and returns what the long way would, in few commands."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from backroom.clock import after
from backroom.redis import Address, Script, Server, server_of
from backroom.tasks.records import Claim, Record
from backroom.tasks.stores import redis as stores
from backroom.tasks.stores.base import Request
from backroom.tasks.stores.redis import RedisStore
from backroom.testing.stores.case import NOW, deferred, new_record, raised, released, request, unique
from tests.redis.servers import TcpRedis

FOUR = request(4, queues=("default",))
LATER = request(4, queues=("default",), now=after(NOW, 100))

STORIES: dict[str, tuple[Sequence[dict[str, Any]], Sequence[Request]]] = {
    "one": ([{}], [FOUR]),
    "two, one by one": ([{}, {}], [request(1, queues=("default",)), FOUR, FOUR]),
    "more than fit": ([{}] * 20, [request(40, queues=("default",)), FOUR]),
    "as many as asked for": ([{}] * 4, [FOUR]),
    "none": ([], [FOUR]),
    "priorities": ([{"priority": number} for number in (0, 5, -5, 0, 5, 0)], [FOUR, FOUR]),
    "another queue": ([{}, {"queue_name": "mail"}, {"queue_name": "é\n"}], [FOUR, request(4, queues=("é\n",)), FOUR]),
    "a queue with a priority": ([{"priority": 5}, {}, {}], [FOUR]),
    "a line in between": ([{"payload": '{"args":["a\\nb"],"kwargs":{}}'}, {"metadata": '{"a":1}'}], [FOUR]),
    "long": ([{}, {"payload": '{"args":["%s"],"kwargs":{}}' % ("x" * 3_000)}], [FOUR]),
    "due later": ([{}, deferred(50), deferred(5_000)], [FOUR, LATER, LATER]),
    "expiring": ([{"expires_at": after(NOW, 9)}, {}], [FOUR]),
    "unique": ([unique("a"), {}, unique("b", "pending")], [FOUR]),
}


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest) -> Server:
    found: TcpRedis = request.getfixturevalue("tcp_redis" if request.param == "redis" else "valkey")
    found.ask("FLUSHALL")
    return server_of(Address(url=found.url))


def long_way(name: str) -> Script:
    """Return a script without what it does first."""
    text = stores.script(name).text
    return (
        Script(re.sub(r"if #ARGV (==|<) \d+ and ", "if false and ", text, count=1)) if name in SHORT else Script(text)
    )


SHORT = {"insert", "exchange"}


def kept(server: Server) -> dict[str, Any]:
    """Return everything that the server keeps."""
    reads = {b"hash": "HGETALL", b"set": "SMEMBERS", b"string": "GET"}
    found: dict[str, Any] = {}
    for name in sorted(server.call("KEYS", "*")):
        match server.call("TYPE", name):
            case b"zset":
                found[name] = server.call("ZRANGE", name, 0, -1, "WITHSCORES")
            case b"list":
                found[name] = server.call("LRANGE", name, 0, -1)
            case b"hash":
                values = iter(server.call("HGETALL", name))
                found[name] = dict(zip(values, values, strict=True))
            case kind:
                found[name] = server.call(reads[kind], name)
    return found


def told(server: Server, inserts: Sequence[Sequence[Record]], requests: Sequence[Request]) -> list[Any]:
    """Do it all, and return what came back and what was kept after each step."""
    server.call("FLUSHALL")
    store = RedisStore(server, "contract")
    seen: list[Any] = []

    def note(found: Any) -> Any:
        seen.append((found, kept(server)))
        return found

    for records in inserts:
        note(store.insert(records))
        # An insert whose answer was lost is sent again.
        note(store.insert(records))
    claims: list[Claim] = []
    for asked in requests:
        claims += note(store.claim(asked))
    # Put back, and so touched before: the first as it was, the second with its failure.
    note(store.apply([raised(each) if number == 1 else released(each) for number, each in enumerate(claims)]))
    for asked in (*requests, LATER):
        note(store.claim(asked))
        note(store._due_at)
    return seen


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.parametrize("how", ["one by one", "together", "backwards", "some of them twice"])
def test_the_short_way_leads_where_the_long_way_does(
    server: Server, monkeypatch: pytest.MonkeyPatch, story: str, how: str
) -> None:
    values, requests = STORIES[story]
    records = [new_record(**each) for each in values]
    inserts = {
        "one by one": [[each] for each in records],
        "together": [[new_record()], records],
        "backwards": [records[::-1]],
        "some of them twice": [records[: len(records) // 2], records],
    }[how]
    ways = {name: (stores.script(name), long_way(name)) for name in ("insert", "exchange", "get")}
    assert {name for name, (short, long) in ways.items() if short.text != long.text} == SHORT
    told_shortly = told(server, inserts, requests)
    monkeypatch.setattr(stores, "script", lambda name: ways[name][1])
    assert told(server, inserts, requests) == told_shortly


def inside(server: TcpRedis, work: Callable[[], Any]) -> dict[str, int]:
    """Return which commands a script makes the server carry out."""
    server.ask("CONFIG", "RESETSTAT")
    work()
    left_out = {"info", "evalsha", "config|resetstat", "hello"}
    return {name: count for name, count in server.calls().items() if name not in left_out}


def test_many_plain_tasks_are_added_in_as_many_commands_as_two(only: TcpRedis) -> None:
    store = RedisStore(server_of(Address(url=only.url)), "contract")
    store.insert([new_record()])
    done = [inside(only, lambda: store.insert([new_record() for _ in range(count)])) for count in (2, 1_000)]  # noqa: B023
    # Tokens beside, of which there are sixteen at most.
    assert [each.pop("rpush") for each in done] == [2, 28]
    assert done[0] == done[1] == {"hget": 1, "hmget": 1, "hset": 1, "zadd": 2, "hincrby": 1, "llen": 2}


def test_a_plain_task_is_added_and_claimed_in_few_commands(only: TcpRedis) -> None:
    store = RedisStore(server_of(Address(url=only.url)), "contract")
    for _ in range(2):
        # The first one makes its queue known.
        store.insert([new_record()])
        store.claim(FOUR)
    only.ask("DEL", "backroom:{contract}:bell:default", "backroom:{contract}:bell:")

    added = {"hget": 1, "hsetnx": 1, "zadd": 2, "hincrby": 1, "llen": 2, "rpush": 2}
    assert inside(only, lambda: store.insert([new_record()])) == added
    claimed = {"zrange": 1, "zpopmin": 1, "hmget": 2, "hset": 1, "zadd": 1, "hincrby": 2}
    assert inside(only, lambda: store.claim(FOUR)) == claimed
    assert inside(only, lambda: store.claim(FOUR)) == {"zrange": 1, "zpopmin": 1}


def test_the_usual_task_never_comes_to_the_long_way(only: TcpRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RedisStore(server_of(Address(url=only.url)), "contract")
    store.insert([new_record()])
    common = (Path(stores.__file__).parent / "lua" / "common.lua").read_text()
    ways = {name: stores.script(name).text.partition(common)[0] for name in SHORT}
    monkeypatch.setattr(stores, "script", lambda name: Script(f"{ways[name]}\nerror('the long way')"))
    store.insert([new_record()])
    assert len(store.claim(FOUR)) == 2
    assert store.claim(FOUR) == []
    store.insert([new_record() for _ in range(1_000)])
    with pytest.raises(ResponseError, match="the long way"):
        store.claim(FOUR)
