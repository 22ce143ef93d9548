"""Who the visitor is: sessions that lose no write, that know whose they are, and that people can see and end."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backroom.sessions.people import SessionInfo, revoke, revoke_all, revoke_others, sessions_of, set_label
    from backroom.sessions.stepup import recently_authenticated, was_recently_authenticated

__all__ = [
    "SessionInfo",
    "recently_authenticated",
    "revoke",
    "revoke_all",
    "revoke_others",
    "sessions_of",
    "set_label",
    "was_recently_authenticated",
]

_HOMES = dict.fromkeys(
    ["SessionInfo", "revoke", "revoke_all", "revoke_others", "sessions_of", "set_label"], "backroom.sessions.people"
) | dict.fromkeys(["recently_authenticated", "was_recently_authenticated"], "backroom.sessions.stepup")


def __getattr__(name: str) -> Any:
    # Django imports this package before the settings are ready, and these names need them.
    if name not in _HOMES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
