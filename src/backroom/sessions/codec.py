"""The text that a store keeps of one value: signed, so that who can write to the store cannot invent it, or encrypted.

The first letter says which: `j` JSON, `b` bytes of another serializer, `e` encrypted JSON, `x` encrypted bytes. So a
project can begin to encrypt, stop, or change its serializer, and read what is there.
"""

import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, Protocol

from django.contrib.sessions.serializers import JSONSerializer

from backroom.compact import loads, writer
from backroom.sealing import SIGNATURE_LENGTH, BadSeal, is_mac, macs_for, seal, signature, unseal_with_age
from backroom.sessions.documents import Document, Plain, field_of, name_of

_dumps: Final = writer(allow_nan=True)

PURPOSE: Final = "sessions.value"
PLAIN_AT: Final = 1 + SIGNATURE_LENGTH
"""Where in a stored text that is signed the value begins."""


logger = logging.getLogger("django.security.SuspiciousSession")


class Serializer(Protocol):
    """What SESSION_SERIALIZER names."""

    def dumps(self, obj: Any) -> bytes:
        """Return a value as bytes."""

    def loads(self, data: bytes) -> Any:
        """Return the value again."""


class Codec:
    """Serialises with SESSION_SERIALIZER, one value at a time, and signs or encrypts."""

    __slots__ = ("_encrypts", "_is_json", "_kind", "_serializer")

    def __init__(self, serializer: type[Any], *, encrypts: bool) -> None:
        self._is_json = serializer is JSONSerializer
        self._serializer: Serializer = serializer()
        self._encrypts = encrypts
        self._kind = ("e" if self._is_json else "x") if encrypts else ("j" if self._is_json else "b")

    def plain(self, name: str, value: Any) -> Plain:
        """See ValueCodec."""
        try:
            return _dumps(value) if self._is_json else self._serializer.dumps(value)
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
        """Return the contents of a session; leave out, and log, what nobody with our key can have written.

        What an earlier key or other settings wrote is not remembered as stored, so that the next save writes it anew: else
        it would be lost with the last key of SECRET_KEY_FALLBACKS, or stay readable though ENCRYPT was switched on.
        """
        plains: dict[str, Plain] = {}
        outdated = []
        keyed = macs_for(PURPOSE)
        for name, text in stored.items():
            # What nearly all of them are, before the rest.
            if text[:1] == self._kind == "j" and is_mac(
                keyed[0], text[PLAIN_AT:].encode(), name.encode(), text[1:PLAIN_AT]
            ):
                plains[name] = text[PLAIN_AT:]
                continue
            try:
                plains[name], is_recent = _plain_of(name, text, keyed)
                if not is_recent or text[:1] != self._kind:
                    outdated.append(name)
            except BadSeal:
                logger.warning("Session data corrupted")
        try:
            # One call for all of them is what it would otherwise take for one.
            values = dict(zip(plains, loads(f"[{','.join(plains.values())}]"), strict=True))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            values = self._values(plains)
        for name in outdated:
            plains.pop(name, None)
        if "\\" in "".join(values):
            values = {name_of(name): value for name, value in values.items()}
        return Document(values, plains)

    def _values(self, plains: dict[str, Plain]) -> dict[str, Any]:
        """Return the values one by one, and forget those that the serializer cannot read, as Django's sessions do."""
        values = {}
        for name, plain in list(plains.items()):
            try:
                values[name] = loads(plain) if isinstance(plain, str) else self._serializer.loads(plain)
            except Exception:  # noqa: BLE001 - a serializer may raise anything
                logger.warning("Session data cannot be read by SESSION_SERIALIZER")
                del plains[name]
        return values


@lru_cache(maxsize=8)
def codec_for(serializer: type[Any], *, encrypts: bool) -> Codec:
    """Return the codec of a serializer."""
    return Codec(serializer, encrypts=encrypts)


def writable(contents: Mapping[str, Any], codec: Codec) -> dict[str, Any]:
    """Return of another engine's contents what the serializer can write; log the names of the rest."""
    found = {}
    for name, value in contents.items():
        try:
            codec.plain(field_of(name), value)
        except Exception:  # noqa: BLE001 - a serializer may raise anything
            logger.warning("SESSION_SERIALIZER cannot write session[%r], which the engine before had: left out", name)
        else:
            found[name] = value
    return found


def _plain_of(name: str, stored: str, keyed: Sequence[blake2b]) -> tuple[Plain, bool]:
    """Return the serialised value, and whether it was written with the first key."""
    kind, context = stored[:1], name.encode()
    if kind in {"j", "b"}:
        signed, text = stored[1:PLAIN_AT], stored[PLAIN_AT:]
        data = text.encode()
        for index, each in enumerate(keyed):
            if is_mac(each, data, context, signed):
                return text if kind == "j" else b64decode(text), index == 0
        raise BadSeal("The signature of a session's value is not ours.")
    if kind in {"e", "x"}:
        opened, is_recent = unseal_with_age(stored[1:], purpose=PURPOSE, context=context)
        return opened.decode() if kind == "e" else opened, is_recent
    raise BadSeal("A session's value is of no kind that we write.")


def _bytes_of(plain: Plain) -> bytes:
    return plain.encode() if isinstance(plain, str) else plain
