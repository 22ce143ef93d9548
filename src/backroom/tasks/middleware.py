"""The onion round one execution. A layer is a function from an `Execution` to a context manager."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from django.db import connections

from backroom.tasks.execution import Execution, current

type Middleware = Callable[[Execution], AbstractContextManager[None]]
"""What the backend's option `middleware` names: entered before the function is called, left after it.

It sees the function's exceptions as any `with` block does, and works alike for functions and coroutines.
"""


@contextmanager
def onion(execution: Execution, layers: tuple[Middleware, ...]) -> Iterator[None]:
    """Enter the log context and the project's own layers, the first one outermost."""
    token = current.set(execution)
    try:
        if not layers:
            yield
            return
        with ExitStack() as stack:
            for layer in layers:
                stack.enter_context(layer(execution))
            yield
    finally:
        current.reset(token)


def refresh_connections() -> None:
    """Close this thread's database connections that are broken, too old or left in an odd state.

    One connection a slot is kept from task to task; Django checks its health when the next task first uses it.
    """
    for connection in connections.all(initialized_only=True):
        connection.close_if_unusable_or_obsolete()
