"""What RFC 9111 lets a shared cache store, and for how long: decided from status, headers and options alone."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from django.http import HttpResponseBase
from django.utils.http import http_date, parse_http_date_safe, split_directive_names, split_header_value

from backroom.cache.entries import Lifetime

STORABLE: Final = frozenset({200, 203, 204, 300, 301, 308, 404, 410})
"""Final answers that may be stored without being told to (RFC 9110 §15.1); 206 and those to other methods are not ours."""
WHEN_TOLD: Final = frozenset({302, 303, 307})
"""Stored only with an explicit lifetime of the response's own."""
NEGATIVE: Final = frozenset({404, 410})
NEGATIVE_SECONDS: Final = 10
FORBIDDING: Final = ("private", "no-store", "no-cache")
YEAR: Final = 31_536_000
"""A lifetime that a response asks for is cut down to it: RFC 9111 §1.2.2 knows numbers that no cache can count to."""
DIRECTIVE: Final = re.compile(r'\s*([^\s,=]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]*)))?[^,]*')


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The options of a page cache that decide about lifetimes. Times are seconds."""

    timeout: float | None = None
    """What `cache_page()` says; None leaves it to the response and then to `default`."""
    default: float = 600
    stale: float = 0
    stale_if_error: float = 0
    early: float = 1.0
    statuses: Mapping[int, float] | None = None
    """The timeout of a status that has one of its own; 0 for one that is not to be stored."""


def directives(response: HttpResponseBase) -> dict[str, str]:
    """Return the directives of Cache-Control, names in lower case, values without quotes.

    Of one that is there twice the first counts (RFC 9111 §4.2.1).
    """
    found: dict[str, str] = {}
    for name, quoted, plain in DIRECTIVE.findall(response.headers.get("Cache-Control", "")):
        found.setdefault(name.lower(), quoted or plain)
    return found


def refusal(response: HttpResponseBase, *, has_authorization: bool) -> str | None:
    """Return why the headers of a response forbid storing it, or None."""
    names = set(split_directive_names(response.headers.get("Cache-Control", "")))
    for name in FORBIDDING:
        if name in names:
            return name
    if "*" in set(split_header_value(response.headers.get("Vary", ""))):
        return "vary-star"
    if response.cookies or response.has_header("Set-Cookie"):
        return "set-cookie"
    if response.streaming:
        return "streaming"
    if response.has_header("Content-Range"):
        return "partial"
    if has_authorization and not is_for_everyone(directives(response)):
        return "authorization"
    return None


def is_for_everyone(found: Mapping[str, str]) -> bool:
    """Tell whether a response may answer requests with Authorization, and be stored for them (RFC 9111 §3.5)."""
    return not {"public", "s-maxage", "must-revalidate"}.isdisjoint(found)


def lifetime(response: HttpResponseBase, terms: Terms, now: float) -> Lifetime | None:
    """Return how long a response is good for; None when it is not to be stored.

    s-maxage speaks of caches like this one, so it counts most; then `timeout`; then max-age, Expires and `default`.
    """
    found = directives(response)
    said = _seconds(found.get("s-maxage"))
    explicit = said if said is not None else _seconds(found.get("max-age"))
    status = response.status_code
    if status not in STORABLE and not (status in WHEN_TOLD and explicit is not None):
        return None
    fresh = _fresh(response, terms, said, explicit, now)
    if terms.statuses is not None and status in terms.statuses:
        own = terms.statuses[status]
        fresh = own if said is None else min(own, said)
    elif status in NEGATIVE and explicit is None:
        fresh = min(fresh, NEGATIVE_SECONDS)
    if fresh <= 0:
        return None
    return _with_stale(found, terms, fresh)


def age(response: HttpResponseBase) -> float:
    """Return how old a response is that came from another cache, this one or one further in (RFC 9111 §4.2.3)."""
    return _seconds(response.headers.get("Age")) or 0.0


def tell_browsers(response: HttpResponseBase, seconds: float, *, expires: bool = True) -> None:
    """Have browsers keep a response for so long at most. A max-age that it has stays if it is shorter."""
    seconds = min(int(seconds), YEAR)
    if expires and not response.has_header("Expires"):
        response.headers["Expires"] = http_date(time.time() + seconds)
    said = _seconds(directives(response).get("max-age"))
    others = [
        part
        for part in split_header_value(response.headers.get("Cache-Control", ""))
        if part.partition("=")[0].strip().lower() != "max-age"
    ]
    shortest = seconds if said is None else min(seconds, int(said))
    response.headers["Cache-Control"] = ", ".join([*others, f"max-age={shortest}"])


def _fresh(response: HttpResponseBase, terms: Terms, shared: float | None, explicit: float | None, now: float) -> float:
    if shared is not None:
        return shared
    if terms.timeout is not None:
        return terms.timeout
    if explicit is not None:
        return explicit
    if response.has_header("Expires"):
        return _until(response.headers["Expires"], now)
    return terms.default


def _with_stale(found: Mapping[str, str], terms: Terms, fresh: float) -> Lifetime:
    """Return the lifetime with what may follow it (RFC 5861), unless the response forbids staleness."""
    stale = _seconds(found.get("stale-while-revalidate"))
    spare = _seconds(found.get("stale-if-error"))
    if "must-revalidate" in found or "proxy-revalidate" in found:
        return Lifetime(fresh=fresh, early=terms.early)
    if "s-maxage" in found:
        # It forbids stale answers too, unless the response itself allows them beside it.
        return Lifetime(fresh=fresh, stale=stale or 0, spare=spare or 0, early=terms.early)
    return Lifetime(
        fresh=fresh,
        stale=terms.stale if stale is None else stale,
        spare=terms.stale_if_error if spare is None else spare,
        early=terms.early,
    )


def _seconds(text: str | None) -> float | None:
    """Return a number of seconds; one that is no number counts as none left (RFC 9111 §4.2.1)."""
    if text is None:
        return None
    if not text.isascii() or not text.isdigit():
        return 0.0
    return float(YEAR) if len(text) > 10 else min(float(text), YEAR)


def _until(date: str, now: float) -> float:
    # RFC 9111 §5.3: an invalid date is one in the past.
    return min((parse_http_date_safe(date) or 0) - now, YEAR)
