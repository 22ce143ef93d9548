"""Sessions in a table: a row each, whose contents are one JSON document that statements merge changes into."""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import batched
from operator import itemgetter
from typing import Any, Final

from django.db import connections, router
from django.db.models import Model

from backroom.clock import Moment
from backroom.compact import loads
from backroom.sessions.documents import Changes
from backroom.sessions.keys import KeyHash
from backroom.sessions.records import Columns, Header, Loaded, Written
from backroom.sessions.rules import rules
from backroom.sessions.steps import Call, Steps
from backroom.sessions.transactions import Witness, witness_of
from backroom.sql.dialect import change, commits_alone, dialect_of, patiently, select

COLUMNS: Final = {
    "key": "session_key",
    "user_id": "user_id",
    "created_at": "created_at",
    "seen_at": "last_seen_at",
    "renewed_at": "renewed_at",
    "ends_at": "expire_date",
    "address": "ip_address",
    "user_agent": "user_agent",
    "label": "label",
    "new_key": "session_key",
    "previous_key": "previous_key",
    "previous_until": "previous_until",
}
"""The columns in which the fields of a header are kept, and those that a new id takes."""
HEADER: Final = ", ".join(COLUMNS[name] for name in Header._fields)
CONTENTS: Final = "session_data"
ENDS_AT: Final = Header._fields.index("ends_at")

# Not by its end as well: there is an index of that too, and choosing between the two costs more than the row.
LOAD: Final = "SELECT {header}, {contents} FROM {table} WHERE session_key = %s"
LOAD_REPLACED: Final = "SELECT {header}, {contents} FROM {table} WHERE previous_key = %s AND previous_until > %s"
EXISTS: Final = "SELECT 1 FROM {table} WHERE session_key = %s"
INSERT: Final = "INSERT INTO {table} ({columns}) VALUES ({values}) ON CONFLICT DO NOTHING"
UPDATE: Final = "UPDATE {table} SET {assignments} WHERE session_key = %s{hurriedly}"
MATTERS: Final = frozenset({"new_key", "user_id"})
"""Columns whose change waits for the disk in any case."""
# Who knows a session by the id that it had until a moment ago means it, too.
DELETE: Final = "DELETE FROM {table} WHERE session_key IN ({marks}) OR previous_key IN ({marks}) RETURNING {header}"
DELETE_OF_USER: Final = (
    # In one statement: a session that gets a new id between being listed and being deleted would be missed.
    "DELETE FROM {table} WHERE user_id = %s AND expire_date > %s "
    "AND session_key <> %s AND COALESCE(previous_key, '') <> %s RETURNING {header}"
)
NONE: Final = "-"
"""The hash of no id."""
DELETED_AT_ONCE: Final = 100
RENEWED_AT_ONCE: Final = 500
DELETE_EXPIRED: Final = (
    # PostgreSQL may run a subquery twice; MATERIALIZED forbids it. The last line spares what was used meanwhile.
    "WITH due AS MATERIALIZED (SELECT session_key FROM {table} WHERE expire_date <= %s "
    "ORDER BY expire_date LIMIT %s {skip_locked}) "
    "DELETE FROM {table} WHERE session_key IN (SELECT session_key FROM due) AND expire_date <= %s RETURNING {header}"
)
OF_USER: Final = (
    "SELECT {header} FROM {table} WHERE user_id = %s AND expire_date > %s ORDER BY created_at DESC, session_key DESC"
)
USER_IDS: Final = "SELECT DISTINCT user_id FROM {table} WHERE user_id > %s ORDER BY user_id LIMIT %s"
RENEW_AT_ONCE: Final = "UPDATE {table} SET renewed_at = 0 WHERE user_id IN ({marks})"


class SQLStore:
    """The `Store` in the table of a model."""

    def __init__(self, model: type[Model]) -> None:
        self._model = model
        self._table = f'"{model._meta.db_table}"'

    def load(self, key: KeyHash, now: Moment) -> Steps[Loaded | None]:
        """See Store."""
        rows = yield self._reading(LOAD, key)
        return _loaded(rows, now)

    def load_replaced(self, key: KeyHash, now: Moment) -> Steps[Loaded | None]:
        """See Store."""
        # A session that was given a new id in this very request may not have reached a replica yet.
        rows = yield Call(select, (self.alias_for_writes, self._text(LOAD_REPLACED), (key, now)))
        return _loaded(rows, now)

    def exists(self, key: KeyHash) -> Steps[bool]:
        """See Store."""
        # Not from a replica: it may have been ended, or its user's all, just now.
        rows = yield Call(select, (self.alias_for_writes, self._text(EXISTS), (key,)))
        return bool(rows)

    def insert(self, header: Header, changes: Changes, extra: Columns) -> Steps[Written]:
        """See Store."""
        columns = (*(COLUMNS[name] for name in Header._fields), CONTENTS, *extra)
        text = INSERT.format(
            table=self._table,
            columns=", ".join(f'"{name}"' for name in columns),
            values=", ".join(["%s"] * len(columns)),
        )
        parameters = (*header, changes.patch(), *extra.values())
        written: Written = yield Call(_written, (self.alias_for_writes, text, parameters))
        return written

    def write(self, key: KeyHash, changes: Changes, columns: Columns, *, waits: bool = False) -> Steps[Written]:
        """See Store."""
        way = _way(changes)
        alias = self.alias_for_writes
        if way == "leaves" and not columns:
            rows = yield Call(select, (alias, self._text(EXISTS), (key,)))
            return bool(rows)
        waits = waits or rules().options.DURABLE or not MATTERS.isdisjoint(columns)
        contents = (changes.patch(),) if way != "leaves" else ()
        parameters = (*contents, *columns.values(), key)
        written: Written = yield Call(_update, (self._table, alias, way, tuple(columns), waits, parameters))
        return written

    def delete(self, keys: Sequence[KeyHash]) -> Steps[list[Header]]:
        """See Store."""
        found = []
        for some in batched(keys, DELETED_AT_ONCE):
            text = DELETE.replace("{marks}", ", ".join(["%s"] * len(some)))
            found += yield from self._returning(text, *some, *some)
        return found

    def delete_of_user(self, user_id: str, now: Moment, but: KeyHash | None) -> Steps[list[Header]]:
        """See Store."""
        return (yield from self._returning(DELETE_OF_USER, user_id, now, but or NONE, but or NONE))

    def delete_expired(self, now: Moment, limit: int) -> Steps[list[Header]]:
        """See Store."""
        skip_locked = dialect_of(self.alias_for_writes).skip_locked
        text = DELETE_EXPIRED.replace("{skip_locked}", skip_locked)
        return (yield from self._returning(text, now, limit, now))

    def of_user(self, user_id: str, now: Moment) -> Steps[list[Header]]:
        """See Store."""
        # Not from a replica: whoever looks has often just ended one of them.
        return (yield from self._returning(OF_USER, user_id, now))

    def user_ids(self, after: str, limit: int) -> Steps[list[str]]:
        """See Store."""
        rows = yield self._reading(USER_IDS, after, limit)
        return [row[0] for row in rows]

    def renew_at_once(self, user_ids: Sequence[str]) -> Steps[None]:
        """See Store."""
        for some in batched(user_ids, RENEWED_AT_ONCE):
            text = self._text(RENEW_AT_ONCE.replace("{marks}", ", ".join(["%s"] * len(some))))
            yield Call(_patiently_change, (self.alias_for_writes, text, some))

    def witness(self) -> Steps[Witness | None]:
        """See Store."""
        witness: Witness | None = yield Call(_witness, (self.alias_for_writes,))
        return witness

    @property
    def alias_for_writes(self) -> str:
        """The alias in DATABASES that is written to."""
        return router.db_for_write(self._model)

    def _text(self, statement: str) -> str:
        return _filled(statement, self._table)

    def _reading(self, statement: str, *parameters: Any) -> Call:
        return Call(select, (router.db_for_read(self._model), self._text(statement), parameters))

    def _returning(self, statement: str, *parameters: Any) -> Steps[list[Header]]:
        rows = yield Call(_patiently_select, (self.alias_for_writes, self._text(statement), parameters))
        return [_header(row) for row in rows]


def _patiently_change(alias: str, text: str, parameters: Sequence[Any]) -> int:
    return patiently(alias, lambda: change(alias, text, parameters))


def _witness(alias: str) -> Witness | None:
    return witness_of(connections[alias])


def _written(alias: str, text: str, parameters: Sequence[Any]) -> Written:
    return bool(_patiently_change(alias, text, parameters)) and (_witness(alias) or True)


def _patiently_select(alias: str, text: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    return patiently(alias, lambda: select(alias, text, parameters))


@lru_cache(maxsize=64)
def _filled(statement: str, table: str) -> str:
    return statement.format(table=table, header=HEADER, contents=CONTENTS)


def _way(changes: Changes) -> str:
    """Return what a save does to the contents."""
    if changes.replaces:
        return "replaces"
    if changes.deleted:
        return "merges"
    return "adds" if changes.stored else "leaves"


def _update(
    table: str,
    alias: str,
    way: str,
    columns: tuple[str, ...],
    waits: bool,  # noqa: FBT001 - as below
    parameters: Sequence[Any],
) -> Written:
    # Asked here, in the thread that has the connection. Not to wait is for a transaction of our own alone.
    text = _update_text(table, alias, way, columns, waits or not commits_alone(alias))
    written = bool(_patiently_change(alias, text, parameters))
    # That it was seen need not be written again.
    is_worth_a_witness = written and (way != "leaves" or "new_key" in columns)
    return (witness_of(connections[alias]) or True) if is_worth_a_witness else written


@lru_cache(maxsize=256)
def _update_text(table: str, alias: str, way: str, columns: tuple[str, ...], waits: bool) -> str:  # noqa: FBT001 - a key of the cache
    ways: dict[str, Callable[[], list[str]]] = {
        "leaves": list,
        "replaces": lambda: [f"{CONTENTS} = %s"],
        "adds": lambda: [f"{CONTENTS} = {dialect_of(alias).added(CONTENTS)}"],
        "merges": lambda: [f"{CONTENTS} = {dialect_of(alias).merged(CONTENTS)}"],
    }
    assignments = [*ways[way](), *(f'"{COLUMNS.get(name, name)}" = %s' for name in columns)]
    hurriedly = "" if waits else dialect_of(alias).hurriedly
    condition = f" AND {hurriedly}" if hurriedly else ""
    return UPDATE.format(table=table, assignments=", ".join(assignments), hurriedly=condition)


_of_row = itemgetter(slice(0, len(Header._fields)))


def _header(row: tuple[Any, ...]) -> Header:
    key, *rest = _of_row(row)
    return Header(KeyHash(key), *rest)


def _loaded(rows: list[tuple[Any, ...]], now: Moment) -> Loaded | None:
    if not rows or rows[0][ENDS_AT] <= now:
        return None
    return Loaded(_header(rows[0]), loads(rows[0][-1]))
