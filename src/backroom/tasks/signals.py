"""Signals that Django's `task_enqueued`, `task_started` and `task_finished` leave open.

Receivers get `sender` (the backend's class) and `task_result`. What a receiver raises is logged and changes nothing.
"""

from django.dispatch import Signal

from backroom.upkeep import tidying

__all__ = ["task_retried", "tidying"]

task_retried = Signal()
"""An attempt failed and another one will follow. Beside `task_result`: `run_after`, the datetime from which."""
