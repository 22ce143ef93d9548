"""Examine whether tasks can be kept, announced and worked on here, and say what to do about what is wrong.

Nothing is changed: the examination reads, and rings the workers' bell once.
"""

from typing import Final

from django.conf import settings
from django.core import checks

from backroom.tasks import queries
from backroom.tasks.backends.base import Backend
from backroom.tasks.checks import TAG
from backroom.tasks.doctor.findings import FAIL, OK, WARN, Finding, Findings
from backroom.tasks.doctor.storage import clock, connections_kept, file, migrations, reach, round_trip
from backroom.tasks.doctor.work import backlog, broker, priorities, wakeup, workers

LOOKS: Final = (round_trip, file, clock, wakeup, broker, priorities, connections_kept, workers, backlog)
"""What asks the store itself, in the order in which it is told."""


def examine(alias: str, *, patience: float = 10.0) -> list[Finding]:
    """Return the findings on one TASKS alias of ours; `patience` is what the store may take to answer at all."""
    backend = queries.backend_of(alias)
    found: list[Finding] = []
    for look in (_settings, lambda backend: reach(backend, patience), migrations):
        found += look(backend)
        # What follows asks the store, which is no use when the settings are wrong, or the store away or empty.
        if any(finding.level == FAIL for finding in found):
            return found
    return found + [finding for look in LOOKS for finding in look(backend)]


def _settings(backend: Backend) -> Findings:
    found = [each for each in (*checks.run_checks(tags=[TAG]), *backend.check()) if not each.is_silenced()]
    for message in found:
        yield Finding(
            FAIL if message.is_serious() else WARN, "settings", f"{message.msg} ({message.id})", message.hint or ""
        )
    if not found:
        yield Finding(OK, "settings", "the system checks find nothing wrong")
    if settings.DEBUG:
        yield Finding(
            WARN,
            "settings",
            "DEBUG is on: every connection of a worker remembers its last 9000 statements",
            "Turn DEBUG off where a worker runs for long.",
        )
