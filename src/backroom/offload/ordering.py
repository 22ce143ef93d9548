"""What a view for people and a view for programs share: from a task's arguments to how the operation stands."""

from collections.abc import Mapping
from typing import Any

from backroom.offload import answers, idempotency, operations, origins
from backroom.offload.exceptions import IdempotencyMismatch
from backroom.offload.models import Operation
from backroom.offload.orders import Order
from backroom.offload.owners import Owner, new_owner_of
from backroom.offload.placing import place
from backroom.offload.problems import Problem, ProblemRaised
from backroom.offload.status import Status
from backroom.offload.waiting import look_until


class Ordering:
    """Part of a class-based view that has work done by a task. `OffloadView` documents the attributes."""

    task: Any = None
    cache_for: float = 0.0
    shared: bool = False
    wait: float = 0.2
    max_wait: float = 10.0
    using: str | None = None

    request: Any
    args: Any
    kwargs: Any

    def get_task(self) -> Any:
        """Return the task, with whatever `using()` is to change for this request."""
        return self.task if self.using is None else self.task.using(backend=self.using)

    def get_owner(self) -> Owner:
        """Return whose the operation will be: the signed-in user's, else the session's."""
        return new_owner_of(self.request)

    def ordered(self, arguments: Mapping[str, Any]) -> Status:
        """Find or start the operation for these arguments, wait a moment for it, and return how it stands.

        Raise `ProblemRaised` for an Idempotency-Key that is malformed or was sent before with other input.
        """
        try:
            operation = place(self.get_order(arguments), self.get_owner())
        except idempotency.InvalidKey as error:
            raise ProblemRaised(Problem(status=400, code="idempotency_key_invalid", detail=str(error))) from error
        except IdempotencyMismatch as error:
            raise ProblemRaised(Problem(status=422, code="idempotency_key_reused", detail=str(error))) from error
        return self.awaited(operation)

    def get_order(self, arguments: Mapping[str, Any]) -> Order:
        """Return what is asked for; raise `InvalidKey` for an Idempotency-Key that is none."""
        given = self.request.headers.get("Idempotency-Key")
        return Order(
            task=self.get_task(),
            args=self.args,
            kwargs=arguments,
            view=origins.name_of(self),
            origin=origins.origin_path(self.request),
            method=self.request.method or "",
            cache_for=self.cache_for,
            shared=self.shared,
            idempotency_key="" if given is None else idempotency.parse(given),
        )

    def awaited(self, operation: Operation) -> Status:
        """Return how the operation stands after waiting as long as the view and the client agree on."""
        seconds = answers.preferences_of(self.request).seconds(default=self.wait, limit=self.max_wait)
        if not operations.is_visible_to_workers():
            seconds = 0.0
        return look_until(lambda: operations.status_of(operation), lambda status: status.is_finished, seconds=seconds)
