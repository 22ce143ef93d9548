"""Tags that this thread's open transactions have changed: until they commit, what depends on them is nobody else's."""

from collections.abc import Iterable

from django.db import connections, transaction

from backroom.cache.generations import invalidate

MARK = "_backroom_cache_tags"
"""Where a database connection keeps the tags that its transaction has changed."""


def invalidate_on_commit(*tags: str, using: str = "default", alias: str | None = None) -> None:
    """Invalidate tags when the transaction of this database commits; at once where there is none.

    Until then, in this thread, what depends on them is computed anew and not stored.
    """
    connection = connections[using]
    if connection.in_atomic_block:
        changed: set[str] = connection.__dict__.setdefault(MARK, set())
        changed.update(tags)
    # `robust`: a cache that is down is logged, and the receivers after this one still run.
    transaction.on_commit(lambda: _committed(tags, using, alias), using=using, robust=True)


def is_uncommitted(tags: Iterable[str]) -> bool:
    """Tell whether an open transaction of this thread has changed what one of these tags stands for."""
    changed: set[str] = set()
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            changed |= connection.__dict__.get(MARK, set())
        else:
            # It was rolled back, of which nobody tells.
            connection.__dict__.pop(MARK, None)
    return not changed.isdisjoint(tags)


def _committed(tags: Iterable[str], using: str, alias: str | None) -> None:
    connections[using].__dict__.pop(MARK, None)
    invalidate(*tags, alias=alias)
