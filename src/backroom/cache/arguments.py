"""The arguments of a cached function as text: the same for equal arguments, different for any others, readable again."""

import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

from django.apps import apps
from django.db.models import Model

from backroom.errors import BackroomError

MICROSECOND: Final = timedelta(microseconds=1)

type Packed = Any
"""JSON: null, booleans, numbers and strings as they are, anything else an array that begins with what it is."""


def _microseconds(value: timedelta) -> str:
    return str(value // MICROSECOND)


PLAIN: Final = (bool, int, float, str, type(None))
TEXTS: Final[dict[type, tuple[str, Callable[[Any], str], Callable[[str], Any]]]] = {
    datetime: ("datetime", datetime.isoformat, datetime.fromisoformat),
    date: ("date", date.isoformat, date.fromisoformat),
    time: ("time", time.isoformat, time.fromisoformat),
    timedelta: ("timedelta", _microseconds, lambda text: timedelta(microseconds=int(text))),
    Decimal: ("decimal", str, Decimal),
    UUID: ("uuid", str, UUID),
    bytes: ("bytes", bytes.hex, bytes.fromhex),
}


class UncacheableArgument(BackroomError, TypeError):
    """An argument cannot be part of a key."""


def digest(packed: Packed) -> str:
    """Return 32 hexadecimal digits that stand for packed values."""
    text = json.dumps(packed, separators=(",", ":"), ensure_ascii=True)
    return blake2b(text.encode(), digest_size=16).hexdigest()


def pack(value: Any, name: str) -> Packed:
    """Return a value as JSON; raise `UncacheableArgument`, naming the argument, for one that has no stable text."""
    if type(value) in PLAIN:
        return value
    match value:
        case list() | tuple() | set() | frozenset() | dict():
            return _pack_many(value, name)
        case Model():
            return _pack_row(value, name)
        case str():
            return str(value)
    for kind, (word, write, _) in TEXTS.items():
        if isinstance(value, kind):
            return [word, write(value)]
    raise UncacheableArgument(
        f"Argument {name!r} is a {type(value).__qualname__}, of which there is no text to make a key of. Leave it out "
        f"with ignore=[{name!r}], pass something that identifies it, or say key=…"
    )


def unpack(packed: Packed) -> Any:
    """Return the value that was packed; a row is read from its database again."""
    if not isinstance(packed, list):
        return packed
    word, *rest = packed
    match word:
        case "list":
            return [unpack(each) for each in rest]
        case "tuple":
            return tuple(unpack(each) for each in rest)
        case "set":
            return {unpack(each) for each in rest}
        case "dict":
            return {unpack(key): unpack(value) for key, value in rest}
        case "row":
            label, key, using = rest
            return apps.get_model(label)._base_manager.using(using).get(pk=unpack(key))  # noqa: SLF001 - Django's own word for "all rows"
    (text,) = rest
    return next(read(text) for each, _, read in TEXTS.values() if each == word)


def _pack_many(value: Any, name: str) -> Packed:
    if isinstance(value, dict):
        pairs = [[pack(key, name), pack(each, name)] for key, each in value.items()]
        return ["dict", *sorted(pairs, key=lambda pair: json.dumps(pair[0]))]
    packed = [pack(each, name) for each in value]
    if isinstance(value, (set, frozenset)):
        return ["set", *sorted(packed, key=json.dumps)]
    return ["list" if isinstance(value, list) else "tuple", *packed]


def _pack_row(row: Model, name: str) -> Packed:
    if row.pk is None:
        raise UncacheableArgument(
            f"Argument {name!r} is a {row._meta.label} that was never saved, so nothing names it."
        )
    return ["row", row._meta.label_lower, pack(row.pk, name), row._state.db or "default"]
