"""What is in a session, and what a request did to it: the part of a save that loses no other request's write."""

import json
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from backroom.compact import dumps
from backroom.errors import BackroomError

UNCHANGING: Final = frozenset({str, int, float, bool, type(None)})
"""Types of values that cannot be changed in place: without an assignment they are as they were loaded."""

type Plain = str | bytes
"""A serialised value, before it is signed or encrypted."""


class SessionTooLarge(BackroomError):
    """A session has more in it than BACKROOM["SESSIONS"]["MAX_BYTES"] allows."""


class ValueCodec(Protocol):
    """Turns the value of one name into the text that a store keeps, and back."""

    def plain(self, name: str, value: Any) -> Plain:
        """Return the serialised value."""

    def stored(self, name: str, plain: Plain) -> str:
        """Return what a store keeps of it: signed or encrypted, bound to its name."""


class Document(dict[str, Any]):
    """The contents of a session as they were loaded, which remembers what was assigned and deleted since.

    A value that is changed in place is noticed at the save, by how it is serialised. Contents that did not come from a
    store (`is_whole`) take the place of whatever is there.
    """

    __slots__ = ("assigned", "is_whole", "plains")

    def __init__(self, values: Mapping[str, Any] | None = None, plains: dict[str, Plain] | None = None) -> None:
        super().__init__(values or {})
        self.plains = plains or {}
        self.assigned: set[str] = set()
        self.is_whole = False

    def __setitem__(self, name: str, value: Any) -> None:
        self.assigned.add(name)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.assigned.add(name)

    def __ior__(self, other: Any) -> "Document":  # type: ignore[override,misc]  # noqa: PYI034 - as dict has it
        self.update(other)
        return self

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Assign several names."""
        given = dict(*args, **kwargs)
        self.assigned.update(given)
        super().update(given)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Assign a name that has no value yet."""
        if name not in self:
            self[name] = default
        return self[name]

    def pop(self, name: str, *default: Any) -> Any:
        """Delete a name and return its value."""
        if name in self:
            self.assigned.add(name)
        return super().pop(name, *default)

    def popitem(self) -> tuple[str, Any]:
        """Delete the name that came last."""
        name, value = super().popitem()
        self.assigned.add(name)
        return name, value

    def clear(self) -> None:
        """Empty it, whatever others put in meanwhile."""
        super().clear()
        self.plains.clear()
        self.assigned.clear()
        self.is_whole = True

    def settle(self, changes: "Changes") -> None:
        """Take changes for saved."""
        if changes.replaces:
            self.plains.clear()
        self.plains.update(changes.plains)
        for name in changes.deleted:
            self.plains.pop(name, None)
        self.assigned.clear()
        self.is_whole = False

    def unsettle(self, changes: "Changes") -> None:
        """Take changes for not saved: what they were saved in was rolled back."""
        self.is_whole = self.is_whole or changes.replaces
        for name in (*changes.stored, *changes.deleted):
            self.plains.pop(name, None)
            self.assigned.add(name_of(name))

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        # Copied or pickled it is a dict: what was loaded and assigned concerns this request alone.
        return dict, (dict(self),)


class Changes(NamedTuple):
    """What a save writes."""

    stored: Mapping[str, str] = MappingProxyType({})
    """Names with new values, as a store keeps them."""
    plains: Mapping[str, Plain] = MappingProxyType({})
    """The same, as they were serialised."""
    deleted: frozenset[str] = frozenset()
    replaces: bool = False
    """Whether all other names go."""

    def __bool__(self) -> bool:
        return bool(self.stored or self.deleted or self.replaces)

    def names(self, name: str) -> bool:
        """Tell whether a name is, or may be, among what is written."""
        return self.replaces or name in self.stored or name in self.deleted

    def patch(self) -> str:
        """Return the changes as a JSON merge patch (RFC 7396): every value is a string, and null deletes."""
        return dumps({**self.stored, **dict.fromkeys(self.deleted)})


def contents_of(data: Mapping[str, Any], codec: ValueCodec, *, max_bytes: int) -> Changes:
    """Return all of a session; raise `SessionTooLarge` when that is too much."""
    return changes_of(dict(data), codec, max_bytes=max_bytes)


def changes_of(data: Mapping[str, Any], codec: ValueCodec, *, max_bytes: int) -> Changes:
    """Return what a request changed; raise `SessionTooLarge` when it left too much."""
    known: Mapping[str, Plain] = {}
    assigned: Iterable[Any] = ()
    whole = True
    if isinstance(data, Document) and not data.is_whole:
        known, assigned, whole = data.plains, data.assigned, False
    plains: dict[str, Plain] = {}
    present, size = set(), 0
    for name, value in data.items():
        # What is known by a name without a backslash is stored under just that.
        field_name = name if name in known and "\\" not in name else field_of(name)
        present.add(field_name)
        plain = known.get(field_name)
        if plain is None or name in assigned:
            plain = plains[field_name] = codec.plain(field_name, value)
        elif type(value) not in UNCHANGING and plain != (now := codec.plain(field_name, value)):
            plain = plains[field_name] = now
        size += len(field_name) + len(plain)
    # What was larger before there was a limit may stay so, and shrink.
    if size > max_bytes and size > sum(len(name) + len(plain) for name, plain in known.items()):
        raise SessionTooLarge(_too_large(data, codec, size=size, max_bytes=max_bytes))
    gone = {name for name in known if name not in present}
    gone.update(field_of(name) for name in assigned if name not in data)
    stored = {name: codec.stored(name, plain) for name, plain in plains.items()}
    return Changes(stored, plains, frozenset(gone), whole)


def field_of(name: Any) -> str:
    """Return what a store calls a name: itself, or as JSON writes it where not every store could hold it.

    Names that are no text become what JSON makes of them: 1 is "1", as in Django's sessions.
    """
    if not isinstance(name, str):
        (name,) = json.loads(json.dumps({name: 0}))
    if name.isascii() and name.isprintable() and "\\" not in name:
        return str(name)
    return json.dumps(name)[1:-1].replace('\\"', '"')


def name_of(field_name: str) -> str:
    """Return the name that a store calls so."""
    if "\\" not in field_name:
        return field_name
    name: str = json.loads('"' + field_name.replace('"', '\\"') + '"')
    return name


def _too_large(data: Mapping[str, Any], codec: ValueCodec, *, size: int, max_bytes: int) -> str:
    sizes = sorted(((len(codec.plain(str(name), value)), str(name)) for name, value in data.items()), reverse=True)
    largest = ", ".join(f"{name!r} with {bytes_:,}" for bytes_, name in sizes[:3])
    return (
        f"The session has {size:,} bytes, more than the {max_bytes:,} that BACKROOM['SESSIONS']['MAX_BYTES'] allows. "
        f"The largest: {largest}. Keep large things in a table or a file, and their id in the session."
    )
