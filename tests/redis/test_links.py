"""One connection: the short way through the client library, and the library's own where that one is closed."""

from __future__ import annotations

import tomllib
from importlib.metadata import version
from typing import Any

import pytest
from redis.exceptions import NoScriptError, ResponseError

from backroom.redis import Address, links
from backroom.redis.addresses import maker_in_loop_of, maker_of
from backroom.redis.links import Link
from tests.redis.servers import TcpRedis
from tests.services.project import REPOSITORY, wait_until


class Hidden:
    """A connection of the library that shows what has a public name, and nothing else."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.connection, name)


@pytest.fixture(params=["short", "hidden", "without hiredis"])
def link(request: pytest.FixtureRequest, only: TcpRedis, monkeypatch: pytest.MonkeyPatch) -> Link:
    """Give a connection by each way."""
    connection = maker_of(Address(url=only.url))()
    if request.param == "without hiredis":
        monkeypatch.setattr(links, "_hiredis", None)
    return Link(Hidden(connection) if request.param == "hidden" else connection)


def test_commands_go_there_and_replies_come_back(link: Link) -> None:
    assert not link.is_stale()
    assert link.ask(("SET", "a", b"\x00\xff")) == b"OK"
    assert link.ask(("GET", "a")) == b"\x00\xff"
    assert link.ask(("GET", "b")) is None
    one, wrong, other = link.ask_each([("INCR", "n"), ("NO", "SUCH"), ("INCRBY", "n", 2)])
    assert (one, other) == (1, 3)
    assert isinstance(wrong, ResponseError)
    with pytest.raises(NoScriptError):
        link.ask(("EVALSHA", "0" * 40, 0))
    assert link.ask(("PING",)) == b"PONG"
    link.close()
    assert link.ask(("PING",)) == b"PONG"
    link.close()


def test_a_reply_that_has_arrived_is_seen(link: Link, only: TcpRedis) -> None:
    link.send([("BLPOP", "list", 0)])
    assert not link.has_reply()
    only.ask("RPUSH", "list", "a")
    wait_until(link.has_reply, what="the reply")
    assert link.reply() == [b"list", b"a"]
    link.close()


def test_a_connection_that_the_server_closed_is_stale(link: Link, only: TcpRedis) -> None:
    number = link.ask(("CLIENT", "ID"))
    assert not link.is_stale()
    only.ask("CLIENT", "KILL", "ID", number)
    wait_until(link.is_stale, what="the end to be seen")
    link.close()
    assert link.ask(("PING",)) == b"PONG"
    link.close()


def test_the_client_library_has_what_the_short_way_takes() -> None:
    address = Address(url="redis://127.0.0.1:1")
    connection, in_loop = maker_of(address)(), maker_in_loop_of(address)()
    needed = [(connection, links.SOCKET), (in_loop, "_reader"), (in_loop, "_writer")]
    gone = [f"{type(each).__name__}.{name}" for each, name in needed if not hasattr(each, name)]
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert not gone, (
        f"redis-py {version('redis')} has no {', '.join(gone)} any more, and pyproject.toml allows {extras['redis'][0]}. "
        "Connections go the library's slow way, or not at all in an event loop: adapt backroom/redis/links.py and "
        "loops.py, or bound the version."
    )
