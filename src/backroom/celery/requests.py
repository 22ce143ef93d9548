"""What Celery's main process knows of a message of ours, and does with it in a cold shutdown."""

from typing import Any

from celery.worker.request import Request

from backroom.celery.serving import hand_over


class HandedOver(Request):  # type: ignore[misc] # Celery publishes no types
    """A request that pools can cancel which cannot kill: what it runs is handed back, where Celery raises an error."""

    def cancel(self, pool: Any, signal: Any = None, emit_retry: bool = True) -> None:  # noqa: FBT001, FBT002 - Celery's
        """End what runs, or hand it back."""
        if not hand_over():
            super().cancel(pool, signal, emit_retry)
