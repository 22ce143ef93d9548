"""The words that a page has for the states of an operation, translated where the project's languages are."""

from collections.abc import Mapping
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from backroom.offload.problems import Problem
from backroom.offload.status import Status

STATES: Final[Mapping[str, str | Promise]] = {
    "ready": _("Waiting for its turn"),
    "scheduled": _("Scheduled"),
    "running": _("Working"),
    "retrying": _("Trying again shortly"),
    "cancelling": _("Stopping"),
}
"""Unfinished states; a finished one has a page of its own."""

HEADINGS: Final[Mapping[str, str | Promise]] = {
    "failed": _("Something went wrong"),
    "lost": _("The work was interrupted"),
    "timeout": _("This took too long"),
    "expired": _("This could not be started in time"),
    "cancelled": _("Cancelled"),
    "gone": _("This result is no longer here"),
    "refused": _("This could not be done"),
    "invalid": _("Something is not right yet"),
}


def word_for(status: Status) -> str | Promise:
    """Return the word for where an unfinished operation stands."""
    return STATES.get(status.state, status.state)


def value_text_of(status: Status) -> str | Promise:
    """Return what a screen reader says for the progress bar."""
    return word_for(status) if status.percent is None else f"{status.percent}%"


def heading_of(problem: Problem) -> str | Promise:
    """Return the heading of a problem's page."""
    return HEADINGS.get(problem.code, problem.title)


def words_of_page() -> dict[str, Any]:
    """Return the words that the page's script needs."""
    return {"states": dict(STATES), "finished": _("Finished")}
