"""Words for figures in the pages of reports."""

from datetime import datetime

from django import template

from reports.charts import shown
from reports.table import DELIMITERS

register = template.Library()


@register.filter
def thousands(value: int) -> str:
    """Return a count with its thousands apart."""
    return f"{value:,}"


@register.filter
def delimiter(character: str) -> str:
    """Return the name of what divides cells."""
    return f"{DELIMITERS[character]}s"


@register.filter
def seconds(value: float) -> str:
    """Return a duration in milliseconds or seconds."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{shown(round(value, 1))} s"


@register.simple_tag
def between(start: datetime | None, end: datetime | None) -> str:
    """Return how long it was from one moment to another."""
    return "–" if start is None or end is None else seconds(max((end - start).total_seconds(), 0.0))
