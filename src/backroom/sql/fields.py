"""Columns of our own: a moment is an integer in the database, and a key needs no second index."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from django.db import models
from django.utils import timezone

from backroom.clock import from_datetime, to_datetime
from backroom.sql.dialect import document_type

if TYPE_CHECKING:
    _Integer = models.BigIntegerField[datetime | int | None, datetime | None]
    _Text = models.CharField[str, str]
    _Long = models.TextField[str, str]
else:
    _Integer = models.BigIntegerField
    _Text = models.CharField
    _Long = models.TextField


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


class KeyField(_Text):
    """Text that is looked up whole, never by how it begins."""

    description = "Key (up to %(max_length)s characters)"

    def db_type(self, connection: Any) -> str | None:
        """Spell the type out: for a column that is `varchar` Django adds an index for LIKE in PostgreSQL."""
        kind = super().db_type(connection)
        return kind and kind.replace("varchar(", "character varying(")


class DocumentField(_Long):
    """A JSON object whose values are strings, so that one statement can merge another one into it."""

    description = "JSON object of strings"

    def db_type(self, connection: Any) -> str | None:
        """Return the type in which this vendor merges documents."""
        return document_type(connection.vendor) or super().db_type(connection)
