"""Tags that this thread's open transactions have changed: until they commit, what depends on them is nobody else's."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db import connections, transaction

from backroom.cache.generations import invalidate


@dataclass(frozen=True, slots=True)
class _Change:
    """What is called when a transaction commits. Django forgets it with the transaction, or the savepoint, that is rolled back."""

    tags: tuple[str, ...]
    alias: str | None

    def __call__(self) -> None:
        invalidate(*self.tags, alias=self.alias)


def invalidate_on_commit(*tags: str, using: str = "default", alias: str | None = None) -> None:
    """Invalidate tags when the transaction of this database commits; at once where there is none.

    Until then, in this thread, what depends on them is computed anew and not stored.
    """
    # `robust`: a cache that is down is logged, and the receivers after this one still run.
    transaction.on_commit(_Change(tags, alias), using=using, robust=True)


def is_uncommitted(tags: Iterable[str]) -> bool:
    """Tell whether an open transaction of this thread has changed what one of these tags stands for."""
    wanted = set(tags)
    return any(
        isinstance(function, _Change) and not wanted.isdisjoint(function.tags)
        for connection in connections.all(initialized_only=True)
        for _, function, *_ in connection.run_on_commit
    )
