"""Notice when somebody signs in with a browser on which they never did: an e-mail of that has stopped many a thief.

The browser carries a signed cookie that names who signed in on it, by salted hashes. It is set only where somebody
listens to `new_device`.
"""

from typing import Any, Final

from django.http import HttpRequest, HttpResponseBase

from backroom.cookies import Cookie
from backroom.sealing import signature
from backroom.sessions.info import SessionInfo
from backroom.sessions.signals import new_device

KNOWN_USERS: Final = 8
YEAR: Final = 365 * 24 * 3600
KNOWN: Final = Cookie("backroom-device", kind=list, max_age=YEAR, signed=True)
MARK: Final = "_backroom_signed_in"


def signed_in(request: HttpRequest, user: Any) -> None:
    """Note who has signed in with this request."""
    if new_device.has_listeners(type(user)):
        setattr(request, MARK, user)


def remember(request: HttpRequest, response: HttpResponseBase) -> None:
    """Have the browser remember who signed in with this request, and tell those who listen if it is new to them.

    The session has been saved by now, so it can be told too.
    """
    user = getattr(request, MARK, None)
    if user is None or response.status_code >= 500:
        return
    name = _name_of(user)
    known: list[Any] = KNOWN.get(request, [])
    KNOWN.set(response, [name, *(each for each in known if each != name)][:KNOWN_USERS])
    if name not in known:
        info: SessionInfo | None = getattr(request.session, "info", None)
        new_device.send_robust(type(user), request=request, user=user, session=info)


def _name_of(user: Any) -> str:
    return signature(str(user.pk).encode(), purpose="sessions.device")[:16]
