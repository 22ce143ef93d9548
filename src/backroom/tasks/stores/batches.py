"""The rows of one statement: what all of them share is said once, and the rest is one JSON parameter."""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from backroom.compact import dumps
from backroom.sql.dialect import DIALECTS

type Columns = tuple[tuple[str, str], ...]
"""Names and types."""


class Batch(NamedTuple):
    """A FROM item that yields the rows, and its parameters."""

    item: str
    parameters: list[Any]


def batch_of(vendor: str, columns: Columns, rows: Iterable[Sequence[Any]]) -> Batch:
    """Return the rows as a FROM item. Tasks that are enqueued together differ in two columns of sixteen.

    The first column is never shared: where nothing differs, it is what tells how many rows there are.
    """
    ids, *others = values = list(zip(*rows, strict=True))
    shared = (False, *(len(ids) > 1 and _is_shared(each) for each in others))
    told = [each[0] for each, is_shared in zip(values, shared, strict=True) if is_shared]
    differing = [each for each, is_shared in zip(values, shared, strict=True) if not is_shared]
    return Batch(_item(vendor, columns, shared), [*told, dumps(list(zip(*differing, strict=True)))])


def _is_shared(values: tuple[Any, ...]) -> bool:
    # Not a set of them: that would hash every payload.
    return values.count(values[0]) == len(values)


@lru_cache(maxsize=256)
def _item(vendor: str, columns: Columns, shared: tuple[bool, ...]) -> str:
    told = "".join(
        f"CAST(%s AS {kind}) AS {name}, " for (name, kind), is_shared in zip(columns, shared, strict=True) if is_shared
    )
    differing = [column for column, is_shared in zip(columns, shared, strict=True) if not is_shared]
    return f"(SELECT {told}differing.* FROM {DIALECTS[vendor].rows(differing)} AS differing)"
