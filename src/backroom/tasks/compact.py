"""JSON as stores keep it: without blanks, and in ASCII, which every store can hold: no NUL, no lone surrogate.

Every task is written and read several times, and `json` makes a new encoder for each value that it is given, and looks
for blanks round each text: that takes it two to three times as long as the JSON itself.
"""

import json
from collections.abc import Callable
from json import encoder
from typing import Any

__all__ = ["dumps", "loads"]

_plain = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False)
_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def _writer() -> Callable[[Any], str]:
    # Where `json` has no parts in C it has none to offer here either.
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return _plain.encode
    chunks = make(None, _plain.default, encoder.encode_basestring_ascii, None, ":", ",", False, False, False)  # noqa: FBT003 - it takes no keywords
    join = "".join
    return lambda value: join(chunks(value, 0))


_write = _writer()


def dumps(value: Any) -> str:
    """Return JSON text; raise `ValueError` for numbers that JSON does not have, or that Python does not write down."""
    return _write(value)


def loads(text: str) -> Any:
    """Return the value of JSON text; raise `ValueError` where it is none."""
    try:
        value, end = _scan(text, 0)
        if end == len(text):
            return value
    except StopIteration:
        pass
    # Blanks round it, or something that is no JSON: that somebody has written by hand.
    return json.loads(text)
