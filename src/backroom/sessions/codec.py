"""The text that a store keeps of one value: signed, so that who can write to the store cannot invent it, or encrypted.

The first letter says which: `j` JSON, `b` bytes of another serializer, `e` encrypted JSON, `x` encrypted bytes. So a
project can begin to encrypt, stop, or change its serializer, and read what is there.
"""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final, Protocol

from django.contrib.sessions.serializers import JSONSerializer

from backroom.sealing import SIGNATURE_LENGTH, BadSeal, is_signed, seal, signature, unseal
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
        context = name.encode("utf-8", "surrogatepass")
        if self._encrypts:
            kind = "e" if isinstance(plain, str) else "x"
            return kind + seal(_bytes_of(plain), purpose=PURPOSE, context=context)
        kind, text = ("j", plain) if isinstance(plain, str) else ("b", b64encode(plain).decode("ascii"))
        return f"{kind}{signature(text.encode(), purpose=PURPOSE, context=context)}{text}"

    def document(self, stored: Mapping[str, str]) -> Document:
        """Return the contents of a session; leave out, and log, what nobody with our key can have written."""
        values, plains = {}, {}
        for name, text in stored.items():
            try:
                plain = _plain_of(name, text)
                values[name_of(name)] = _from_json(plain) if isinstance(plain, str) else self._serializer.loads(plain)
            except BadSeal:
                logger.warning("Session data corrupted")
            except Exception:  # noqa: BLE001 - a serializer may raise anything; Django's sessions forget such a value too
                logger.warning("Session data cannot be read by SESSION_SERIALIZER")
            else:
                plains[name] = plain
        return Document(values, plains)


def _plain_of(name: str, stored: str) -> Plain:
    context = name.encode("utf-8", "surrogatepass")
    match stored[:1]:
        case "j" | "b" as kind:
            signed, text = stored[1 : 1 + SIGNATURE_LENGTH], stored[1 + SIGNATURE_LENGTH :]
            if not is_signed(text.encode(), signed, purpose=PURPOSE, context=context):
                raise BadSeal("The signature of a session's value is not ours.")
            return text if kind == "j" else b64decode(text)
        case "e":
            return unseal(stored[1:], purpose=PURPOSE, context=context).decode()
        case "x":
            return unseal(stored[1:], purpose=PURPOSE, context=context)
        case _:
            raise BadSeal("A session's value is of no kind that we write.")


def _bytes_of(plain: Plain) -> bytes:
    return plain.encode() if isinstance(plain, str) else plain
