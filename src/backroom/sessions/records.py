"""A stored session as a value, and the verbs of a store."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from backroom.clock import Moment
from backroom.sessions.documents import Changes
from backroom.sessions.keys import KeyHash
from backroom.sessions.steps import Steps
from backroom.sessions.transactions import Witness

type Columns = Mapping[str, Any]
"""What a write sets beside the contents, by the names of `Header` (`new_key` and `previous_until` replace the id)."""

type Written = bool | Witness
"""Whether there was something to write to; a `Witness` where a transaction of the caller's may still take it back."""

ADDRESS_LENGTH: Final = 64
AGENT_LENGTH: Final = 400
LABEL_LENGTH: Final = 100


class Visitor(NamedTuple):
    """Who asks, as far as the request tells."""

    address: str = ""
    user_agent: str = ""


class Header(NamedTuple):
    """All that is known of a session but its contents."""

    key: KeyHash
    user_id: str | None
    created_at: Moment
    seen_at: Moment
    renewed_at: Moment
    """When it got its id; 0 if it is to get another one at once."""
    ends_at: Moment
    address: str
    user_agent: str
    label: str


class Loaded(NamedTuple):
    """A session as a store has it."""

    header: Header
    contents: Mapping[str, str]


class Store(Protocol):
    """Keeps sessions. Every verb is one statement or one script, and touches no session that is not there."""

    def load(self, key: KeyHash, now: Moment) -> Steps[Loaded | None]:
        """Return a session that has not expired."""

    def load_replaced(self, key: KeyHash, now: Moment) -> Steps[Loaded | None]:
        """Return the session whose id this was until a moment ago."""

    def exists(self, key: KeyHash) -> Steps[bool]:
        """Tell whether there is a session, expired or not."""

    def insert(self, header: Header, changes: Changes, extra: Columns) -> Steps[Written]:
        """Add a session; tell whether there was none with this key."""

    def write(self, key: KeyHash, changes: Changes, columns: Columns, *, waits: bool = False) -> Steps[Written]:
        """Merge changes into a session; tell whether it was still there. What `waits` no crash may take back."""

    def delete(self, keys: Sequence[KeyHash]) -> Steps[list[Header]]:
        """Delete sessions, those too whose id was one of these until a moment ago; return those that were there."""

    def delete_of_user(self, user_id: str, now: Moment, but: KeyHash | None) -> Steps[list[Header]]:
        """Delete a user's sessions that have not expired, but one, whose id may just have been replaced; return them."""

    def delete_expired(self, now: Moment, limit: int) -> Steps[list[Header]]:
        """Delete at most `limit` expired sessions and return them."""

    def of_user(self, user_id: str, now: Moment) -> Steps[list[Header]]:
        """Return a user's sessions that have not expired, the newest first."""

    def user_ids(self, after: str, limit: int) -> Steps[list[str]]:
        """Return the ids of users with sessions, in order, from the one after `after`."""

    def renew_at_once(self, user_ids: Sequence[str]) -> Steps[None]:
        """Have each session of some users get a new id when it is used next."""

    def witness(self) -> Steps[Witness | None]:
        """Return who learns what becomes of the transaction of the caller's that is open now, if there is one."""
