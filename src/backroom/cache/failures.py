"""What is remembered of a computation that failed, for those who waited for it: its error, as far as JSON tells one."""

import secrets
import sys
from typing import Any, Final

from django.core.exceptions import SynchronousOnlyOperation
from django.db.transaction import TransactionManagementError

from backroom.errors import FromOutside

PLAIN: Final = (bool, int, float, type(None))
OWN: Final = (FromOutside, SynchronousOnlyOperation, TransactionManagementError)
"""Raised for the sake of a caller's timeout, for calling from an event loop, and in a transaction that is broken already."""
OWN_BY_NAME: Final = frozenset({"SoftTimeLimitExceeded", "JobTimeoutException"})
"""The timeouts of Celery and RQ."""
LONGEST: Final = 1000
"""Characters of a text: some errors carry all that a server has answered."""


def remembered(error: Exception) -> list[Any] | None:
    """Return a word for this one failure, and of its error the class and the arguments, as text where JSON has no other.

    None for an error that is the caller's own affair: others may well succeed.
    """
    kind = type(error)
    if isinstance(error, OWN) or any(each.__name__ in OWN_BY_NAME for each in kind.__mro__):
        return None
    return [secrets.token_hex(8), f"{kind.__module__}:{kind.__qualname__}", [_told(each) for each in error.args]]


def again(failure: Any) -> Exception | None:
    """Return an error like the one that is remembered; None where this process does not know its class."""
    match failure:
        case [str(), str(path), [*arguments]]:
            kind = _known(path)
            return None if kind is None else _made(kind, arguments)
    return None


def _told(argument: Any) -> Any:
    if type(argument) in PLAIN:
        return argument
    try:
        return str(argument)[:LONGEST]
    except Exception:  # noqa: BLE001 - the error that counts is the one whose argument this is
        return type(argument).__qualname__


def _known(path: str) -> type[Exception] | None:
    """Return a class that this process has: what a store names is not imported for that."""
    module, _, name = path.partition(":")
    found: object = sys.modules.get(module)
    for part in name.split("."):
        # A module may import something when it is asked for what it has not.
        found = getattr(found, "__dict__", {}).get(part)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _made(kind: type[Exception], arguments: list[Any]) -> Exception | None:
    try:
        error = kind(*arguments)
    except Exception:  # noqa: BLE001 - it is made of more than what it says; who catches its class catches it without
        try:
            error = kind.__new__(kind, *arguments)
        except Exception:  # noqa: BLE001 - as above
            return None
    error.add_note("Another caller computed this just now, and failed; this one had waited for it.")
    return error
