"""`manage.py backroom doctor`: look whether tasks can be kept, announced and worked on here."""

from collections.abc import Sequence
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandParser

from backroom.tasks.doctor import examine
from backroom.tasks.doctor.findings import FAIL, OK, WARN, Finding
from backroom.tasks.management.subcommands.base import (
    add_backend,
    add_json,
    backends_named,
    seconds,
    write_json,
)
from backroom.tasks.tables import printable

UNHEALTHY: Final = 1
"""Exit status when something failed."""


class Doctor:
    """Print findings."""

    help = "Examine settings, database, clock, wake-up and workers; exit with 1 when something is broken."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""
        add_backend(parser, several=True)
        parser.add_argument(
            "--patience", type=seconds, default=10.0, metavar="SECONDS", help="time for the store to answer (10)"
        )
        add_json(parser)

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Examine each backend."""
        found = {alias: examine(alias, patience=options["patience"]) for alias in backends_named(options["backend"])}
        if options["json"]:
            write_json(command, {"backends": [_as_json(alias, findings) for alias, findings in found.items()]})
        else:
            for alias, findings in found.items():
                _write(command, alias, findings)
        return UNHEALTHY if any(finding.level == FAIL for findings in found.values() for finding in findings) else 0


def _as_json(alias: str, findings: Sequence[Finding]) -> dict[str, Any]:
    return {"backend": alias, "findings": [finding._asdict() for finding in findings]}


def _write(command: BaseCommand, alias: str, findings: Sequence[Finding]) -> None:
    style = {OK: command.style.SUCCESS, WARN: command.style.WARNING, FAIL: command.style.ERROR}
    width = max(len(finding.subject) for finding in findings)
    command.stdout.write(command.style.MIGRATE_HEADING(f"TASKS[{alias!r}]"))
    for level, subject, text, advice in findings:
        command.stdout.write(f"{style[level](level.ljust(4))}  {subject.ljust(width)}  {printable(text)}")
        if advice:
            command.stdout.write(f"{' ' * (width + 8)}{printable(advice)}")
    command.stdout.write("")
