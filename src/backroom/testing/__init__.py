"""What a project's own tests need: a clock to move, tasks to run and to look at, and a contract for stores.

The fixtures of the pytest plugin are in `backroom.testing.plugin`; `StoreContract` is in `backroom.testing.stores`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backroom.testing.clock import FakeClock
    from backroom.testing.tasks import assert_enqueued, assert_not_enqueued, captured_tasks, clear_doubles, run_tasks

__all__ = [
    "FakeClock",
    "assert_enqueued",
    "assert_not_enqueued",
    "captured_tasks",
    "clear_doubles",
    "run_tasks",
]


def __getattr__(name: str) -> Any:
    # pytest imports this package, for the plugin in it, in runs that have nothing to do with Django.
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{'clock' if name == 'FakeClock' else 'tasks'}"), name)
