"""What is asked for, and the names under which the same is found again. Values and pure functions."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q

from backroom.offload.owners import Owner
from backroom.tasks.arguments import normalized


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a visitor asks for."""

    task: Any
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any]
    view: str
    """Names the view: the same arguments mean other work elsewhere."""
    origin: str
    method: str
    cache_for: float = 0.0
    shared: bool = False
    idempotency_key: str = ""

    @property
    def is_safe(self) -> bool:
        """Whether repeating the request must not repeat the work (RFC 9110, 9.2.1)."""
        return self.method in {"GET", "HEAD"}

    @property
    def fingerprint(self) -> str:
        """The same for every request for the same work."""
        return _digest(self.view, self.task.module_path, self.task.backend, list(self.args), dict(self.kwargs))


def in_json_types(order: Order) -> Order:
    """Return the order with its arguments as a task will get them; raise `InvalidArguments` naming one that does not fit.

    An Idempotency-Key is for requests that are not idempotent already (RFC 9110, 9.2.2).
    """
    return dataclasses.replace(
        order,
        args=[normalized(value, f"argument {index}") for index, value in enumerate(order.args, 1)],
        kwargs={key: normalized(value, f"argument {key!r}") for key, value in order.kwargs.items()},
        idempotency_key="" if order.is_safe else order.idempotency_key,
    )


class Names:
    """The unique names under which an owner's operations for an order are found, each hashed."""

    def __init__(self, order: Order, owner: Owner) -> None:
        self.fingerprint = order.fingerprint
        self.keys = [_digest("key", name, self.fingerprint) for name in owner.names]
        self.shared_key = _digest("shared", self.fingerprint) if order.shared else None
        given = order.idempotency_key
        self.idempotency_keys = [_digest("idempotency", name, given) for name in owner.names] if given else []

    def condition(self) -> Q:
        """Return what is true of the operations that have one of the names."""
        condition = Q(key__in=self.keys)
        if self.shared_key:
            condition |= Q(shared_key=self.shared_key)
        if self.idempotency_keys:
            condition |= Q(idempotency_key__in=self.idempotency_keys)
        return condition


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
