"""Tags that this thread's open transactions have changed: until they commit, what depends on them is nobody else's."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, cast

from django.db import connections, transaction

from backroom.cache.generations import check_tags, invalidate

MARK: Final = "_backroom_cache_changed"
"""Where a connection keeps the list it was found in, how much of that was looked at, and the tags."""


@dataclass(slots=True)
class _Change:
    """What is called when a transaction commits. Django forgets it with the transaction, or the savepoint, that is rolled back."""

    tags: tuple[str, ...]
    alias: str | None
    using: str
    is_told: bool = False

    def __call__(self) -> None:
        invalidate(*self.tags, alias=self.alias)
        # In a test that never commits it stays where it was (`captureOnCommitCallbacks`).
        self.is_told = True
        connections[self.using].__dict__.pop(MARK, None)


def invalidate_on_commit(*tags: str, using: str = "default", alias: str | None = None) -> None:
    """Invalidate tags when the transaction of this database commits; at once where there is none.

    Until then, in this thread, what depends on them is computed anew and not stored.
    """
    # On commit it would only be logged.
    check_tags(tags)
    # `robust`: a cache that is down is logged, and the receivers after this one still run.
    transaction.on_commit(_Change(tags, alias, using), using=using, robust=True)


def is_uncommitted(tags: Iterable[str]) -> bool:
    """Tell whether an open transaction of this thread has changed what one of these tags stands for."""
    wanted = set(tags)
    return any(not wanted.isdisjoint(_changed_in(each)) for each in connections.all(initialized_only=True))


def _changed_in(connection: Any) -> Iterable[str]:
    """Return the tags of a transaction's changes, looking at each of these once: it may be asked between any two."""
    hooks: list[Any] = connection.run_on_commit
    if not hooks:
        connection.__dict__.pop(MARK, None)
        return ()
    # Django appends to this list, and makes another one when anything is rolled back or committed.
    of, looked, found = connection.__dict__.get(MARK, (None, 0, set()))
    if of is not hooks:
        looked, found = 0, set()
    for _, function, *_ in hooks[looked:]:
        if isinstance(function, _Change) and not function.is_told:
            found.update(function.tags)
    connection.__dict__[MARK] = (hooks, len(hooks), found)
    return cast("set[str]", found)
