"""What a worker does for sessions, in its rounds of maintenance: remove those that are over, end those of nobody.

A project without a worker runs Django's `clearsessions` now and then, which does the first.
"""

import time
from typing import Any, Final

from django.apps import apps

from backroom.sessions import endings, people
from backroom.sessions.people import NoSuchEngine
from backroom.sessions.steps import run
from backroom.sessions.users import gone_among
from backroom.upkeep import in_rounds

SECONDS: Final = 30.0
"""Between two rounds of one process, unless there was more to do than a batch."""
BATCH: Final = 500
USERS: Final = 200


class Round:
    """Remembers when this process last looked, and at which user it had arrived."""

    def __init__(self) -> None:
        self._due = 0.0
        self._user_id = ""

    @in_rounds
    def on_tidying(self, **_signal: Any) -> None:
        """Do one step in a worker's round of maintenance, if it is time."""
        if time.monotonic() < self._due:
            return
        try:
            removed = self.step()
        except NoSuchEngine:
            removed = 0
        self._due = 0.0 if removed == BATCH else time.monotonic() + SECONDS

    def step(self) -> int:
        """Remove a batch of sessions that are over, look at a batch of users; return how many sessions were removed."""
        removed = run(endings.clearing(people.engine(), BATCH))
        if apps.is_installed("django.contrib.auth"):
            self._end_those_of_nobody()
        return removed

    def _end_those_of_nobody(self) -> None:
        """End the sessions of users who were deactivated or deleted past every signal, as `QuerySet.update()` does."""
        ids = run(people.engine().get_store().user_ids(self._user_id, USERS))
        self._user_id = ids[-1] if len(ids) == USERS else ""
        people.revoke_all_of(gone_among(ids), reason="deactivated")


this_process: Final = Round()
