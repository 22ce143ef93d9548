"""What browsers demand of a cookie's attributes, and refuse without a word (RFC 6265bis, 4.1.3 and 5.7; CHIPS)."""

from collections.abc import Iterator
from http.cookies import Morsel
from typing import Any, Final, NamedTuple

from django.http import HttpResponseBase

from backroom.errors import BackroomError

HOST: Final = "__host-"
SECURE: Final = "__secure-"


class CookieRefused(BackroomError):
    """A cookie that no browser would keep."""


class Attributes(NamedTuple):
    """What is said about a cookie beside its value."""

    name: str
    secure: bool
    path: str
    domain: str | None
    samesite: str | None
    partitioned: bool = False


class Fault(NamedTuple):
    """Why browsers refuse a cookie, and the cure."""

    problem: str
    cure: str


def faults_of(cookie: Attributes) -> Iterator[Fault]:
    """Yield why browsers would refuse a cookie with these attributes."""
    prefix = next((each for each in (HOST, SECURE) if cookie.name.lower().startswith(each)), "")
    called = cookie.name[: len(prefix)]
    if prefix and not cookie.secure:
        yield Fault(
            f"A cookie whose name begins with {called} must be Secure.", "Make it secure, and serve it by https."
        )
    if prefix == HOST and cookie.path != "/":
        yield Fault(
            f"A cookie whose name begins with {called} must have the path '/', not {cookie.path!r}.", "Use '/'."
        )
    if prefix == HOST and cookie.domain:
        yield Fault(
            f"A cookie whose name begins with {called} must have no domain, not {cookie.domain!r}.",
            "Leave the domain out, or begin the name with __Secure-.",
        )
    for word, text in (("path", cookie.path), ("domain", cookie.domain or "")):
        if not text.isascii() or not text.isprintable() or ";" in text:
            yield Fault(f"A cookie's {word} is no part of a header: {text!r}.", f"Use a plain {word}, percent-coded.")
    if (cookie.samesite or "").lower() == "none" and not cookie.secure:
        yield Fault("A cookie with SameSite=None must be Secure.", "Make it secure, or use SameSite=Lax.")
    if cookie.partitioned and not cookie.secure:
        yield Fault("A partitioned cookie must be Secure.", "Make it secure, and serve it by https.")


def as_partitioned(response: HttpResponseBase, name: str) -> None:
    """Make a cookie of a response one for each site that embeds this one (CHIPS)."""
    plain = response.cookies[name]
    morsel = _PartitionedMorsel()
    morsel.set(plain.key, plain.value, plain.coded_value)
    for attribute, value in plain.items():
        dict.__setitem__(morsel, attribute, value)
    dict.__setitem__(morsel, "partitioned", True)  # noqa: FBT003 - a dict has no keywords
    # The cookie jar's own setter would make a plain one of it again.
    dict.__setitem__(response.cookies, name, morsel)


class _PartitionedMorsel(Morsel[str]):
    """A cookie that can say Partitioned, as Python's own can from 3.14 on."""

    _reserved: dict[str, Any] = {**Morsel._reserved, "partitioned": "Partitioned"}  # type: ignore[attr-defined]  # noqa: SLF001
    _flags: set[str] = {*Morsel._flags, "partitioned"}  # type: ignore[attr-defined]  # noqa: SLF001 - its own subclass
