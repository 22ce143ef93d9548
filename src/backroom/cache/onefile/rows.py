"""Rows of the table, written and deleted over one link, as many at once as one statement takes."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from backroom.cache.lifetimes import now
from backroom.cache.onefile import statements
from backroom.cache.onefile.links import Link
from backroom.cache.onefile.statements import AT_ONCE, id_of, ids_of

type Row = tuple[int, str, int, Any]
"""The id, the key, when it expires, and what the codec made of the value."""


def store_many(link: Link, rows: Sequence[Row]) -> None:
    """Store rows, all of them or none."""
    batches = [rows[first : first + AT_ONCE] for first in range(0, len(rows), AT_ONCE)]
    link.all_at_once([(statements.set_many(len(some)), list(chain.from_iterable(some))) for some in batches])


def delete(link: Link, key: str) -> bool:
    """Delete a key; tell whether it had not expired."""
    row = link.ask(statements.DELETE, (id_of(key), key)).fetchone()
    return row is not None and row[0] > now()


def delete_many(link: Link, keys: Sequence[str]) -> None:
    """Delete keys, all of them or none."""
    ids = ids_of(keys)
    batches = [ids[first : first + AT_ONCE] for first in range(0, len(ids), AT_ONCE)]
    link.all_at_once([(statements.delete_many(len(some)), some) for some in batches])


def size_of(row: Row) -> int:
    """Return how large a payload is, in characters or bytes."""
    return len(row[3]) if isinstance(row[3], (str, bytes)) else 8
