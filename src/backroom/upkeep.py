"""The signal by which a worker's rounds of maintenance reach every package that keeps something.

It stands below them all, so that none of them needs to know the tasks whose worker sends it.
"""

from django.dispatch import Signal

tidying = Signal()
"""A worker does a round of maintenance, every few seconds. `sender` and `using` are those of the task backend.

A receiver does one bounded step of its own upkeep, in the worker's clerk thread.
"""
