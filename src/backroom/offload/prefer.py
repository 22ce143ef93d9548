"""The Prefer header: what a client would like, none of which is an order (RFC 7240)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - the grammar's word (RFC 9110, 5.6.2)
QUOTED: Final = r'"(?:[^"\\]|\\.)*"'

_ELEMENT = re.compile(rf'(?:[^,"]|{QUOTED}|")+')
_PREFERENCE = re.compile(rf"[ \t]*({TOKEN})(?:[ \t]*=[ \t]*({TOKEN}|{QUOTED})?)?[ \t]*(?:;|$)")
_LONGEST_NUMBER: Final = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Preferences:
    """The preferences that an offloaded view can meet."""

    wait: int | None = None
    """Seconds for which the client would wait for the answer (RFC 7240, 4.3)."""
    respond_async: bool = False
    """Whether a 202 is welcome instead of an answer (RFC 7240, 4.1)."""

    def seconds(self, *, default: float, limit: float) -> float:
        """Return how long to hold the request: never longer than `limit`.

        A client that asked for `respond-async` and named no time wants its 202 at once.
        """
        if self.wait is not None:
            return min(float(self.wait), limit)
        return 0.0 if self.respond_async else min(default, limit)

    def applied(self, *, limit: float, is_async: bool) -> str:
        """Return the value of Preference-Applied (RFC 7240, 3), empty when there is nothing to tell.

        `respond-async` is told only with a 202; `wait` with the seconds that were really allowed.
        """
        told = []
        if self.respond_async and is_async:
            told.append("respond-async")
        if self.wait is not None:
            told.append(f"wait={min(self.wait, int(limit))}")
        return ", ".join(told)


def parse(header: str) -> Preferences:
    """Return the preferences of a Prefer header; what is malformed or unknown is passed over.

    Names are compared without case, and the first one counts when a name comes twice (RFC 7240, 2).
    """
    found: dict[str, str] = {}
    for name, value in _preferences(header):
        found.setdefault(name, value)
    return Preferences(wait=_seconds(found.get("wait", "")), respond_async=found.get("respond-async") == "")


def _preferences(header: str) -> Iterator[tuple[str, str]]:
    for element in _ELEMENT.findall(header):
        # Parameters may follow after a semicolon; none is defined for the preferences read here.
        if match := _PREFERENCE.match(element):
            yield match[1].lower(), _word(match[2] or "")


def _word(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


def _seconds(value: str) -> int | None:
    if not (value.isascii() and value.isdigit()):
        return None
    # A number of any length is valid; int() refuses very long ones, and nobody waits for 30 years.
    return int(value) if len(value) <= _LONGEST_NUMBER else 10**_LONGEST_NUMBER
