"""What can be wrong with a server, in one class for every part: what happened, at which server, and what to do."""

import re
from typing import Final

from redis import exceptions

from backroom.errors import Unavailable, sentence


class RedisUnavailable(Unavailable):
    """The server cannot serve now. Wait, or do as the message says."""

    def __init__(self, message: str, *, may_have_happened: bool = False) -> None:
        super().__init__(message)
        self.may_have_happened = may_have_happened
        """Whether the command may have been carried out although its reply never came."""


class NotPermitted(RedisUnavailable):
    """The server knows this user, and does not let it use the command."""


TROUBLE: Final = (exceptions.RedisError, RedisUnavailable, OSError)
"""Whatever a `Link` may raise."""

CONNECT: Final = "Check that the server runs and that the address is right."
CERTIFICATE: Final = "Name who signed it in the URL, ?ssl_ca_certs=/path/ca.pem, and the host as the certificate does."
NO_TLS: Final = "If it speaks no TLS, write redis:// where the address has rediss://."
CREDENTIALS: Final = "Correct the user and the password in its URL, or let the server's ACL permit the command."

# The first whose start fits; the client library leaves the code away for those that it has a class for.
REFUSALS: Final = (
    (exceptions.OutOfMemoryError, "is out of memory", "Raise its maxmemory, or delete what is no longer needed."),
    (exceptions.ReadOnlyError, "is a read-only replica", "Name its primary instead, or its Sentinels."),
    (exceptions.BusyLoadingError, "is still loading its data", "Wait until it has."),
    (exceptions.MasterDownError, "has lost its primary", "Bring the primary back, or name the Sentinels."),
    (exceptions.ClusterDownError, "belongs to a cluster that is down", "Bring back the nodes that are missing."),
    (exceptions.MovedError, "is a node of a cluster", "Say so with the option 'cluster'."),
    (exceptions.TryAgainError, "is moving the keys asked for to another node", "Try again."),
    (exceptions.NoPermissionError, "does not permit this user the command", CREDENTIALS),
    (exceptions.AuthenticationError, "does not accept the credentials", CREDENTIALS),
)
REFUSAL_CODES: Final = (
    ("MISCONF", "cannot write to its disk", "Look into its log, and make room."),
    ("NOREPLICAS", "has too few replicas to accept writes", "Bring its replicas back."),
    ("BUSY", "is busy with a script", "Wait, or end the script with SCRIPT KILL."),
    ("NOAUTH", "asks for a password", CREDENTIALS),
    ("DENIED", "is in protected mode", "Give it a password, or let it listen to those alone who may come in."),
    (
        "DB index is out of range",
        "has no database of that number",
        "Name one below its 'databases': 0 to 15 as a rule.",
    ),
    ("This instance has cluster support disabled", "is no node of a cluster", "Take the option 'cluster' away."),
)


_REFUSED_CERTIFICATE: Final = re.compile(r"CERTIFICATE_VERIFY_FAILED\] certificate verify failed: (.+?)\.? \(_ssl")


def unavailable(error: Exception, name: str) -> RedisUnavailable | None:
    """Return what an error of the client library means for the server `name`, or None: then the caller is at fault."""
    for kind, what, advice in REFUSALS:
        if isinstance(error, kind):
            told = NotPermitted if kind is exceptions.NoPermissionError else RedisUnavailable
            return told(f"{name} {what}. {advice}")
    for code, what, advice in REFUSAL_CODES:
        if str(error).startswith(code):
            return RedisUnavailable(f"{name} {what}. {advice}")
    if isinstance(error, exceptions.TimeoutError | TimeoutError):
        # A server without TLS waits for the rest of what it takes for a command, and so does the handshake.
        advice = f"{CONNECT} {NO_TLS}" if "rediss://" in name and "connecting" in str(error) else CONNECT
        return RedisUnavailable(f"{name} does not answer in time. {advice}", may_have_happened=True)
    if (found := _REFUSED_CERTIFICATE.search(str(error))) is not None:
        return RedisUnavailable(f"{name} shows a certificate that is not trusted here: {found[1]}. {CERTIFICATE}")
    if isinstance(error, exceptions.ConnectionError | OSError):
        return RedisUnavailable(f"{name} cannot be reached: {sentence(error)} {CONNECT}", may_have_happened=True)
    return None
