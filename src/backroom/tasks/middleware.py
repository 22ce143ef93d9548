"""The onion round one execution. A layer is a function from an `Execution` to a context manager."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from django.db import connections

from backroom.tasks.execution import Execution, current

type Middleware = Callable[[Execution], AbstractContextManager[None]]
"""What the backend's option `middleware` names: entered before the function is called, left after it.

It sees the function's exceptions as any `with` block does, and works alike for functions and coroutines.
"""


def onion(execution: Execution, layers: tuple[Middleware, ...]) -> AbstractContextManager[None]:
    """Return what enters the log context and the project's own layers, the first one outermost."""
    return _layered(execution, layers) if layers else _Shown(execution)


class _Shown:
    """The log context: log filters see the execution as long as it lasts."""

    # Every attempt enters one, and a generator for it takes three times as long.
    __slots__ = ("_execution", "_token")

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __enter__(self) -> None:
        self._token = current.set(self._execution)

    def __exit__(self, *_error: object) -> None:
        current.reset(self._token)


@contextmanager
def _layered(execution: Execution, layers: tuple[Middleware, ...]) -> Iterator[None]:
    with _Shown(execution), ExitStack() as stack:
        for layer in layers:
            stack.enter_context(layer(execution))
        yield


def refresh_connections() -> None:
    """Close this thread's database connections that are broken, too old or left in an odd state.

    One connection a slot is kept from task to task; Django checks its health when the next task first uses it.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block:
            # A task left `atomic()` open: Django would close nothing, and commit nothing, inside it.
            discard_connections()
            return
        connection.close_if_unusable_or_obsolete()


def discard_connections() -> None:
    """Close this thread's database connections, whatever Django believes about their state, and forget them.

    After an exception from outside, a connection may be in a transaction that Django does not know of, or believe in
    one that is over. Its next user would write into it without ever committing.
    """
    for connection in connections.all(initialized_only=True):
        with contextlib.suppress(Exception):
            if connection.connection is not None:
                connection.connection.close()
        del connections[connection.alias]
