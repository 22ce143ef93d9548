"""What a request did to its session in a transaction of the project's, which may be rolled back after all."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from backroom.sessions.documents import Changes


class Witness:
    """Is told when a transaction commits, and looks whether it still may. Ask it in the thread that has the connection."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._then: list[Callable[[], object]] = []
        self.saw_commit = False

    def __call__(self) -> None:
        """Hear that it has committed."""
        self.saw_commit = True
        for each in self._then:
            each()

    def afterwards(self, do: Callable[[], object]) -> None:
        """Do something when it has committed, and never if it does not."""
        self._then.append(do)

    def saw_rollback(self) -> bool:
        """Tell whether what was written is gone: with all of the transaction, or with a savepoint."""
        # Django forgets, with each savepoint, what was to be called when it commits.
        waits = any(function is self for _, function, *_ in self._connection.run_on_commit)
        return not self.saw_commit and not waits


def witness_of(connection: Any) -> Witness | None:
    """Return who learns what becomes of the transaction that is open now, or None if there is none of the project's."""
    # That of a test case stands for the world outside; with autocommit switched off nobody can tell.
    if not connection.in_atomic_block or getattr(connection.atomic_blocks[-1], "_from_testcase", False):
        return None
    witness = Witness(connection)
    connection.on_commit(witness, robust=True)
    return witness


class Deed(NamedTuple):
    """What was done in such a transaction, and how the session was before."""

    witness: Witness
    what: Literal["made", "moved", "saved", "cycled", "renewed", "ended"]
    session_key: str | None
    header: Any = None
    """The `Header`; what is known of one that was not stored is None."""
    changes: Changes = Changes()
