"""How a value becomes what a store keeps, and is read again exactly as it was.

Text, integers and floats are stored as they are. Everything else becomes bytes, the first of which is the form of the others:
bytes; JSON, of what is made of JSON's own types alone, or msgpack where asked for; and of anything else a pickle, signed for
its key with SECRET_KEY: what we did not sign is never unpickled. It knows no backend.
"""

import pickle
from collections.abc import Callable
from functools import lru_cache
from hashlib import blake2b
from hmac import compare_digest
from importlib import import_module
from importlib.util import find_spec
from json import JSONDecoder
from json.scanner import make_scanner
from math import isnan
from typing import Any, Final

from django.conf import settings
from django.utils.encoding import force_bytes

from backroom.cache.compression import CannotUnpack, pack, unpack
from backroom.compact import writer
from backroom.errors import BackroomError

PLAIN: Final = 0
TEXT: Final = 1
JSON: Final = 2
MSGPACK: Final = 3
PICKLE: Final = 4
PACKED: Final = 8
"""The forms of bytes. Of what is packed it is `PACKED * how + the form inside`."""

MAC_BYTES: Final = 16
WHOLE: Final = range(-(2**63), 2**63)
"""The integers that every store keeps as integers, and can add to."""

type Payload = str | bytes | int | float


class Unreadable(BackroomError):
    """A stored value was changed, signed with another key, or needs a package that is missing. To a cache it is a miss."""


class Codec:
    """Turns values into what a store keeps, and back.

    `salt` parts one cache's signatures from another's. Payloads of `compress_from` bytes and more are compressed, none
    when it is None. `structures` is "json" or "msgpack".
    """

    def __init__(self, *, salt: str = "", compress_from: int | None = None, structures: str = "json") -> None:
        self._salt = salt
        self._limit = compress_from
        # Without the package what is new is JSON, and what was written with it is a miss.
        self._structure = _Msgpack() if structures == "msgpack" and find_spec("msgpack") else _JSON

    def encode(self, value: Any, key: str) -> Payload:
        """Return what is stored for a value under this key."""
        plain: Payload = value
        kind = type(value)
        if kind is str:
            return plain if self._limit is None or len(value) < self._limit else self._bytes(TEXT, _utf8(value), key)
        if (kind is int and value in WHOLE) or (kind is float and not isnan(value)):
            return plain
        if kind is bytes:
            return self._bytes(PLAIN, value, key)
        try:
            # Of a list that contains itself neither would come to an end.
            encoded = self._structure.encode(value) if _is_plain(value) else None
        except (ValueError, OverflowError, RecursionError):
            encoded = None
        return self._bytes(*(encoded or (PICKLE, pickle.dumps(value, pickle.HIGHEST_PROTOCOL))), key)

    def decode(self, payload: Any, key: str) -> Any:
        """Return the value; raise `Unreadable`."""
        if type(payload) is not bytes:
            return payload
        if not payload:
            msg = f"The value under {key!r} is empty."
            raise Unreadable(msg)
        try:
            return self._decode(payload[0], payload[1:], key)
        except Unreadable:
            raise
        except CannotUnpack as error:
            msg = f"The value under {key!r} cannot be unpacked: {error}."
            raise Unreadable(msg) from None
        except Exception as error:
            # A pickle may raise anything: a class that is gone, say, or a __setstate__ that has changed.
            msg = f"The value under {key!r} cannot be read any more: {type(error).__name__}."
            raise Unreadable(msg) from error

    def dumps(self, value: Any, key: str) -> bytes | int:
        """Return what a store of bytes keeps: an integer as such, so that it can be added to; else form and all."""
        payload = self.encode(value, key)
        if isinstance(payload, str):
            return _first[TEXT] + _utf8(payload)
        if isinstance(payload, float):
            return _first[JSON] + _JSON.encode(payload)[1]
        return payload

    def loads(self, data: bytes, key: str) -> Any:
        """Return the value of what `dumps()` made, or of an integer that the store has added to."""
        if data[:1] not in _DIGITS:
            return self.decode(data, key)
        try:
            return int(data)
        except ValueError:
            msg = f"The value under {key!r} begins like a number and is none."
            raise Unreadable(msg) from None

    def _decode(self, form: int, data: bytes, key: str) -> Any:
        if form == PLAIN:
            return data
        if form == TEXT:
            return data.decode("utf-8", "surrogatepass")
        if form == JSON:
            return _JSON.decode(data)
        if form == PICKLE:
            return pickle.loads(self._verified(form, data, key))  # noqa: S301 - it is signed
        if form == MSGPACK:
            return _Msgpack().decode(data)
        how, inside = divmod(form, PACKED)
        if inside != PICKLE:
            return self._decode(inside, unpack(how, data), key)
        return pickle.loads(unpack(how, self._verified(form, data, key)))  # noqa: S301 - it is signed

    def _bytes(self, form: int, data: bytes, key: str) -> bytes:
        """Return form and data in one: packed if they are large, and signed if they are a pickle."""
        if self._limit is not None and len(data) >= self._limit:
            how, data = pack(data)
            form += PACKED * how
        if form % PACKED == PICKLE:
            data = self._mac(_secret(), form, data, key) + data
        return _first[form] + data

    def _verified(self, form: int, payload: bytes, key: str) -> bytes:
        mac, data = payload[:MAC_BYTES], payload[MAC_BYTES:]
        for secret in (_secret(), *settings.SECRET_KEY_FALLBACKS):
            if compare_digest(self._mac(secret, form, data, key), mac):
                return data
        msg = (
            f"The pickle under {key!r} is not signed with SECRET_KEY or one of SECRET_KEY_FALLBACKS: it was changed, or is "
            "another cache's. It counts as missing."
        )
        raise Unreadable(msg)

    def _mac(self, secret: str | bytes, form: int, data: bytes, key: str) -> bytes:
        keyed = _keyed(secret, self._salt).copy()
        name = key.encode("utf-8", "surrogatepass")
        keyed.update(b"%d:%d:%b" % (form, len(name), name))
        keyed.update(data)
        return keyed.digest()


class _JSONStructures:
    """JSON for what has no other types than JSON's."""

    def __init__(self) -> None:
        # Its parts in C, without the checks that json.dumps and json.loads make at every call.
        self._encode = writer(allow_nan=True, ensure_ascii=False)
        make: Any = make_scanner
        self._scan: Callable[[str, int], tuple[Any, int]] = make(JSONDecoder())

    def encode(self, value: Any) -> tuple[int, bytes]:
        return JSON, _utf8(self._encode(value))

    def decode(self, data: bytes) -> Any:
        return self._scan(data.decode("utf-8", "surrogatepass"), 0)[0]


class _Msgpack:
    """The same structures in msgpack, which is smaller and quicker to write. The package is imported when it is asked for."""

    def encode(self, value: Any) -> tuple[int, bytes]:
        return MSGPACK, import_module("msgpack").packb(value)

    def decode(self, data: bytes) -> Any:
        return import_module("msgpack").unpackb(data, strict_map_key=False)


_JSON: Final = _JSONStructures()
_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_first: Final = tuple(bytes([form]) for form in range(256))
_DIGITS: Final = frozenset(b"%d" % digit for digit in range(10)) | {b"-"}


def _is_plain(value: Any) -> bool:
    """Tell whether JSON gives back this very value: lists and dicts with text for keys, and no subclass of anything."""
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or (type(item) not in _SCALARS and not _is_plain(item)):
                return False
        return True
    if kind is list:
        return all(type(item) in _SCALARS or _is_plain(item) for item in value)
    return kind in _SCALARS


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _secret() -> str | bytes:
    secret: str | bytes = settings.SECRET_KEY
    return secret


@lru_cache(maxsize=64)
def _keyed(secret: str | bytes, salt: str) -> blake2b:
    key = blake2b(force_bytes(secret), person=b"backroom.cache").digest()
    keyed = blake2b(key=key, digest_size=MAC_BYTES)
    keyed.update(b"%d:%b" % (len(salt.encode()), salt.encode()))
    return keyed
