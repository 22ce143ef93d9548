"""Signals that Django's `task_enqueued`, `task_started` and `task_finished` leave open.

Receivers get `sender` (the backend's class) and `task_result`. What a receiver raises is logged and changes nothing.
"""

from django.dispatch import Signal

tidying = Signal()
"""A worker does a round of maintenance, every few seconds. Beside `sender`: `using`, the alias in TASKS.

A receiver does one bounded step of its own upkeep, in the worker's clerk thread.
"""

task_retried = Signal()
"""An attempt failed and another one will follow. Beside `task_result`: `run_after`, the datetime from which."""
