"""The subcommands of `manage.py backroom`, in the order in which its help lists them."""

from typing import Final

from backroom.tasks.management.subcommands.base import Subcommand
from backroom.tasks.management.subcommands.doctor import Doctor
from backroom.tasks.management.subcommands.listing import List
from backroom.tasks.management.subcommands.prune import Prune
from backroom.tasks.management.subcommands.status import Status
from backroom.tasks.management.subcommands.verbs import CANCEL, RETRY, RUN_NOW
from backroom.tasks.management.subcommands.worker import Worker

SUBCOMMANDS: Final[dict[str, Subcommand]] = {
    "worker": Worker(),
    "status": Status(),
    "list": List(),
    "retry": RETRY,
    "cancel": CANCEL,
    "run-now": RUN_NOW,
    "prune": Prune(),
    "doctor": Doctor(),
}
