"""The words that a page has for the states of an operation, translated where the project's languages are."""

from collections.abc import Mapping
from math import ceil
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from backroom.offload.problems import Problem
from backroom.offload.status import Status
from backroom.tasks import control

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


def notes_for(status: Status) -> dict[str, str | Promise]:
    """Return what the page says of how long the work goes on, by the state that it is said in; "" is any other."""
    seconds = ceil(control.seconds_to_stop(using=status.operation.backend_name))
    return {
        "": _("You can stay here or come back to this page later. The work goes on either way."),
        "cancelling": ngettext(
            "The work was asked to stop. It stops within %(seconds)d second at the latest.",
            "The work was asked to stop. It stops within %(seconds)d seconds at the latest.",
            seconds,
        )
        % {"seconds": seconds},
    }


def words_of_page(status: Status) -> dict[str, Any]:
    """Return the words that the page's script needs."""
    return {"states": dict(STATES), "notes": notes_for(status), "finished": _("Finished")}
