"""What each verb does with a link to a cache file. Each may be begun again when another process holds the lock."""

from collections.abc import Sequence
from typing import Any, Final

from backroom.cache.lifetimes import GONE, now
from backroom.cache.onefile import statements
from backroom.cache.onefile.failures import FAILURES, is_locked
from backroom.cache.onefile.file import CacheFile
from backroom.cache.onefile.links import Link
from backroom.cache.onefile.rows import Row, delete, delete_many, size_of, store_many
from backroom.cache.onefile.statements import id_of
from backroom.cache.values import Codec, Unreadable

LARGEST: Final = 10**9 - 100_000
"""Bytes of a value: SQLite's rows have a thousand million at most, key and all."""

_MISSING: Final = object()


class Verbs:
    """The verbs on one file, for keys as they are stored, and values as this codec writes them."""

    def __init__(self, file: CacheFile, codec: Codec) -> None:
        self._file = file
        self._codec = codec
        self._largest = min(file.budget.max_bytes or LARGEST, LARGEST)

    def store(self, link: Link, row: Row) -> bool:
        """Store a row; tell whether it was, or else whether what was there before had a value."""
        if row[2] == GONE or self.is_too_large(row):
            return delete(link, row[1])
        try:
            link.ask(statements.SET, row)
        except UnicodeEncodeError:
            link.ask(statements.SET, self._writable(row))
        self._wrote(link, row[:1], size_of(row))
        return True

    def store_many(self, link: Link, rows: Sequence[Row], refused: Sequence[str]) -> None:
        """Store rows that expire alike, all or none of them; and delete those keys."""
        if refused:
            delete_many(link, refused)
        if rows and rows[0][2] == GONE:
            delete_many(link, [row[1] for row in rows])
            return
        try:
            store_many(link, rows)
        except UnicodeEncodeError:
            store_many(link, [self._writable(row) for row in rows])
        self._wrote(link, [row[0] for row in rows], sum(map(size_of, rows)))

    def store_new(self, link: Link, row: Row) -> bool:
        """Store a row unless its key has a value; tell whether it had none."""
        if row[2] == GONE:
            return link.ask(statements.HAS, (row[0], row[1], now())).fetchone() is None
        if self.is_too_large(row):
            return False
        try:
            added = link.ask(statements.ADD, (*row, now())).rowcount > 0
        except UnicodeEncodeError:
            added = link.ask(statements.ADD, (*self._writable(row), now())).rowcount > 0
        if added:
            self._wrote(link, row[:1], size_of(row))
        return added

    def add_to(self, link: Link, key: str, delta: Any) -> int | None:
        """Add to a number, and return the sum; None when the key has no value."""
        id_ = id_of(key)
        if type(delta) is int and abs(delta) < 2**62:
            link.sums.clear()
            link.ask(statements.ADD_TO, (delta, delta, id_, key, now()))
            if link.sums:
                return link.sums.pop()
        # No such key; or something that SQLite cannot add to, such as an integer beyond 64 bits.
        with link.transaction():
            row = link.ask(statements.GET, (id_, key, now())).fetchone()
            value = _MISSING if row is None else self.decoded(row[0], key, _MISSING)
            total = None if value is _MISSING else value + delta
            if total is not None:
                link.ask(statements.REPLACE, (self._codec.encode(total, key), id_))
        return total

    def touch(self, link: Link, key: str, expires_at: int, moment: int) -> bool:
        """Let a key expire at another moment; tell whether it had a value."""
        if expires_at == GONE:
            return delete(link, key)
        return link.ask(statements.TOUCH, (expires_at, id_of(key), key, moment)).rowcount > 0

    def touch_if(self, link: Link, key: str, text: str, expires_at: int, moment: int) -> bool:
        """Let a key expire at another moment if this text is its value; tell whether it was."""
        held = self._codec.encode(text, key)
        return link.ask(statements.TOUCH_IF, (expires_at, id_of(key), key, moment, held)).rowcount > 0

    def delete_if(self, link: Link, key: str, text: str) -> bool:
        """Delete a key if this text is its value; tell whether it was."""
        held = self._codec.encode(text, key)
        return link.ask(statements.DELETE_IF, (id_of(key), key, now(), held)).rowcount > 0

    def clear(self, link: Link, prefix: str | None) -> None:
        """Delete every entry whose key begins so, or every entry."""
        with link.transaction():
            if prefix is not None and link.ask(statements.OTHERS, (len(prefix), prefix)).fetchone()[0]:
                link.ask(statements.CLEAR_OWN, (len(prefix), prefix))
            else:
                link.ask(statements.CLEAR)

    def measured(self, link: Link) -> dict[str, int]:
        """Return how many entries there are, about, and how many bytes of the file are in use."""
        pages: int = link.ask(statements.PAGES).fetchone()[0]
        return {"entries": round(self._file.upkeep.estimate(link)), "bytes": pages * statements.PAGE_BYTES}

    # ── When it cannot be done ───────────────────────────────────────────────────────────────────────────────────────

    def forget(self, keys: Sequence[str]) -> bool:
        """See to it that what could not be replaced or deleted is not read any more; it was not stored, so: False."""
        if self._file.is_full:
            try:
                delete_many(self._file.link(), keys)
            except FAILURES:
                # Even deleting takes space. The file is the one thing here that can be done without.
                self._file.forget_all()
        self._file.is_full = False
        return False

    def forget_everything(self) -> None:
        """See to it that what could not be cleared for want of space is not read any more."""
        if self._file.is_full:
            self._file.forget_all()

    # ── Values ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def decoded(self, payload: Any, key: str, default: Any) -> Any:
        """Return a value, `default` when it cannot be read."""
        try:
            return self._codec.decode(payload, key)
        except Unreadable as error:
            self._file.trouble.warn("unreadable", str(error))
            return default

    def is_small(self, rows: Sequence[Row]) -> bool:
        """Tell whether all of them together are so small that none can be too large."""
        return sum(map(size_of, rows)) * 4 <= self._largest

    def is_too_large(self, row: Row) -> bool:
        """Tell, and say, whether a value has no place here at all: it would push out everything else, or not fit."""
        if (size := size_of(row)) * 4 <= self._largest:
            return False
        if isinstance(row[3], str):
            size = len(row[3].encode("utf-8", "surrogatepass"))
        if size <= self._largest:
            return False
        self._file.trouble.warn("too_large", f"A value of {size} bytes is not stored: MAX_BYTES leaves no room for it.")
        return True

    def _writable(self, row: Row) -> Row:
        """Return a row whose text holds halves of surrogate pairs, which is no UTF-8, as one with bytes."""
        id_, key, expires_at, payload = row
        return (id_, key, expires_at, self._codec.dumps(payload, key) if isinstance(payload, str) else payload)

    def _wrote(self, link: Link, ids: Sequence[int], payload_bytes: int) -> None:
        """Do the upkeep that is due. What was stored is stored, and nothing that happens here may have it stored again."""
        try:
            self._file.upkeep.wrote(link, ids, payload_bytes)
        except FAILURES as error:
            if not is_locked(error):
                self._file.failed(error, "upkeep")
