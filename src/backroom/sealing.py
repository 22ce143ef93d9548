"""Keep what leaves this process from being changed (signed) or read (sealed), with keys made from SECRET_KEY.

What was made with a key of SECRET_KEY_FALLBACKS is still accepted; new values are always made with SECRET_KEY.
Signing needs nothing; sealing is AES-256-GCM of the package `cryptography` (the extra `encryption`).
"""

import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from functools import cache, lru_cache
from hashlib import blake2b
from hmac import compare_digest
from importlib.util import find_spec
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.dispatch import receiver
from django.utils.encoding import force_bytes

from backroom.errors import BackroomError
from backroom.extras import installing

SIGNATURE_BYTES: Final = 16
SIGNATURE_LENGTH: Final = 2 * SIGNATURE_BYTES
SALT_BYTES: Final = 16
NONCE_BYTES: Final = 12


class BadSeal(BackroomError):
    """A value was changed, belongs elsewhere, or was made with a key that is no longer known."""


def signature(data: bytes, *, purpose: str, context: bytes = b"") -> str:
    """Return the signature of some data: 32 hexadecimal digits, keyed BLAKE2b (RFC 7693).

    `purpose` parts one use of the key from the others; `context`, without a NUL, says what the data belongs to.
    """
    return mac(macs_for(purpose)[0], data, context)


def is_signed(data: bytes, signed: str, *, purpose: str, context: bytes = b"") -> bool:
    """Tell whether this is the signature of the data, by the secret key or one of its fallbacks."""
    return any(is_mac(keyed, data, context, signed) for keyed in macs_for(purpose))


def is_mac(keyed: blake2b, data: bytes, context: bytes, signed: str) -> bool:
    """Tell whether this is the signature by one of `macs_for()`. It may be any text that somebody sent."""
    made = keyed.copy()
    made.update(context + b"\0" + data)
    # Of texts compare_digest() takes only ASCII.
    return signed.isascii() and compare_digest(made.hexdigest(), signed)


def mac(keyed: blake2b, data: bytes, context: bytes) -> str:
    """Return the signature by one of `macs_for()`."""
    made = keyed.copy()
    made.update(context + b"\0" + data)
    return made.hexdigest()


@lru_cache(maxsize=64)
def macs_for(purpose: str) -> tuple[blake2b, ...]:
    """Return what signs, for each of `keys_for()`: a hash that has taken the key in, to be copied for each signature."""
    return tuple(blake2b(key=key, digest_size=SIGNATURE_BYTES) for key in keys_for(purpose))


@lru_cache(maxsize=64)
def keys_for(purpose: str) -> tuple[bytes, ...]:
    """Return the keys of a purpose: that of SECRET_KEY first, then those of its fallbacks."""
    return tuple(_key(secret, purpose) for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))


@receiver(setting_changed)
def _forget(*, setting: str, **_signal: object) -> None:
    if setting in {"SECRET_KEY", "SECRET_KEY_FALLBACKS"}:
        keys_for.cache_clear()
        macs_for.cache_clear()


def seal(data: bytes, *, purpose: str, context: bytes = b"") -> str:
    """Return the data encrypted and authenticated, as URL-safe text.

    Each value has a key of its own, made from a random salt, so however many there are, no nonce comes again.
    """
    salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
    box = _cipher(keys_for(purpose)[0], salt).encrypt(nonce, data, context)
    return urlsafe_b64encode(salt + nonce + box).rstrip(b"=").decode("ascii")


def unseal(text: str, *, purpose: str, context: bytes = b"") -> bytes:
    """Return what was sealed; raise `BadSeal` when it was not sealed so by one of our keys."""
    return unseal_with_age(text, purpose=purpose, context=context)[0]


def unseal_with_age(text: str, *, purpose: str, context: bytes = b"") -> tuple[bytes, bool]:
    """Return what was sealed, and whether that was done with SECRET_KEY and not with one of its fallbacks."""
    not_ours = _library()[1]
    try:
        raw = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (NotBase64, ValueError):
        raise BadSeal("A sealed value is no base64. It was changed on its way; throw it away.") from None
    salt, nonce, box = raw[:SALT_BYTES], raw[SALT_BYTES : SALT_BYTES + NONCE_BYTES], raw[SALT_BYTES + NONCE_BYTES :]
    for index, key in enumerate(keys_for(purpose)):
        try:
            return bytes(_cipher(key, salt).decrypt(nonce, box, context)), index == 0
        except (not_ours, ValueError):
            continue
    raise BadSeal("A sealed value was changed, or sealed with a key that is not in SECRET_KEY_FALLBACKS any more.")


def can_seal() -> bool:
    """Tell whether the package that encrypts is installed."""
    return find_spec("cryptography") is not None


def _key(secret: str | bytes, purpose: str) -> bytes:
    return blake2b(force_bytes(f"backroom.{purpose}:") + force_bytes(secret)).digest()


def _cipher(key: bytes, salt: bytes) -> Any:
    return _library()[0](blake2b(salt, key=key, digest_size=32).digest())


@cache
def _library() -> tuple[Any, type[Exception]]:
    """Return the cipher, and the error that says that another key or another text was sealed."""
    try:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ModuleNotFoundError as error:
        msg = f"What is to be encrypted needs the package cryptography. {installing('encryption')}"
        raise ImproperlyConfigured(msg) from error
    return AESGCM, InvalidTag
