"""The address of a page as its key has it: without what only follows a visitor about, and in one order."""

import re
from collections.abc import Callable, Iterable, Iterator
from fnmatch import translate
from functools import lru_cache
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from django.conf import settings
from django.http import HttpRequest, QueryDict

from backroom.options import Setting

TRACKING: Final = (
    *("utm_*", "mtm_*", "pk_*", "hsa_*", "fbclid", "gclid", "gclsrc", "gbraid", "wbraid", "dclid", "msclkid", "yclid"),
    *(
        "ttclid",
        "twclid",
        "igshid",
        "li_fat_id",
        "epik",
        "mc_cid",
        "mc_eid",
        "_hsenc",
        "_hsmi",
        "_ga",
        "_gl",
        "srsltid",
    ),
)
"""Parameters that advertisers and mailings add to links, and that pages do not read."""
IGNORED: Final = Setting[list[str] | tuple[str, ...]]("CACHE_IGNORED_PARAMETERS", list | tuple, default=TRACKING)

ADDRESSES: Final = frozenset({"QUERY_STRING", "RAW_URI", "REQUEST_URI"})
"""Where WSGI, Gunicorn, and uWSGI or Apache put the query."""

type Pairs = list[tuple[str, str]]


def parted(query: str, ignored: Iterable[str]) -> tuple[str, Pairs]:
    """Return a query string in its one order, and the parameters that were left out of it.

    Parameters of the same name keep their order among themselves, as it may mean something.
    """
    # Bytes that are no UTF-8 stay what they are, so that two different ones stay different.
    pairs = parse_qsl(query, keep_blank_values=True, encoding="utf-8", errors="surrogateescape")
    is_ignored = _matcher(tuple(ignored))
    left_out: Pairs = []
    kept: Pairs = []
    for pair in pairs:
        (left_out if is_ignored(pair[0].lower()) else kept).append(pair)
    kept.sort(key=lambda pair: pair[0])
    return urlencode(kept, encoding="utf-8", errors="surrogateescape"), left_out


def has_too_many(query: str) -> bool:
    """Tell whether Django would refuse to read the parameters of a query, since there are too many."""
    most: int | None = settings.DATA_UPLOAD_MAX_NUMBER_FIELDS
    return most is not None and query.count("&") + 1 > most


@lru_cache(maxsize=64)
def _matcher(patterns: tuple[str, ...]) -> Callable[[str], object]:
    # One expression for all: a query may have thousands of parameters.
    return re.compile("|".join(map(translate, patterns)) or "(?!)").match


def watch_query(request: HttpRequest, left_out: Pairs, notice: Callable[[], None]) -> None:
    """Notice when a page reads a parameter that its key leaves out: such a page must not be stored.

    Else one visitor could choose what the others see (cache poisoning through an unkeyed input).
    """
    query = request.META.get("QUERY_STRING", "")
    names = frozenset(name for name, _ in left_out)
    request.META = _Meta(request.META, notice)
    watched: Any = _Query(query, request.encoding, names, notice)
    request.GET = watched
    for name in ("get_full_path", "get_full_path_info", "build_absolute_uri"):
        setattr(request, name, _noticing(getattr(request, name), notice))


def _noticing(function: Callable[..., Any], notice: Callable[[], None]) -> Callable[..., Any]:
    def noticing(*args: Any, **kwargs: Any) -> Any:
        # An address that was given has none of the request's parameters.
        if function.__name__ != "build_absolute_uri" or not (args or kwargs.get("location")):
            notice()
        return function(*args, **kwargs)

    return noticing


def _of_all(kind: type, name: str) -> Any:
    """Return a method that reads everything there is."""
    method = getattr(kind, name)

    def reading(mapping: Any, *args: Any) -> Any:
        mapping._notice()  # noqa: SLF001 - its own
        return method(mapping, *args)

    return reading


def _of_one(kind: type, name: str) -> Any:
    """Return a method that reads what is under one key."""
    method = getattr(kind, name)

    def reading(mapping: Any, key: object, *args: Any, **kwargs: Any) -> Any:
        mapping._read(key)  # noqa: SLF001 - its own
        return method(mapping, key, *args, **kwargs)

    return reading


class _Meta(dict[str, Any]):  # noqa: PLW1641 - no dict can be hashed
    """request.META, which tells when the query string is read."""

    def __init__(self, meta: dict[str, Any], notice: Callable[[], None]) -> None:
        super().__init__(meta)
        self._notice = notice

    def _read(self, key: object) -> None:
        if key in ADDRESSES:
            self._notice()

    __getitem__ = _of_one(dict, "__getitem__")
    get = _of_one(dict, "get")
    pop = _of_one(dict, "pop")
    setdefault = _of_one(dict, "setdefault")

    def __iter__(self) -> Iterator[str]:
        # With a method of its own dict() asks for each value, instead of taking them all unseen.
        return super().__iter__()

    items = _of_all(dict, "items")
    values = _of_all(dict, "values")
    copy = _of_all(dict, "copy")
    __eq__ = _of_all(dict, "__eq__")
    __ne__ = _of_all(dict, "__ne__")
    __repr__ = _of_all(dict, "__repr__")


class _Query(QueryDict):  # noqa: PLW1641 - no dict can be hashed
    """request.GET, which tells when a parameter that the key leaves out is read, or all of them are."""

    _notice: Callable[[], None]

    def __init__(self, query: str, encoding: str | None, names: frozenset[str], notice: Callable[[], None]) -> None:
        self._names = names
        self._notice = _nothing
        super().__init__(query, encoding=encoding)
        self._notice = notice

    def _read(self, name: object) -> None:
        if name in self._names:
            self._notice()

    __getitem__ = _of_one(QueryDict, "__getitem__")
    __contains__ = _of_one(QueryDict, "__contains__")
    # What get and getlist call.
    _getlist = _of_one(QueryDict, "_getlist")
    __iter__ = _of_all(QueryDict, "__iter__")
    __len__ = _of_all(QueryDict, "__len__")
    __reversed__ = _of_all(QueryDict, "__reversed__")
    __eq__ = _of_all(QueryDict, "__eq__")
    __ne__ = _of_all(QueryDict, "__ne__")
    __repr__ = _of_all(QueryDict, "__repr__")
    keys = _of_all(QueryDict, "keys")
    lists = _of_all(QueryDict, "lists")
    values = _of_all(QueryDict, "values")

    def __copy__(self) -> Any:
        return _plain(self)

    def __deepcopy__(self, _memo: Any) -> Any:
        return _plain(self)


def _nothing() -> None:
    """Be told, and do nothing, while the parameters are put in."""


def _plain(query: _Query) -> QueryDict:
    copied = QueryDict("", mutable=True, encoding=query.encoding)
    for name, values in query.lists():
        copied.setlist(name, values)
    return copied
