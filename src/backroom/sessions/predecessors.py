"""Sessions of the engine that a project had before: they go on to work, and move when they are first used.

BACKROOM["SESSIONS"]["READ_THROUGH"] names the engine. A session keeps its id on the way, so nobody is signed out.
"""

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

from django.contrib.sessions.backends.base import SessionBase

from backroom.sessions.steps import Steps


class Predecessor:
    """An engine of Django's, or any other, as a place to find sessions in."""

    def __init__(self, engine: type[SessionBase]) -> None:
        self._engine = engine

    def load(self, session_id: str) -> Steps[Mapping[str, Any] | None]:
        """Return what is in a session, or None if there is none that is alive."""
        store = self._engine(session_id)
        contents: Mapping[str, Any] = yield _Ask(store, "load")
        # An engine forgets an id that it does not know; one that keeps it has nothing for it.
        return contents if store.session_key == session_id and contents else None

    def exists(self, session_id: str) -> Steps[bool]:
        """Tell whether a session is still there."""
        found = yield _Ask(self._engine(), "exists", (session_id,))
        return bool(found)

    def delete(self, session_id: str) -> Steps[None]:
        """Delete a session, if it is there."""
        yield _Ask(self._engine(), "delete", (session_id,))


class _Ask(NamedTuple):
    """A method of the other engine, which has an async twin."""

    store: SessionBase
    method: str
    arguments: tuple[Any, ...] = ()

    def do(self) -> Any:
        """See Step."""
        return getattr(self.store, self.method)(*self.arguments)

    async def ado(self) -> Any:
        """See Step."""
        return await getattr(self.store, f"a{self.method}")(*self.arguments)


@lru_cache(maxsize=4)
def predecessor_of(path: str) -> Predecessor:
    """Return the earlier engine."""
    return Predecessor(import_module(path).SessionStore)
