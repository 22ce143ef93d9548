"""The text that a store keeps of one value: signed, so that who can write to the store cannot invent it, or encrypted.

The first letter says which: `j` JSON, `b` bytes of another serializer, `e` encrypted JSON, `x` encrypted bytes. So a
project can begin to encrypt, stop, or change its serializer, and read what is there.
"""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping
from hmac import compare_digest
from typing import Any, Final, Protocol

from django.contrib.sessions.serializers import JSONSerializer

from backroom.sealing import SIGNATURE_LENGTH, BadSeal, keys_for, mac, seal, signature, unseal
from backroom.sessions.documents import Document, Plain, name_of

PURPOSE: Final = "sessions.value"
_to_json = json.JSONEncoder(separators=(",", ":")).encode
_from_json = json.JSONDecoder().decode

logger = logging.getLogger("django.security.SuspiciousSession")


class Serializer(Protocol):
    """What SESSION_SERIALIZER names."""

    def dumps(self, obj: Any) -> bytes:
        """Return a value as bytes."""

    def loads(self, data: bytes) -> Any:
        """Return the value again."""


class Codec:
    """Serialises with SESSION_SERIALIZER, one value at a time, and signs or encrypts."""

    __slots__ = ("_encrypts", "_is_json", "_serializer")

    def __init__(self, serializer: type[Any], *, encrypts: bool) -> None:
        self._is_json = serializer is JSONSerializer
        self._serializer: Serializer = serializer()
        self._encrypts = encrypts

    def plain(self, name: str, value: Any) -> Plain:
        """See ValueCodec."""
        try:
            return _to_json(value) if self._is_json else self._serializer.dumps(value)
        except TypeError as error:
            error.add_note(f"It is, or is in, session[{name!r}]. SESSION_SERIALIZER says what a session can hold.")
            raise

    def stored(self, name: str, plain: Plain) -> str:
        """See ValueCodec."""
        context = name.encode()
        if self._encrypts:
            kind = "e" if isinstance(plain, str) else "x"
            return kind + seal(_bytes_of(plain), purpose=PURPOSE, context=context)
        kind, text = ("j", plain) if isinstance(plain, str) else ("b", b64encode(plain).decode("ascii"))
        return f"{kind}{signature(text.encode(), purpose=PURPOSE, context=context)}{text}"

    def document(self, stored: Mapping[str, str]) -> Document:
        """Return the contents of a session; leave out, and log, what nobody with our key can have written."""
        plains: dict[str, Plain] = {}
        keys = keys_for(PURPOSE)
        for name, text in stored.items():
            try:
                plains[name] = _plain_of(name, text, keys)
            except BadSeal:
                logger.warning("Session data corrupted")
        try:
            # One call for all of them is what it would otherwise take for one.
            values = dict(zip(plains, _from_json(f"[{','.join(plains.values())}]"), strict=True))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            values = self._values(plains)
        return Document({name_of(name): value for name, value in values.items()}, plains)

    def _values(self, plains: dict[str, Plain]) -> dict[str, Any]:
        """Return the values one by one, and forget those that the serializer cannot read, as Django's sessions do."""
        values = {}
        for name, plain in list(plains.items()):
            try:
                values[name] = _from_json(plain) if isinstance(plain, str) else self._serializer.loads(plain)
            except Exception:  # noqa: BLE001 - a serializer may raise anything
                logger.warning("Session data cannot be read by SESSION_SERIALIZER")
                del plains[name]
        return values


def _plain_of(name: str, stored: str, keys: list[bytes]) -> Plain:
    kind, context = stored[:1], name.encode()
    if kind in {"j", "b"}:
        signed, text = stored[1 : 1 + SIGNATURE_LENGTH], stored[1 + SIGNATURE_LENGTH :]
        data = text.encode()
        for key in keys:
            if compare_digest(mac(key, data, context), signed):
                return text if kind == "j" else b64decode(text)
        raise BadSeal("The signature of a session's value is not ours.")
    if kind in {"e", "x"}:
        opened = unseal(stored[1:], purpose=PURPOSE, context=context)
        return opened.decode() if kind == "e" else opened
    raise BadSeal("A session's value is of no kind that we write.")


def _bytes_of(plain: Plain) -> bytes:
    return plain.encode() if isinstance(plain, str) else plain
