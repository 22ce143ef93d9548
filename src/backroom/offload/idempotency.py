"""The Idempotency-Key header: a name that a client gives its request, so that sending it twice does it once.

draft-ietf-httpapi-idempotency-key-header-06: the value is a String of Structured Fields (RFC 9651, 3.3.3).
"""

import re
from typing import Final

from backroom.errors import BackroomError

LONGEST: Final = 255
"""Characters that a key may have."""

_STRING = re.compile(r'[ ]*"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
# Parameters are allowed on every Item and mean nothing here (RFC 9651, 3.3 and 3.1.2).
_PARAMETER = re.compile(
    r";[ ]*[a-z*][a-z0-9_.*-]*"
    r'(?:=(?:"(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"|\?[01]|-?[0-9]{1,15}(?:\.[0-9]{1,3})?|[A-Za-z*][!-+\--:<-~]*))?'
)


class InvalidKey(BackroomError):
    """An Idempotency-Key header that is not a String of Structured Fields."""


def parse(header: str) -> str:
    """Return the key; raise `InvalidKey`, with a message for the client, when the header is not well-formed."""
    match = _STRING.match(header)
    if not match:
        msg = f'Idempotency-Key must be a quoted string of ASCII characters, like "{_suggestion(header)}".'
        raise InvalidKey(msg)
    _check_rest(header[match.end() :])
    key = re.sub(r"\\(.)", r"\1", match[1])
    if not 0 < len(key) <= LONGEST:
        msg = f"Idempotency-Key must have 1 to {LONGEST} characters; this one has {len(key)}."
        raise InvalidKey(msg)
    return key


def serialize(key: str) -> str:
    """Return the header of a key of printable ASCII characters (RFC 9651, 4.1.6)."""
    escaped = re.sub(r'(["\\])', r"\\\1", key)
    return f'"{escaped}"'


def _check_rest(rest: str) -> None:
    while match := _PARAMETER.match(rest):
        rest = rest[match.end() :]
    if rest.strip(" "):
        msg = "Idempotency-Key must be one quoted string; something else follows it."
        raise InvalidKey(msg)


def _suggestion(header: str) -> str:
    kept = "".join(re.findall(r"[\w-]", header, re.ASCII))
    return kept[:40] or "8e03978e-40d5-43dd-bc93-6894a57f9324"
