"""Whose an operation is: a secret inside the visitor's session data, and the user once signed in.

The secret survives `cycle_key()` at login, because that keeps the data, and dies with `flush()`, because that does
not. The session key itself is a credential and is never stored anywhere by this module.
"""

import secrets
from dataclasses import dataclass
from typing import Any, Final

from django.http import HttpRequest
from django.utils.crypto import salted_hmac

from backroom.offload.exceptions import OffloadNotReady
from backroom.offload.models import Operation

SESSION_NAME: Final = "_backroom_owner"
SALT: Final = "backroom.offload.owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who is asking. Both fields may be empty: then nothing is theirs."""

    session_hash: str = ""
    user_id: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """What this owner's keys are made of, the lasting one first."""
        named = (f"user:{self.user_id}" if self.user_id else "", f"session:{self.session_hash}")
        return tuple(name for name in named if not name.endswith(":") and name)

    def owns(self, operation: Operation) -> bool:
        """Tell whether an operation is theirs."""
        by_user = bool(self.user_id) and self.user_id == operation.user_id
        return by_user or (bool(self.session_hash) and self.session_hash == operation.session_hash)


def owner_of(request: HttpRequest) -> Owner:
    """Return who is asking, as far as the request tells."""
    return Owner(session_hash=session_hash_of(request), user_id=user_id_of(request))


def new_owner_of(request: HttpRequest) -> Owner:
    """Return who is asking, and give a visitor who is nobody yet a secret of their own.

    Raise `OffloadNotReady` for one who is not signed in where there are no sessions.
    """
    owner = owner_of(request)
    if owner.names:
        return owner
    session: Any = getattr(request, "session", None)
    if session is None:
        msg = (
            "The visitor has neither a session nor a user, so the operation could belong to nobody. Add "
            "django.contrib.sessions.middleware.SessionMiddleware to MIDDLEWARE, or require a sign-in."
        )
        raise OffloadNotReady(msg)
    session[SESSION_NAME] = secrets.token_urlsafe(24)
    return owner_of(request)


def user_id_of(request: HttpRequest) -> str:
    """Return the signed-in user's primary key as text; empty for anyone else."""
    user: Any = getattr(request, "user", None)
    return str(user.pk) if user is not None and user.is_authenticated else ""


def session_hash_of(request: HttpRequest) -> str:
    """Return the hash of the secret in the session; empty when there is none."""
    session: Any = getattr(request, "session", None)
    secret = session.get(SESSION_NAME) if session is not None else None
    return salted_hmac(SALT, secret, algorithm="sha256").hexdigest() if secret else ""
