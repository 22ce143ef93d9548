"""What an examination finds, and how it says it."""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

type Level = Literal["ok", "warn", "fail"]

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"


class Finding(NamedTuple):
    """What was looked at, what it is like, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""


type Findings = Iterator[Finding]


def milliseconds(seconds: float) -> str:
    """Return a short span of time as a person reads it."""
    return f"{seconds * 1000:.2f} ms"
