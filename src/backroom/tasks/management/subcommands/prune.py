"""`manage.py backroom prune`: delete the finished tasks whose time is over."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from backroom.tasks import control
from backroom.tasks.management.subcommands.base import add_backend, add_json, backends_named, whole, write_json
from backroom.tasks.tables import count


class Prune:
    """Delete old tasks."""

    help = "Delete the finished tasks whose time is over, in batches. Workers do it too, all the time."

    def add_arguments(self, parser: CommandParser) -> None:
        """Say what it takes."""
        add_backend(parser, several=True)
        parser.add_argument(
            "--batch", type=whole(least=1), default=1000, metavar="N", help="so many in one transaction (1000)"
        )
        add_json(parser)

    def run(self, command: BaseCommand, options: dict[str, Any]) -> int:
        """Do it, and tell how many."""
        deleted = {
            alias: control.prune(using=alias, batch=options["batch"]) for alias in backends_named(options["backend"])
        }
        if options["json"]:
            write_json(
                command, {"backends": [{"backend": alias, "deleted": number} for alias, number in deleted.items()]}
            )
        else:
            command.stdout.write(f"Deleted {count(sum(deleted.values()), 'finished task')}.")
        return 0
