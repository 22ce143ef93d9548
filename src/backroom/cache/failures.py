"""What is remembered of a computation that failed, for those who waited for it: its error, as far as JSON tells one."""

import secrets
import sys
from operator import attrgetter
from typing import Any, Final

PLAIN: Final = (bool, int, float, type(None))
LONGEST: Final = 1000
"""Characters of a text: some errors carry all that a server has answered."""


def remembered(error: Exception) -> list[Any]:
    """Return a word for this one failure, and of its error the class and the arguments, as text where JSON has no other."""
    kind = type(error)
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
    try:
        found: object = attrgetter(name)(sys.modules[module])
    except (KeyError, AttributeError):
        return None
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
