"""What the death of a process means for each task that it held."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.records import Cancelled, Crashed, Raised, Released
from backroom.tasks.settling import Death

RUNNING = frozenset({"one", "other"})


def claim(*, cancel_requested: bool = False) -> Any:
    return SimpleNamespace(id="one", cancel_requested=cancel_requested)


@pytest.mark.parametrize(
    ("death", "outcome"),
    [
        (Death("w", RUNNING), Crashed),
        (Death("w", frozenset({"other"})), Released),
        (Death("w", RUNNING, killed_for=frozenset({"other"})), Released),
        (Death("w", RUNNING, killed_for=frozenset({"one"})), Raised),
        (Death("w", RUNNING, is_given_up=True), Released),
    ],
    ids=["it ran", "it was only claimed", "its neighbour overran", "it overran", "the worker was told to stop"],
)
def test_a_task_answers_for_no_more_than_it_has_done(death, outcome):
    found = death.outcome_for(claim())
    assert type(found) is outcome
    assert outcome is not Raised or isinstance(found.exception, TaskTimeout)


def test_a_task_that_was_to_be_cancelled_and_had_to_be_killed_is_cancelled():
    death = Death("w", RUNNING, killed_for=frozenset({"one"}))
    assert death.outcome_for(claim(cancel_requested=True)) == Cancelled()
