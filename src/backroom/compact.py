"""JSON as stores keep it: without blanks, and in ASCII, which every store can hold: no NUL, no lone surrogate.

What is kept is written and read at each request and task, and `json` makes a new encoder for each value that it is given,
and looks for blanks round each text: that takes it two to three times as long as the JSON itself.
"""

import json
from collections.abc import Callable
from json import encoder
from typing import Any

__all__ = ["dumps", "loads", "writer"]

_scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]


def writer(*, allow_nan: bool, ensure_ascii: bool = True) -> Callable[[Any], str]:
    """Return a `dumps`, which may write the numbers that JSON does not have as `json` does, and letters as they are."""
    plain = json.JSONEncoder(
        allow_nan=allow_nan, ensure_ascii=ensure_ascii, separators=(",", ":"), check_circular=False
    )
    # Where `json` has no parts in C it has none to offer here either.
    make = getattr(encoder, "c_make_encoder", None)
    if make is None:
        return plain.encode
    letters = encoder.encode_basestring_ascii if ensure_ascii else encoder.encode_basestring
    chunks = make(None, plain.default, letters, None, ":", ",", False, False, allow_nan)  # noqa: FBT003 - it takes no keywords
    join = "".join
    return lambda value: join(chunks(value, 0))


_write = writer(allow_nan=False)


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
