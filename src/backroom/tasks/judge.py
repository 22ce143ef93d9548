"""What became of a claim whose lease has run out, as far as one process can tell: of its own it knows more than others."""

from collections.abc import Callable

from backroom.tasks.records import RUNNING, Claim, Crashed, Hold, Outcome, Released, hold_of
from backroom.tasks.stores.base import Store


class Judge:
    """Judges for one process; `holds` tells whether a claim is in its hands, or on its way there. Safe in several threads.

    As long as the process lives, what it holds is late only. What it never heard of, or could not write down because
    the store stayed away, is no fault of the task's. All else counts as a crash.
    """

    def __init__(self, worker_id: str, *, holds: Callable[[Claim], bool]) -> None:
        self._worker_id = worker_id
        self._holds = holds
        self._left: set[Hold] = set()

    def leave_to_lease(self, claim: Claim) -> None:
        """Note, before it is dropped, that a claim had begun and that this process does no more about it."""
        self._left.add(hold_of(claim))

    def is_unheard_of(self, claim: Claim) -> bool:
        """Tell whether this process knows nothing of a claim that the store says it has."""
        # In this order: what is dropped has been noted before.
        return not self._holds(claim) and hold_of(claim) not in self._left

    def judge(self, claim: Claim) -> Outcome | None:
        """Return what became of a claim whose lease has run out; None of one that is late only."""
        if claim.worker_id != self._worker_id:
            return Crashed()
        if self._holds(claim):
            return None
        return Released() if self.is_unheard_of(claim) else Crashed()

    def forget_decided(self, store: Store) -> None:
        """Forget what was left to its lease and has been decided by now: it never comes back under the same fence."""
        if left := list(self._left):
            running = [each for each in store.get([id_ for id_, _ in left]) if each.state == RUNNING]
            self._left.difference_update({*left} - set(map(hold_of, running)))
