"""What the computation at hand has depended on so far, so that what encloses it is invalidated with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from backroom.cache.entries import Generations
from backroom.cache.generations import current
from backroom.cache.steps import arun, run


class Dependencies:
    """The tags of one computation, with the generations from before it looked; and whether it may be stored at all."""

    __slots__ = ("generations", "is_private")

    def __init__(self) -> None:
        self.generations: Generations = {}
        self.is_private = False
        """Whether it saw what nobody else may see yet: rows of a transaction that has not committed."""

    @property
    def tags(self) -> set[str]:
        """Return the names of the tags, of whatever cache."""
        return {tag for tags in self.generations.values() for tag in tags}

    def add(self, generations: Generations) -> None:
        """Depend on these; of a tag that is known already the older generation counts."""
        for alias, tags in generations.items():
            mine = self.generations.setdefault(alias, {})
            for tag, generation in tags.items():
                mine.setdefault(tag, generation)


_enclosing: Final = ContextVar[Dependencies | None]("backroom.cache.dependencies", default=None)


@contextmanager
def collecting(into: Dependencies | None = None) -> Iterator[Dependencies]:
    """Collect what is depended on inside."""
    found = Dependencies() if into is None else into
    token = _enclosing.set(found)
    try:
        yield found
    finally:
        _enclosing.reset(token)


def enclosing() -> Dependencies | None:
    """Return those of the computation at hand, if one is."""
    return _enclosing.get()


def depend_on(*tags: str, alias: str = "default") -> None:
    """Have what is being computed (a cached function, fragment or page) invalidated with these tags.

    Say it before reading what the tags stand for: a change that comes in between would otherwise be missed. Outside
    of any computation it does nothing.
    """
    if (found := _enclosing.get()) is not None:
        found.add({alias: run(current(alias, tags))})


async def adepend_on(*tags: str, alias: str = "default") -> None:
    """See depend_on()."""
    if (found := _enclosing.get()) is not None:
        found.add({alias: await arun(current(alias, tags))})
