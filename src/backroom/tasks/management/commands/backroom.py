"""`manage.py backroom …`: one command with a subcommand for each thing that an operator does.

What they share is here: where their options stand, what their failures look like, how they leave.
"""

import os
import sys
from argparse import SUPPRESS
from copy import copy
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter
from django.db import Error as DatabaseTrouble
from django.tasks.exceptions import InvalidTaskBackend
from django.utils.connection import ConnectionDoesNotExist

from backroom.errors import BackroomError
from backroom.tasks.management.subcommands import SUBCOMMANDS
from backroom.tasks.management.subcommands.base import Subcommand
from backroom.tasks.readiness import reason_of

INTERRUPTED: Final = 130
"""128 + SIGINT, as a shell counts."""
UNREAD: Final = 141
"""128 + SIGPIPE: the reader of the output has gone."""
SHARED_OPTIONS: Final = (
    "--settings",
    "--pythonpath",
    "--verbosity",
    "-v",
    "--traceback",
    "--no-color",
    "--force-color",
)


class SubcommandParser(CommandParser):
    """Refuses an option that it does not know itself: argparse leaves that to the parser above, which shows its own usage."""

    def parse_known_args(self, *arguments: Any, **named: Any) -> Any:
        """See ArgumentParser.parse_known_args()."""
        namespace, unknown = super().parse_known_args(*arguments, **named)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown


class Command(BaseCommand):
    """Run workers, and look after tasks."""

    help = "Run workers, and look after tasks."
    # A worker checks what is ours; to look after tasks must be possible in a project that has problems.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        """Give each subcommand a parser of its own, which takes Django's options too."""
        parsers = parser.add_subparsers(
            dest="subcommand", metavar="subcommand", required=True, parser_class=SubcommandParser
        )
        for name, subcommand in SUBCOMMANDS.items():
            # Abbreviations would get past the worker, which takes --reload out of its own command line.
            own = parsers.add_parser(
                name,
                help=subcommand.help,
                description=subcommand.help,
                allow_abbrev=False,
                formatter_class=DjangoHelpFormatter,
            )
            subcommand.add_arguments(own)
            _add_shared_options(own, parser)

    def handle(self, *_args: Any, **options: Any) -> None:
        """Run one subcommand; exit with its status unless that is 0."""
        subcommand: Subcommand = SUBCOMMANDS[options["subcommand"]]
        try:
            status = self._run(subcommand, options)
            self.stdout.flush()
        except BrokenPipeError:
            # Python flushes once more at its end, and would complain of the broken pipe there.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = UNREAD
        except KeyboardInterrupt:
            status = INTERRUPTED
        if status:
            sys.exit(status)

    def _run(self, subcommand: Subcommand, options: dict[str, Any]) -> int:
        try:
            return subcommand.run(self, options)
        except (BackroomError, InvalidTaskBackend, ConnectionDoesNotExist) as error:
            raise CommandError(str(error)) from error
        except DatabaseTrouble as error:
            raise CommandError(reason_of(error, options["backend"])) from error


def _add_shared_options(own: CommandParser, parser: CommandParser) -> None:
    """Let Django's options stand behind the subcommand too; one that is not given there leaves what stood before."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to ask
        if set(action.option_strings) & set(SHARED_OPTIONS):
            repeated = copy(action)
            repeated.default = SUPPRESS
            own._add_action(repeated)  # noqa: SLF001
