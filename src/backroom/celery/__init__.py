"""Backroom beside Celery: tasks of `django.tasks` run by Celery's workers, and Celery's tasks enqueued through it.

Add `backroom.celery` to INSTALLED_APPS. docs/how-to/run-on-celery.md and docs/how-to/move-from-celery.md lead the way.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from backroom.celery.existing import from_celery

__all__ = ["from_celery"]


def __getattr__(name: str) -> Any:
    # Django imports this package before the settings are ready, and Celery may not be installed.
    if name not in __all__:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    from backroom.celery.existing import from_celery

    return from_celery
