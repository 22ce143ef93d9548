"""Throw-away stores: a SQLite file, or a database on a PostgreSQL cluster that the benchmark starts itself.

A store is made ready once, as a template, and copied for every repetition. Redis is in `redis_stores`.
"""

import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import psycopg

from benchmarks.tasks.processes import end_with_parent

DEBIAN = "/usr/lib/postgresql"
COUNTS = b"""
    SELECT xact_commit,
           (SELECT coalesce(sum(calls), 0) FROM pg_stat_statements s WHERE s.dbid = d.datid AND toplevel),
           pg_snapshot_xmax(pg_current_snapshot())::text::bigint,
           xact_rollback
    FROM pg_stat_database d WHERE datname = 'copy'
"""


class Store(Protocol):
    """One repetition's store."""

    location: str
    """What the system's processes get: a path, or a URL."""

    def count(self, statement: str, total: int) -> int:
        """Return the one number that a statement selects, `total` being how many tasks were enqueued."""

    def size(self) -> int | None:
        """Return the bytes of memory that the store keeps its tasks in, None where they are on disk."""

    def settle(self) -> None:
        """Bring the store to the state of one in long use: planner statistics, nothing left to flush."""


class Stores(Protocol):
    """Where the stores of one kind live."""

    description: str

    @property
    def server(self) -> int:
        """Process id of the server, 0 where there is none."""

    def template(self, name: str) -> AbstractContextManager[Store]:
        """Return a context manager: the empty store that copies are made of; a later call makes it anew."""

    def copy(self, name: str) -> AbstractContextManager[Store]:
        """Return a context manager: a fresh copy of a template, deleted at its end."""

    def counts(self) -> dict[str, int]:
        """Return what the server has counted of the copy so far; nothing where no server counts."""

    def close(self) -> None:
        """Stop the server."""


class SQLiteStore:
    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._connection: sqlite3.Connection | None = None

    def count(self, statement: str, total: int) -> int:  # noqa: ARG002 - see Store.count()
        self._connection = self._connection or sqlite3.connect(self.location, isolation_level=None)
        return int(self._connection.execute(statement).fetchone()[0])

    def size(self) -> None:
        """See Store.size()."""

    def settle(self) -> None:
        with sqlite3.connect(self.location) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        with Path(self.location).open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        if self._connection:
            self._connection.close()


class SQLiteStores:
    server = 0
    description = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextmanager
    def template(self, name: str) -> Iterator[SQLiteStore]:
        folder = self._directory / f"template-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        store = SQLiteStore(folder / "store.sqlite3")
        yield store
        store.settle()

    @contextmanager
    def copy(self, name: str) -> Iterator[SQLiteStore]:
        folder = self._directory / "copy"
        folder.mkdir()
        source = self._directory / f"template-{name}" / "store.sqlite3"
        SQLiteStore(source).settle()
        shutil.copyfile(source, folder / source.name)
        store = SQLiteStore(folder / source.name)
        store.settle()
        try:
            yield store
        finally:
            store.close()
            shutil.rmtree(folder)

    def counts(self) -> dict[str, int]:
        """See Stores.counts(): here the clients count."""
        return {}

    def close(self) -> None:
        """See Stores.close()."""


class PostgresStore:
    def __init__(self, location: str) -> None:
        self.location = location
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def count(self, statement: str, total: int) -> int:  # noqa: ARG002 - see Store.count()
        self._connection = self._connection or psycopg.connect(self.location, autocommit=True)
        row = self._connection.execute(statement.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def size(self) -> None:
        """See Store.size()."""

    def settle(self) -> None:
        with psycopg.connect(self.location, autocommit=True) as connection:
            connection.execute("VACUUM ANALYZE")
            connection.execute("CHECKPOINT")

    def close(self) -> None:
        if self._connection:
            self._connection.close()


class PostgresStores:
    """A cluster of its own, configured as initdb leaves it, on a free port of the loopback interface."""

    def __init__(self, directory: Path, *, preload: str = "") -> None:
        self._data = directory / f"pg{'-' + preload if preload else ''}"
        self._data.mkdir(mode=0o700)
        self._user = _unprivileged(self._data)
        self._bin = _binaries()
        _run(
            [
                *self._user,
                f"{self._bin}/initdb",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--pgdata",
                str(self._data),
            ]
        )
        self._port = _free_port()
        self._log = self._data.with_suffix(".log")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command(preload),
                stdout=log,
                stderr=log,
                cwd="/",
                preexec_fn=end_with_parent,  # noqa: PLW1509 - there is one thread
            )
        self.server = self._process.pid
        self._admin = self._wait()
        self.description = f"PostgreSQL {self._admin.info.server_version / 10_000:.4g}, stock configuration"
        self._counts = bool(preload)
        if preload:
            self._admin.execute(f"CREATE EXTENSION {preload}".encode())

    @contextmanager
    def template(self, name: str) -> Iterator[PostgresStore]:
        database = f"template_{_plain(name)}"
        self._drop(database)
        self._admin.execute(f'CREATE DATABASE "{database}"'.encode())
        store = PostgresStore(self._url(database))
        yield store
        store.settle()

    @contextmanager
    def copy(self, name: str) -> Iterator[PostgresStore]:
        # By files: a log record for every page of a million rows would still be on its way to the disk in the run.
        self._admin.execute(f'CREATE DATABASE copy TEMPLATE "template_{_plain(name)}" STRATEGY file_copy'.encode())
        store = PostgresStore(self._url("copy"))
        try:
            yield store
        finally:
            store.close()
            self._drop("copy")

    def counts(self) -> dict[str, int]:
        if not self._counts:
            return {}
        # The connection is to another database than the measured one, so what is asked here is not counted.
        row = self._admin.execute(COUNTS).fetchone()
        assert row is not None
        return dict(zip(("commits", "statements", "write_commits", "rollbacks"), map(int, row), strict=True))

    def close(self) -> None:
        self._admin.close()
        self._process.terminate()
        self._process.wait()

    def _command(self, preload: str) -> list[str]:
        return [
            *self._user,
            *(f"{self._bin}/postgres", "-D", str(self._data), "-p", str(self._port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
            *(("-c", f"shared_preload_libraries={preload}") if preload else ()),
        ]

    def _drop(self, database: str) -> None:
        self._admin.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)'.encode())

    def _url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def _wait(self) -> "psycopg.Connection[tuple[Any, ...]]":
        deadline = time.monotonic() + 30
        while True:
            try:
                return psycopg.connect(self._url("postgres"), autocommit=True)
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()}") from None
                time.sleep(0.05)


def _binaries() -> str:
    installed = sorted(Path(DEBIAN).glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    # The oldest: it is the floor that Backroom promises.
    if installed:
        return str(installed[0].parent)
    if on_path:
        return str(Path(on_path).parent)
    raise RuntimeError("No PostgreSQL server is installed: apt-get install postgresql")


def _unprivileged(data: Path) -> list[str]:
    """Return the prefix that drops root, which PostgreSQL refuses to run as."""
    if os.getuid() != 0:
        return []
    shutil.chown(data, "postgres", "postgres")
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups", "--pdeathsig=TERM"]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _plain(name: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in name)
