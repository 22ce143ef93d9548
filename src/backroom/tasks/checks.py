"""System checks: a setting that cannot work is told with its cure, before anything runs."""

from typing import Any

from django.core import checks
from django.db import connections
from django.db.utils import ConnectionDoesNotExist

from backroom.sql.dialect import SUPPORTED, vendor_of


def check_database(backend: Any) -> list[checks.CheckMessage]:
    """Return what is wrong with the database of a `DatabaseBackend`, without connecting to it."""
    alias = backend.settings.database
    hint = f"See TASKS[{backend.alias!r}]['OPTIONS']['database'] and DATABASES."
    try:
        vendor = vendor_of(alias)
    except ConnectionDoesNotExist:
        return [checks.Error(f"DATABASES has no alias {alias!r}.", hint=hint, id="backroom.E002")]
    if vendor not in SUPPORTED:
        supported = " and ".join(SUPPORTED.values())
        return [
            checks.Error(
                f"Backroom does not support {connections[alias].display_name} (database {alias!r}).",
                hint=f"Use {supported} for tasks; another alias of DATABASES will do.",
                id="backroom.E003",
            )
        ]
    return []
