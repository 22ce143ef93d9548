"""A moment as a column: an integer in the database, an aware datetime in Django's eyes."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone

from backroom.clock import from_datetime, to_datetime

if TYPE_CHECKING:
    _Integer = models.BigIntegerField[datetime | int | None, datetime | None]
else:
    _Integer = models.BigIntegerField


class MomentField(_Integer):
    """Microseconds since the epoch, UTC. Exact in every database, whatever its time zone settings."""

    description = "Moment (microseconds since 1970)"

    def from_db_value(self, value: int | None, _expression: Any, _connection: Any) -> datetime | None:
        """Return the aware datetime of a stored moment."""
        return None if value is None else to_datetime(value)

    def to_python(self, value: Any) -> Any:
        """Return the aware datetime of what a form or a fixture holds."""
        if isinstance(value, str) and not value.lstrip("-").isdigit():
            return datetime.fromisoformat(value)
        return value if value is None or isinstance(value, datetime) else to_datetime(int(value))

    def get_prep_value(self, value: Any) -> int | None:
        """Return the moment of a datetime, or an integer as it is."""
        if isinstance(value, datetime):
            return from_datetime(timezone.make_aware(value) if timezone.is_naive(value) else value)
        prepared: int | None = super().get_prep_value(value)
        return prepared
