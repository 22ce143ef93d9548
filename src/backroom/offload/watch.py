"""One look for every stream of a process: however many visitors follow, the store is asked a few times a second.

Streams wait here on the event loop and hold neither a thread nor a connection.
"""

import asyncio
import contextvars
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from asgiref.sync import sync_to_async
from django.db import connections

from backroom.tasks import queries
from backroom.tasks.records import Record

PAUSE: Final = 0.25
"""Seconds between two looks."""
CHUNK: Final = 200
"""Tasks that one look reads."""

type Look = Callable[[str, Sequence[str]], Mapping[str, Record]]


class Watch:
    """Answers all who wait for news of tasks with one look a tick. Belongs to one event loop."""

    def __init__(self, look: Look, *, pause: float = PAUSE) -> None:
        self._look = look
        self._pause = pause
        self._waiting: dict[tuple[str, str], list[asyncio.Future[Record | None]]] = {}
        self._ticking: asyncio.Task[None] | None = None

    async def next(self, backend_name: str, task_id: str) -> Record | None:
        """Return the task's record as the next look finds it; None when it is no longer kept."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Record | None] = loop.create_future()
        self._waiting.setdefault((backend_name, task_id), []).append(future)
        if self._ticking is None or self._ticking.done():
            # A context of its own: the one of the request that happens to be first ends with that request.
            self._ticking = loop.create_task(self._tick(), context=contextvars.Context())
        return await future

    async def _tick(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._pause)
            waiting, self._waiting = self._waiting, {}
            wanted: dict[str, list[str]] = {}
            for backend_name, task_id in waiting:
                wanted.setdefault(backend_name, []).append(task_id)
            for backend_name, ids in wanted.items():
                for start in range(0, len(ids), CHUNK):
                    await self._answer(backend_name, ids[start : start + CHUNK], waiting)

    async def _answer(
        self,
        backend_name: str,
        ids: Sequence[str],
        waiting: Mapping[tuple[str, str], Sequence[asyncio.Future[Record | None]]],
    ) -> None:
        futures = {id_: [each for each in waiting[backend_name, id_] if not each.done()] for id_ in ids}
        try:
            # Another thread than the request's own, which may have ended.
            found = await sync_to_async(self._look, thread_sensitive=False)(backend_name, ids)
        except Exception as error:  # noqa: BLE001 - whatever the store raises ends these streams, and clients come back
            for each in (future for some in futures.values() for future in some):
                each.set_exception(error)
            return
        for id_, some in futures.items():
            for future in some:
                if not future.done():
                    future.set_result(found.get(id_))


def look(backend_name: str, ids: Sequence[str]) -> dict[str, Record]:
    """Return the records of tasks by id, and leave no connection behind."""
    try:
        return {record.id: record for record in queries.get_many(ids, using=backend_name)}
    finally:
        close_connections()


def close_connections() -> None:
    """Hold no connection while nothing is asked: there may be many more streams than connections."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


_watches: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Watch] = weakref.WeakKeyDictionary()


def watch_here() -> Watch:
    """Return the watch of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _watches:
        _watches[loop] = Watch(look)
    return _watches[loop]
