"""The one file that names database vendors: what SQLite and PostgreSQL say differently, and how each is locked."""

import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, OperationalError, ProgrammingError, connections, transaction

from backroom.clock import Moment
from backroom.errors import BackroomError

SUPPORTED: Final = {"sqlite": "SQLite ≥ 3.37", "postgresql": "PostgreSQL ≥ 15"}
MINIMUM: Final = {"sqlite": (3, 37), "postgresql": (15, 0)}
LOCK_PATIENCE: Final = 30.0
"""Seconds that a statement of ours waits for SQLite's one write lock, above the connection's own timeout."""
REST: Final = (0.001, 0.01)
"""Seconds from one try to the next, at least and at most."""
AGAIN: Final = frozenset({"40001", "40P01"})
"""serialization_failure and deadlock_detected (https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html)."""
UNDEFINED: Final = frozenset({"42P01", "42703"})
"""undefined_table and undefined_column (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

ADVISED_FOR_FILES: Final = {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;", "timeout": 20}
"""OPTIONS of a SQLite alias that several processes write to."""


class UnsupportedDatabase(BackroomError):
    """The database is none of those that Backroom speaks to."""


class TablesMissing(BackroomError, OperationalError, ProgrammingError):
    """Tables of ours are not there, or are of an older release: `migrate` was not run."""


class Dialect(Protocol):
    """How one vendor says what the others say otherwise."""

    skip_locked: str
    has_one_writer: bool
    """Whether a statement that may write keeps every other writer out, even where it finds nothing to write."""
    writes_row_by_row: bool
    """Whether one prepared statement, run for each row, is faster than one statement for all rows."""
    document_type: str
    """The type of a column that holds a JSON object of strings."""
    hurriedly: str
    """A condition, always true, by which a statement that is a transaction of its own does not wait for the disk.

    What it wrote is seen at once and survives the end of any process; a crash of the server may take it back.
    """

    def rows(self, columns: Sequence[tuple[str, str]]) -> str:
        """Return a FROM item that reads rows out of one JSON parameter: an array of arrays, `(name, type)` each."""

    def ids(self) -> str:
        """Return a sub-select that reads ids out of one JSON parameter, an array of strings."""

    def merged(self, column: str) -> str:
        """Return a document with one JSON parameter merged into it, in which null deletes (RFC 7396).

        The values of both are strings, so that nothing is merged below the top.
        """

    def added(self, column: str) -> str:
        """Return the same for a parameter without null."""


class SQLite:
    """SQLite ≥ 3.37 (RETURNING, UPDATE … FROM, json_each)."""

    # One writer at a time: there is nothing to skip.
    skip_locked = ""
    has_one_writer = True
    # There are no round trips to save, and unpacking JSON takes longer than the write itself.
    writes_row_by_row = True
    document_type = "text"
    # Here the connection decides, with PRAGMA synchronous.
    hurriedly = "true"

    def rows(self, columns: Sequence[tuple[str, str]]) -> str:
        """See Dialect.rows()."""
        picked = ", ".join(f"json_extract(value, '$[{index}]') AS {name}" for index, (name, _) in enumerate(columns))
        return f"(SELECT {picked} FROM json_each(%s))"

    def ids(self) -> str:
        """See Dialect.ids()."""
        return "(SELECT value FROM json_each(%s))"

    def merged(self, column: str) -> str:
        """See Dialect.merged()."""
        return f"json_patch({column}, %s)"

    added = merged


class PostgreSQL:
    """PostgreSQL ≥ 15."""

    skip_locked = "FOR NO KEY UPDATE SKIP LOCKED"
    has_one_writer = False
    writes_row_by_row = False
    document_type = "jsonb"
    # https://www.postgresql.org/docs/current/wal-async-commit.html; `true` is for this transaction alone.
    hurriedly = "set_config('synchronous_commit', 'off', true) = 'off'"

    def rows(self, columns: Sequence[tuple[str, str]]) -> str:
        """See Dialect.rows()."""
        picked = ", ".join(f"(value ->> {index})::{kind} AS {name}" for index, (name, kind) in enumerate(columns))
        # jsonb is parsed once; ->> on json would parse the row again for every column.
        return f"(SELECT {picked} FROM jsonb_array_elements(%s::jsonb))"

    def ids(self) -> str:
        """See Dialect.ids()."""
        return "(SELECT json_array_elements_text(%s::json))"

    def merged(self, column: str) -> str:
        """See Dialect.merged()."""
        return f"jsonb_strip_nulls({self.added(column)})"

    def added(self, column: str) -> str:
        """See Dialect.added()."""
        return f"{column} || %s::jsonb"


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


def document_type(vendor: str) -> str | None:
    """Return the type of a column that holds a JSON object of strings, or None for a vendor that is not supported."""
    return DIALECTS[vendor].document_type if vendor in DIALECTS else None


def change(alias: str, statement: str, parameters: Sequence[Any] = ()) -> int:
    """Run a statement; return how many rows it changed."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        return int(cursor.rowcount)


def fetch(alias: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement and return its rows."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def select(alias: str, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a statement that returns rows, and return them. It need not ask, as fetch() does, whether there can be any."""
    with connections[alias].cursor() as cursor:
        cursor.execute(statement, parameters)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def execute_each(alias: str, statement: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run a statement once for each row of parameters; return how many rows of the table it changed."""
    with connections[alias].cursor() as cursor:
        cursor.executemany(statement, rows)
        return int(cursor.rowcount)


def in_transaction(alias: str) -> bool:
    """Tell whether the caller is inside `atomic()` on this database."""
    return bool(connections[alias].in_atomic_block)


def commits_alone(alias: str) -> bool:
    """Tell whether a statement of this thread is a transaction of its own now; of a connection yet to be opened, not."""
    connection = connections[alias]
    return bool(connection.autocommit and not connection.in_atomic_block)


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


@contextmanager
def uncompiled(alias: str) -> Iterator[None]:
    """Have what is inside run as it is, where PostgreSQL would compile it: that can take ten times as long as running it.

    Inside a transaction of the caller nothing is compiled from here to the end of that one, and not only inside.
    """
    if vendor_of(alias) != "postgresql":
        yield
        return
    with transaction.atomic(using=alias):
        change(alias, "SET LOCAL jit = off")
        yield


def patiently[T](alias: str, work: Callable[[], T], *, patience: float = LOCK_PATIENCE) -> T:
    """Do `work`, again while the database asks for that, for at most `patience` seconds.

    SQLite asks for it when another writer is at work, PostgreSQL when it took the locks of one of two transactions
    that waited for each other. Inside a transaction of the caller there is no second try: what came before would have to
    be done again too.
    """
    deadline = time.monotonic() + patience
    while True:
        try:
            return work()
        except OperationalError as error:
            if not _is_worth_another_try(alias, error) or in_transaction(alias) or time.monotonic() > deadline:
                raise
        # SQLite may have refused at once; those that wait are not to come back together.
        time.sleep(random.uniform(*REST))  # noqa: S311 - jitter


def _is_worth_another_try(alias: str, error: OperationalError) -> bool:
    if vendor_of(alias) == "sqlite":
        return "locked" in str(error)
    return _code_of(error) in AGAIN


class telling_of_missing_tables:  # noqa: N801 - read as the words after `with`
    """Raise `TablesMissing`, which says what to do, for a statement inside that fails for want of a table or column."""

    # Each enqueue enters one, and a generator's frame for it costs as much as the arguments' JSON.
    __slots__ = ("_alias", "_app")

    def __init__(self, alias: str, app: str) -> None:
        self._alias = alias
        self._app = app

    def __enter__(self) -> None:
        """Nothing is asked of the database."""

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: object) -> None:
        """Say it in our words, where there are tables missing."""
        if not isinstance(error, OperationalError | ProgrammingError) or isinstance(error, TablesMissing):
            return
        if _is_undefined(error):
            option = "" if self._alias == DEFAULT_DB_ALIAS else f" --database={self._alias}"
            # Without it `migrate` does not know them, and Django asks none of its checks.
            first = "" if apps.is_installed(self._app) else f"add {self._app!r} to INSTALLED_APPS, then "
            then = f"{first}run manage.py migrate{option}"
            msg = (
                f"Database {self._alias!r} lacks tables or columns of Backroom's. {then[0].upper()}{then[1:]} ({error})"
            )
            raise TablesMissing(msg) from error


def _is_undefined(error: Exception) -> bool:
    return _code_of(error) in UNDEFINED or bool(re.search("no such (table|column)|has no column named", str(error)))


def _code_of(error: Exception) -> str | None:
    cause = error.__cause__
    return getattr(cause, "sqlstate", None) or getattr(cause, "pgcode", None)


def prepare_for_writers(alias: str) -> None:
    """Switch a SQLite file to WAL, so that readers and the writer do not wait for one another."""
    if vendor_of(alias) == "sqlite" and not in_transaction(alias) and journal_mode(alias) not in {"wal", "memory"}:
        fetch(alias, "PRAGMA journal_mode=WAL")


def journal_mode(alias: str) -> str | None:
    """Return SQLite's journal mode, or None for another vendor."""
    return str(fetch(alias, "PRAGMA journal_mode")[0][0]) if vendor_of(alias) == "sqlite" else None


def version(alias: str) -> tuple[int, ...]:
    """Return the version of the server, or of the SQLite library."""
    connection: Any = connections[alias]
    return tuple(connection.get_database_version())


def is_too_old(alias: str) -> bool:
    """Tell whether the server, or the SQLite library, is older than what is supported."""
    return version(alias) < MINIMUM[vendor_of(alias)]


def product(alias: str) -> str:
    """Return the name and version of the server, or of the SQLite library."""
    return f"{connections[alias].display_name} {'.'.join(map(str, version(alias)))}"


def is_server(alias: str) -> bool:
    """Tell whether the database is a server: opening a connection to it takes time, and its clock is its own."""
    return vendor_of(alias) == "postgresql"


def server_moment(alias: str) -> Moment | None:
    """Return the present moment by the server's clock, or None where there is no server."""
    statement = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
    return int(fetch(alias, statement)[0][0]) if is_server(alias) else None


def not_ready_for_writers(alias: str) -> list[str]:
    """Return what a SQLite alias's settings lack for several processes; nothing for any other. Does not connect."""
    connection: Any = connections[alias]
    if connection.vendor != "sqlite" or connection.is_in_memory_db():
        return []
    options = connection.settings_dict["OPTIONS"]
    lacks = []
    if (options.get("transaction_mode") or "DEFERRED").upper() == "DEFERRED":
        lacks.append("transaction_mode is DEFERRED")
    if not _says_wal(options.get("init_command") or "") and not _is_wal(Path(connection.settings_dict["NAME"])):
        lacks.append("journal_mode is not WAL")
    return lacks


class FileState(NamedTuple):
    """How a connection uses a SQLite file."""

    journal_mode: str
    synchronous: int
    """0 OFF, 1 NORMAL, 2 FULL, 3 EXTRA."""
    busy_timeout: int
    """Milliseconds."""
    transaction_mode: str
    is_in_memory: bool


def file_state(alias: str) -> FileState | None:
    """Return how this thread's connection uses a SQLite file, or None for another vendor."""
    connection: Any = connections[alias]
    if connection.vendor != "sqlite":
        return None
    synchronous, busy_timeout = (int(fetch(alias, f"PRAGMA {name}")[0][0]) for name in ("synchronous", "busy_timeout"))
    mode = connection.transaction_mode or "DEFERRED"
    return FileState(str(journal_mode(alias)), synchronous, busy_timeout, mode, connection.is_in_memory_db())


def _says_wal(command: str) -> bool:
    return re.search(r"journal_mode\s*(=|\()\s*['\"]?wal\b", command, re.IGNORECASE) is not None


def _is_wal(file: Path) -> bool:
    """Read it off the header (https://www.sqlite.org/fileformat2.html, 1.3.3), which takes no connection."""
    try:
        with file.open("rb") as opened:
            return opened.read(20)[18:20] == b"\x02\x02"
    except OSError:
        return False
