"""A moment as this project's settings show times: an aware datetime, or a naive local one where USE_TZ is off."""

from datetime import datetime

from django.conf import settings
from django.utils import timezone

from backroom.clock import Moment, from_datetime, to_datetime


def shown(moment: Moment) -> datetime:
    """Return the datetime of a moment."""
    value = to_datetime(moment)
    return value if settings.USE_TZ else timezone.make_naive(value)


def moment_of(value: datetime) -> Moment:
    """Return the moment of a datetime; a naive one is in the project's time zone."""
    return from_datetime(timezone.make_aware(value) if timezone.is_naive(value) else value)
