"""Every statement, and the hash by which a key is found.

The table is clustered by the hash of the key: an entry is one look-up in one B-tree, and an update writes one page. The
key itself is stored and compared, so of two keys with one hash the later takes the place of the earlier, and neither is
ever given the other's value. Rows beside each other in the order of a hash are a fair sample of all, which is what
eviction looks at.
"""

from array import array
from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2s
from struct import Struct
from typing import Final

_first_of: Final = Struct("=q24x").unpack

APPLICATION_ID: Final = 0x62726D63
SCHEMA: Final = 2
PAGE_BYTES: Final = 2048
AT_ONCE: Final = 100
"""The most keys in one statement; more are asked for in several."""

FIRST_ID: Final = -(2**63)
LAST_ID: Final = 2**63 - 1

CREATE: Final = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    value NOT NULL
)"""

GET: Final = "SELECT value FROM entries WHERE id = ? AND key = ? AND expires_at > ?"
HAS: Final = "SELECT 1 FROM entries WHERE id = ? AND key = ? AND expires_at > ?"
EXPIRES_AT: Final = "SELECT expires_at FROM entries WHERE id = ? AND key = ? AND expires_at > ?"

_INTO: Final = "INTO entries (id, key, expires_at, value) VALUES "
_ROW: Final = "(?, ?, ?, ?)"
# Of a table without indices and triggers it writes over the row, quicker than DO UPDATE.
SET: Final = f"REPLACE {_INTO}{_ROW}"
ADD: Final = f"""
INSERT {_INTO}{_ROW}
ON CONFLICT (id) DO UPDATE SET key = excluded.key, expires_at = excluded.expires_at, value = excluded.value
WHERE entries.expires_at <= ? OR entries.key <> excluded.key"""

# Text and blobs sort after every number, so the bounds let numbers in alone; and beyond them a sum might overflow. What
# RETURNING returns, SQLite gathers in a table of its own first; `noted`, which is a link's, costs next to nothing.
ADD_TO: Final = """
UPDATE entries SET value = coalesce(noted(value + ?), value + ?)
WHERE id = ? AND key = ? AND expires_at > ? AND value BETWEEN -4611686018427387904 AND 4611686018427387904"""
REPLACE: Final = "UPDATE entries SET value = ? WHERE id = ?"
TOUCH: Final = "UPDATE entries SET expires_at = ? WHERE id = ? AND key = ? AND expires_at > ?"
DELETE: Final = "DELETE FROM entries WHERE id = ? AND key = ? RETURNING expires_at"
DELETE_IF: Final = "DELETE FROM entries WHERE id = ? AND key = ? AND expires_at > ? AND value = ?"
TOUCH_IF: Final = f"{TOUCH} AND value = ?"

OTHERS: Final = "SELECT EXISTS (SELECT 1 FROM entries WHERE substr(key, 1, ?) <> ?)"
CLEAR: Final = "DELETE FROM entries"
CLEAR_OWN: Final = "DELETE FROM entries WHERE substr(key, 1, ?) = ?"

SWEEP: Final = "SELECT id, expires_at FROM entries WHERE id > ? ORDER BY id LIMIT ?"
PAGES: Final = "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count"


def id_of(key: str) -> int:
    """Return the id of a key: 64 bits of its BLAKE2s hash, as a signed integer of this machine."""
    # Half a microsecond; to hand over a digest_size would take half as long again.
    id_: int = _first_of(blake2s(key.encode()).digest())[0]
    return id_


def ids_of(keys: Collection[str]) -> list[int]:
    """Return the ids of keys, in their order."""
    # Every fourth number of 64 bits. `struct` would keep what it makes of so long a format, for each length.
    return array("q", b"".join([blake2s(key.encode()).digest() for key in keys]))[::4].tolist()


@lru_cache(maxsize=AT_ONCE)
def get_many(count: int) -> str:
    """Return the statement that reads so many entries."""
    # An IN would first sort its list into a table of its own.
    asked = ", ".join(["(?)"] * count)
    return f"SELECT key, value FROM (VALUES {asked}) CROSS JOIN entries ON id = column1 WHERE expires_at > ?"


@lru_cache(maxsize=AT_ONCE)
def set_many(count: int) -> str:
    """Return the statement that writes so many entries."""
    return f"REPLACE {_INTO}{', '.join([_ROW] * count)}"


@lru_cache(maxsize=AT_ONCE)
def delete_many(count: int) -> str:
    """Return the statement that deletes so many entries."""
    return f"DELETE FROM entries WHERE id IN ({_marks(count)})"


@lru_cache(maxsize=AT_ONCE)
def delete_expired(count: int) -> str:
    """Return the statement that deletes so many entries, those of them that have expired by then."""
    return f"{delete_many(count)} AND expires_at <= ?"


def _marks(count: int) -> str:
    return ", ".join("?" * count)
