"""Session ids: how they are made, what is kept of them, and how they are named where people read.

The cookie has the id. The store has its hash, which opens nothing. Logs and forms have a handle, from which neither
can be told.
"""

import re
import secrets
from base64 import b32encode, urlsafe_b64encode
from hashlib import sha256
from typing import Final

from backroom.sealing import signature

ID_BYTES: Final = 20
"""160 random bits: 32 characters. ASVS 5.0, 7.2.3 asks for 128."""
HASH_LENGTH: Final = 43
MARK: Final = "."
"""What the key of a mark begins with, and no hash."""
SHAPE: Final = re.compile(r"[0-9A-Za-z_-]{8,64}")
"""What an id may look like, with some room for those that other engines made."""


class KeyHash(str):
    """The hash of a session id, as a store has it."""

    __slots__ = ()


def new_id() -> str:
    """Return an id that nobody can guess."""
    return b32encode(secrets.token_bytes(ID_BYTES)).decode("ascii").lower()


def is_well_formed(session_id: str | None) -> bool:
    """Tell whether this can be an id at all; what cannot is not looked up."""
    return session_id is not None and SHAPE.fullmatch(session_id) is not None


def hash_of(session_id: str) -> KeyHash:
    """Return what a store keeps of an id. There is nothing to salt: an id is as random as a salt would be."""
    digest = sha256(session_id.encode("utf-8", "surrogatepass")).digest()
    return KeyHash(urlsafe_b64encode(digest).decode("ascii").rstrip("="))


def mark_of(user_id: str) -> KeyHash:
    """Return the key of the mark that a user's sessions of an earlier engine are ended. It is the hash of no id."""
    return KeyHash(MARK + hash_of(user_id)[1:])


def is_mark(key: KeyHash) -> bool:
    """Tell whether this is the key of such a mark, and of no session."""
    return key.startswith(MARK)


def handle_of(key: KeyHash) -> str:
    """Return the name of a session for logs and forms: its salted hash, of no use to whoever reads it."""
    return signature(key.encode("ascii"), purpose="sessions.handle")[:20]
