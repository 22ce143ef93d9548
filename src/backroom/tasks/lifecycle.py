"""Which moves a task may make between its states, and the words that people read for them. Pure functions."""

from typing import Final, Protocol

from backroom.errors import BackroomError
from backroom.tasks.records import (
    CANCELLED,
    DEFERRED,
    EXPIRED,
    FAILED,
    LOST,
    READY,
    RUNNING,
    SUCCESSFUL,
    TIMEOUT,
    Record,
    State,
)

type Label = str

MOVES: Final[dict[State, frozenset[State]]] = {
    DEFERRED: frozenset({READY, FAILED}),
    READY: frozenset({RUNNING, FAILED}),
    RUNNING: frozenset({READY, DEFERRED, SUCCESSFUL, FAILED}),
    SUCCESSFUL: frozenset({READY}),
    FAILED: frozenset({READY}),
}
"""From each state, where a record may go. `claim` alone makes READY → RUNNING."""

LABELS: Final = (
    "scheduled",
    "retrying",
    READY,
    RUNNING,
    "cancelling",
    SUCCESSFUL,
    FAILED,
    CANCELLED,
    EXPIRED,
    LOST,
    TIMEOUT,
)


class IllegalMove(BackroomError):
    """A task was asked to make a move that its state does not allow."""

    def __init__(self, record: Record, state: State) -> None:
        super().__init__(
            f"Task {record.id} is {record.state} and cannot become {state}. Read it again before deciding what to do.",
        )


def check_move(record: Record, state: State) -> None:
    """Raise `IllegalMove` unless `record` may go to `state`."""
    if state not in MOVES[record.state]:
        raise IllegalMove(record, state)


class Standing(Protocol):
    """What says where a task stands: a record, or a row of a table that has the same columns."""

    @property
    def state(self) -> str:
        """See Record.state."""

    @property
    def reason(self) -> str:
        """See Record.reason."""

    @property
    def failures(self) -> int:
        """See Record.failures."""

    @property
    def cancel_requested(self) -> bool:
        """See Record.cancel_requested."""


def label(record: Standing) -> Label:
    """Return the one word that tells a person where a task stands; Django's four states are too few for that."""
    match record.state:
        case "deferred":
            return "retrying" if record.failures else "scheduled"
        case "running":
            return "cancelling" if record.cancel_requested else RUNNING
        case "failed" if record.reason not in {"", "error"}:
            return record.reason
        case state:
            return state
