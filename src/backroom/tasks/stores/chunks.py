"""Cut what a store is to write into pieces, each short enough for one statement or one script."""

from collections.abc import Callable, Iterator, Sequence

from backroom.tasks.records import Record, Transition


def chunks_of[T](items: Sequence[T], size_of: Callable[[T], int], *, count: int, size: int) -> Iterator[list[T]]:
    """Yield lists of up to `count` items that are no larger than `size` together, unless one of them is by itself."""
    chunk: list[T] = []
    taken = 0
    for item in items:
        more = size_of(item)
        if chunk and (len(chunk) == count or taken + more > size):
            yield chunk
            chunk, taken = [], 0
        chunk.append(item)
        taken += more
    if chunk:
        yield chunk


def size_of_record(record: Record) -> int:
    """Return how many characters of a record may be many."""
    return len(record.payload) + len(record.metadata) + len(record.overrides)


def size_of_transition(transition: Transition) -> int:
    """Return how many characters of a transition may be many."""
    return len(transition.result or "") + len(transition.errors) + len(transition.progress or "")
