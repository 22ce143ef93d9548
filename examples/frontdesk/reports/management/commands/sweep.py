"""`manage.py sweep`: delete uploads that a crash left behind. `demo` does it at every start; cron might elsewhere."""

from typing import Any

from django.core.management.base import BaseCommand

from reports import spool


class Command(BaseCommand):
    """Delete uploads that no order needs."""

    help = "Delete uploads that no order needs and that are older than an hour."

    def handle(self, *_args: Any, **_options: Any) -> None:
        """Sweep, and say how many files went."""
        self.stdout.write(f"{len(spool.sweep())} files deleted.")
