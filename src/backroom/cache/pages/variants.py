"""Which requests one stored page may answer: by the headers that its Vary names (RFC 9111 §4.1), and by single cookies."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Self

from django.http import HttpRequest, HttpResponseBase
from django.http.request import HttpHeaders
from django.utils.http import split_header_value

from backroom.cache.arguments import digest
from backroom.cache.pages.noticing import ALL

DECLARED: Final = "_backroom_cache_cookies"
"""Where a response carries the names that `vary_on_cookies()` was given."""
ANALYTICS: Final = (
    "_ga*",
    "_gid",
    "_gat*",
    "_gcl_*",
    "_fbp",
    "_fbc",
    "_pk_*",
    "_hj*",
    "_clck",
    "_clsk",
    "_uet*",
    "__utm*",
    "_scid*",
)
"""Cookies that scripts of others set and read in the browser; a page that reads one varies on it all the same."""
REFUSED: Final = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*")
MOST: Final = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Variation:
    """The names of the headers and cookies by which the answers of one address differ."""

    headers: tuple[str, ...] = ()
    cookies: tuple[str, ...] = ()

    def __or__(self, other: "Variation") -> "Variation":
        return Variation(
            headers=tuple(sorted({*self.headers, *other.headers})),
            cookies=tuple(sorted({*self.cookies, *other.cookies})),
        )

    @property
    def is_too_wide(self) -> bool:
        """Tell whether there are more names than a page can mean."""
        return len(self.headers) + len(self.cookies) > MOST

    def digest(self, request: HttpRequest) -> str:
        """Return what stands for this request's values: the same only where all of them are, absent ones included."""
        if not self.headers and not self.cookies:
            return "plain"
        headers = [[name, _value(request, name)] for name in self.headers]
        return digest([headers, self._cookies(request)])

    def packed(self) -> list[Any]:
        """Return it as JSON."""
        return [list(self.headers), list(self.cookies)]

    @classmethod
    def unpacked(cls, stored: Any) -> Self | None:
        """Return what was packed; None for anything else."""
        if not isinstance(stored, list | tuple) or len(stored) != 2:
            return None
        return cls(headers=tuple(stored[0]), cookies=tuple(stored[1]))

    def _cookies(self, request: HttpRequest) -> list[Any]:
        # dict() of a subclass would ask it; what we read is not what the page read.
        sent = dict(dict.items(request.COOKIES))
        names: Iterable[str] = self.cookies
        if ALL in self.cookies:
            named = set(self.cookies)
            names = sorted(name for name in {*sent, *named} if name in named or not _is_analytics(name))
        return [[name, sent.get(name)] for name in names]


def variation_of(response: HttpResponseBase, cookies_read: Iterable[str], *, knows_language: bool) -> Variation:
    """Return what a response says of how it varies, and what was noticed of it.

    `knows_language`: whether the language is in the key already, in the place of Accept-Language.
    """
    headers = {name.lower() for name in split_header_value(response.headers.get("Vary", ""))}
    cookies = {*cookies_read, *getattr(response, DECLARED, ())}
    if "cookie" in headers and not hasattr(response, DECLARED):
        # It says that cookies matter, and not which.
        cookies.add(ALL)
    if knows_language:
        headers.discard("accept-language")
    return Variation(headers=tuple(sorted(headers - {"cookie"})), cookies=tuple(sorted(cookies)))


def _value(request: HttpRequest, name: str) -> str | None:
    value: str | None = request.META.get(HttpHeaders.to_wsgi_name(name))
    if name == "accept-encoding" and value is not None:
        return _codings(value)
    return value


def _codings(value: str) -> str:
    """Return the codings that a browser takes, in one order: their spelling differs more than they do.

    One that it refuses stays, and so does one that nobody knows: Django's GZipMiddleware finds a "gzip" in "x-gzip" and in
    "gzip;q=0" alike, and what it makes of them is nobody else's.
    """
    codings = set()
    for part in split_header_value(value.lower()):
        coding, _, weight = part.partition(";")
        codings.add(f"{coding.strip()};q=0" if REFUSED.fullmatch(weight) else coding.strip())
    return ",".join(sorted(codings))


def _is_analytics(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in ANALYTICS)
