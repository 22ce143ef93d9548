"""What subcommands share: their shape, the choice of a backend, and what an option may look like."""

import json
import re
from argparse import ArgumentTypeError
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, Protocol

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.tasks import DEFAULT_TASK_BACKEND_ALIAS, task_backends

from backroom.tasks import queries

UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


class Subcommand(Protocol):
    """One subcommand: it reads options, asks or orders, and prints."""

    @property
    def help(self) -> str:
        """One sentence."""

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Do it; return the exit status."""


def add_backend(parser: CommandParser, *, several: bool = False) -> None:
    """Add `--backend`."""
    default = "all of Backroom's" if several else "'default', or the only one of Backroom's"
    parser.add_argument("--backend", metavar="ALIAS", help=f"an alias in TASKS ({default})")


def add_json(parser: CommandParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="print JSON for programs")


def backend_named(alias: str | None) -> str:
    """Return the alias of the backend that is meant; raise `CommandError` when there is none or too many."""
    if alias is not None:
        return _checked(alias)
    aliases = _shared()
    if DEFAULT_TASK_BACKEND_ALIAS in aliases:
        return DEFAULT_TASK_BACKEND_ALIAS
    if len(aliases) > 1:
        msg = f"TASKS has several backends of Backroom's: {', '.join(aliases)}. Choose one with --backend."
        raise CommandError(msg)
    return aliases[0]


def backends_named(alias: str | None) -> list[str]:
    """Return the aliases of the backends that are meant: all of ours when none is named."""
    return _shared() if alias is None else [_checked(alias)]


def write_json(command: BaseCommand, value: Any, *, indent: int | None = 2) -> None:
    """Print a value as JSON."""
    command.stdout.write(json.dumps(value, indent=indent, default=_plain))


def write_lines(command: BaseCommand, lines: Sequence[str]) -> None:
    """Print lines."""
    for line in lines:
        command.stdout.write(line)


def whole(*, least: int) -> Any:
    """Return a type of argument: a whole number, not below `least`."""

    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            msg = f"{text!r} is no whole number from {least} upwards"
            raise ArgumentTypeError(msg)
        return int(text)

    return number


def seconds(text: str) -> float:
    """Read a number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        msg = f"{text!r} is no number of seconds from 0 upwards"
        raise ArgumentTypeError(msg)
    return value


def size(text: str) -> int:
    """Read a number of bytes: `500000`, `512K`, `100M`, `2G`."""
    found = re.fullmatch(r"(\d+)([KMG]?)(I?B)?", text.upper())
    if found is None or not int(found[1]):
        msg = f"{text!r} is no size; write 500000, 512K, 100M or 2G"
        raise ArgumentTypeError(msg)
    return int(found[1]) * UNITS[found[2]]


def names(text: str) -> tuple[str, ...]:
    """Read names with commas between them."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _checked(alias: str) -> str:
    if alias not in task_backends.settings:
        msg = f"TASKS has no alias {alias!r}. It has: {', '.join(task_backends.settings)}."
        raise CommandError(msg)
    if not queries.backend_of(alias).is_shared:
        msg = (
            f"TASKS[{alias!r}] keeps its tasks in the memory of one process, where no command sees them. "
            f"{_others(alias)}"
        )
        raise CommandError(msg)
    return alias


def _others(alias: str) -> str:
    others = [other for other in queries.shared_aliases() if other != alias]
    return f"Others: {', '.join(others)}." if others else "Use backroom.tasks.backends.database.DatabaseBackend there."


def _shared() -> list[str]:
    if aliases := queries.shared_aliases():
        return aliases
    msg = (
        "TASKS has no backend of Backroom's that keeps tasks for other processes. Set "
        "TASKS = {'default': {'BACKEND': 'backroom.tasks.backends.database.DatabaseBackend'}}."
    )
    raise CommandError(msg)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    msg = f"{type(value)} has no form in JSON"
    raise TypeError(msg)
