"""JSON without a space, to and from text: the standard library's, without what it does anew for each value."""

import json
from collections.abc import Callable
from typing import Any


def _encoder() -> Callable[[Any], str]:
    """Return what writes JSON. An encoder of the library makes this for each value anew, in longer than it takes to use."""
    encoder = json.JSONEncoder(separators=(",", ":"))
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    write = make(None, encoder.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, True)  # noqa: FBT003 - as the library calls it
    return lambda value: "".join(write(value, 0))


to_json = _encoder()
_scan = json.JSONDecoder().raw_decode


def from_json(text: str) -> Any:
    """Return the value that a text begins with. Nothing but what to_json(), or a database, wrote is read with it."""
    return _scan(text)[0]
