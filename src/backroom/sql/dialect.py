"""The one file that names database vendors: what SQLite and PostgreSQL say differently, and how each is locked."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from django.db import OperationalError, connections, transaction

from backroom.errors import BackroomError

SUPPORTED: Final = {"sqlite": "SQLite ≥ 3.37", "postgresql": "PostgreSQL ≥ 15"}
MINIMUM: Final = {"sqlite": (3, 37), "postgresql": (15, 0)}
LOCK_PATIENCE: Final = 30.0
"""Seconds that a statement of ours waits for SQLite's one write lock, above the connection's own timeout."""


class UnsupportedDatabase(BackroomError):
    """The database is none of those that Backroom speaks to."""


class Dialect(Protocol):
    """How one vendor says what the others say otherwise."""

    skip_locked: str
    least: str

    def rows(self, columns: Sequence[tuple[str, str]]) -> str:
        """Return a FROM item that reads rows out of one JSON parameter: an array of arrays, `(name, type)` each."""

    def ids(self) -> str:
        """Return a sub-select that reads ids out of one JSON parameter, an array of strings."""


class SQLite:
    """SQLite ≥ 3.37 (RETURNING, UPDATE … FROM, json_each)."""

    # One writer at a time: there is nothing to skip.
    skip_locked = ""
    least = "min"

    def rows(self, columns: Sequence[tuple[str, str]]) -> str:
        """See Dialect.rows()."""
        picked = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, (name, _) in enumerate(columns))
        return f"(SELECT {picked} FROM json_each(%s))"

    def ids(self) -> str:
        """See Dialect.ids()."""
        return "(SELECT value FROM json_each(%s))"


class PostgreSQL:
    """PostgreSQL ≥ 15."""

    skip_locked = "FOR NO KEY UPDATE SKIP LOCKED"
    least = "least"

    def rows(self, columns: Sequence[tuple[str, str]]) -> str:
        """See Dialect.rows()."""
        picked = ", ".join(f"(value ->> {index})::{kind} AS {name}" for index, (name, kind) in enumerate(columns))
        return f"(SELECT {picked} FROM json_array_elements(%s::json))"

    def ids(self) -> str:
        """See Dialect.ids()."""
        return "(SELECT json_array_elements_text(%s::json))"


DIALECTS: Final[dict[str, Dialect]] = {"sqlite": SQLite(), "postgresql": PostgreSQL()}


def vendor_of(alias: str) -> str:
    """Return the vendor of a database alias."""
    return str(connections[alias].vendor)


def dialect_of(alias: str) -> Dialect:
    """Return the dialect of a database alias; raise `UnsupportedDatabase` for any other vendor."""
    vendor = vendor_of(alias)
    if vendor not in DIALECTS:
        msg = f"Database {alias!r} is {vendor}. Use one of: {', '.join(SUPPORTED.values())}."
        raise UnsupportedDatabase(msg)
    return DIALECTS[vendor]


def fetch(alias: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def in_transaction(alias: str) -> bool:
    """Tell whether the caller is inside `atomic()` on this database."""
    return bool(connections[alias].in_atomic_block)


@contextmanager
def write_transaction(alias: str) -> Iterator[None]:
    """Hold the statements inside together, with the write lock taken at the start.

    A SQLite transaction that reads before it writes fails at once when another writer came between, whatever the
    timeout: only BEGIN IMMEDIATE waits.
    """
    connection: Any = connections[alias]
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        with transaction.atomic(using=alias):
            yield
        return
    connection.ensure_connection()
    mode = connection.transaction_mode
    connection.transaction_mode = "IMMEDIATE"
    try:
        block = transaction.atomic(using=alias)
        block.__enter__()
    finally:
        connection.transaction_mode = mode
    try:
        yield
    except BaseException as error:
        block.__exit__(type(error), error, error.__traceback__)
        raise
    block.__exit__(None, None, None)


def patiently[T](alias: str, work: Callable[[], T], *, patience: float = LOCK_PATIENCE) -> T:
    """Do `work`, again while SQLite says that it is locked, for at most `patience` seconds.

    Inside a transaction of the caller there is no second try: what came before would have to be done again too.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except OperationalError as error:
            if not _is_locked(alias, error) or in_transaction(alias) or time.monotonic() > deadline:
                raise


def _is_locked(alias: str, error: OperationalError) -> bool:
    return vendor_of(alias) == "sqlite" and "locked" in str(error)


def prepare_for_writers(alias: str) -> None:
    """Switch a SQLite file to WAL, so that readers and the writer do not wait for one another."""
    if vendor_of(alias) == "sqlite" and not in_transaction(alias) and journal_mode(alias) not in {"wal", "memory"}:
        fetch(alias, "PRAGMA journal_mode=WAL")


def journal_mode(alias: str) -> str | None:
    """Return SQLite's journal mode, or None for another vendor."""
    return str(fetch(alias, "PRAGMA journal_mode")[0][0]) if vendor_of(alias) == "sqlite" else None


def change_counter(alias: str) -> int | None:
    """Return a number that changes when another connection commits to a SQLite file; None for another vendor."""
    return int(fetch(alias, "PRAGMA data_version")[0][0]) if vendor_of(alias) == "sqlite" else None


def version(alias: str) -> tuple[int, ...]:
    """Return the version of the server, or of the SQLite library."""
    connection: Any = connections[alias]
    return tuple(connection.get_database_version())
