"""The relay of the outbox: each round of maintenance sends what is left there."""

from typing import Any

from django.tasks import task_backends

from backroom.tasks.stores.committed import CommittedStore
from backroom.upkeep import in_rounds, tidying


@in_rounds
def relay(using: str, **_kwargs: Any) -> None:
    """Send what the outbox of a backend still holds."""
    backend: Any = task_backends[using]
    # A backend on Celery keeps its records in a store inside its own.
    store = getattr(backend.store, "kept_in", backend.store)
    if isinstance(store, CommittedStore) and store.has_outbox:
        store.relay()


tidying.connect(relay, dispatch_uid="backroom.tasks.outbox")
