"""Servers of both kinds, and a site whose tasks are in Redis."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from backroom.redis import Address, Server, server_of
from backroom.tasks.records import Query, Record
from backroom.tasks.stores.redis import RedisStore
from tests.redis.servers import TcpRedis, Valkey
from tests.services.project import Process, Project, wait_until
from tests.services.running import kept_running

KINDS: dict[str, type[TcpRedis]] = {"redis": TcpRedis, "valkey": Valkey}


@pytest.fixture(scope="session")
def tcp_redis(services_folder: Path) -> Iterator[TcpRedis]:
    """Give the Redis server that the tests of this folder share."""
    yield from kept_running(partial(TcpRedis, services_folder / "tcp-redis"))


@pytest.fixture(scope="session")
def valkey(services_folder: Path) -> Iterator[TcpRedis]:
    """Give the Valkey server that they share."""
    yield from kept_running(partial(Valkey, services_folder / "valkey"))


@pytest.fixture(params=["redis", "valkey"])
def either(request: pytest.FixtureRequest) -> TcpRedis:
    """Give an empty server of each kind."""
    server: TcpRedis = request.getfixturevalue("tcp_redis" if request.param == "redis" else "valkey")
    server.ask("FLUSHALL")
    return server


@pytest.fixture
def only(tcp_redis: TcpRedis) -> TcpRedis:
    """Give an empty Redis server, for what takes long and is no different on Valkey."""
    tcp_redis.ask("FLUSHALL")
    return tcp_redis


@pytest.fixture
def own_server(own_folder: Path) -> Iterator[Callable[..., TcpRedis]]:
    """Give a function that starts a server which the test may harm."""
    own_folder.mkdir()
    running: list[Iterator[TcpRedis]] = []

    def start(kind: str = "redis", **options: Any) -> TcpRedis:
        running.append(kept_running(partial(KINDS[kind], own_folder / f"{len(running)}", **options)))
        return next(running[-1])

    yield start
    for each in running:
        next(each, None)


@pytest.fixture
def server(either: TcpRedis) -> Server:
    """Give the way to that server."""
    return server_of(Address(url=either.url))


def settings_for(url: str, **options: Any) -> str:
    """Return the settings of a project whose tasks are in Redis."""
    tasks = {"BACKEND": "backroom.tasks.backends.redis.RedisBackend", "OPTIONS": {"url": url} | options}
    return f"TASKS = {{'default': {tasks!r}}}"


class Site:
    """A project whose tasks are in Redis, and short words for what the tests ask of them."""

    def __init__(self, project: Project, url: str, folder: Path) -> None:
        self.project = project
        self.store = RedisStore(server_of(Address(url=url)), "default")
        self.effects = folder / f"effects-{os.urandom(3).hex()}"
        self.effects.touch()
        self.gate = folder / f"gate-{os.urandom(3).hex()}"

    def enqueue(self, name: str, *args: Any, many: int = 1) -> list[str]:
        """Enqueue a task of `tests.processes.jobs`, each with its number as the last argument if they are many."""
        code = (
            "from backroom.tasks import enqueue_many\nfrom tests.processes import jobs\n"
            f"calls = [([*{args!r}, number] if {many} > 1 else {list(args)!r}, {{}}) for number in range({many})]\n"
            f"print(*[result.id for result in enqueue_many(jobs.{name}, calls)])"
        )
        return self.project.python(code).split()

    def enqueue_each(self, calls: list[tuple[str, list[Any]]]) -> list[str]:
        """Enqueue tasks by their names in `tests.processes.jobs`, and return their ids."""
        code = (
            "from tests.processes import jobs\n"
            f"print(*[getattr(jobs, name).enqueue(*args).id for name, args in {calls!r}])"
        )
        return self.project.python(code).split()

    def worker(self, *arguments: str) -> Process:
        """Start a worker."""
        return self.project.manage("backroom", "worker", *arguments)

    def states(self) -> Counter[str]:
        """Count the tasks in each state."""
        return Counter({state: count for (_, state), count in self.store.counts().items()})

    def records(self) -> list[Record]:
        """Return all tasks, page by page, for none of them is to be counted twice or left out."""
        page = self.store.find(Query(), limit=500)
        found = page.records
        while page.next_after is not None:
            page = self.store.find(Query(), after=page.next_after, limit=500)
            found += page.records
        return found

    def lines(self) -> list[str]:
        """Return the effects so far."""
        return self.effects.read_text().splitlines()

    def wait_for_states(self, seconds: float = 60, **counts: int) -> None:
        """Wait until so many tasks are in these states, whether or not the server answers meanwhile."""
        wait_until(
            partial(self._are, counts),
            seconds=seconds,
            what=lambda: f"{counts}; effects: {self.lines()[-3:]}",
        )

    def wait_for_some(self, count: float) -> None:
        """Wait until so many tasks have succeeded."""
        wait_until(lambda: self.states()["successful"] >= count, what=f"{count} tasks to be done")

    def _are(self, counts: dict[str, int]) -> bool:
        try:
            states = self.states()
        except self.store.unavailable:
            return False
        return all(states[state] == count for state, count in counts.items())


@pytest.fixture
def make_redis_site(make_project: Callable[..., Project], tmp_path: Path) -> Callable[..., Site]:
    """Return a function that makes a site on a server; OPTIONS of the backend go in as keywords."""

    def make(url: str, *, direct_url: str = "", database: str = "sqlite", **options: Any) -> Site:
        project = make_project(database, settings=settings_for(url, **options))
        return Site(project, direct_url or url, tmp_path)

    return make
