"""What a task may raise for its visitor to read, and what a request may be refused for."""

from backroom.errors import BackroomError


class Refused(BackroomError):
    """Raise it in a task when the input is at fault: the visitor is shown the message, with the status 422.

    The message of any other exception stays with the operators.
    """


class IdempotencyMismatch(BackroomError):
    """An Idempotency-Key came again with another request."""


class OffloadNotReady(BackroomError):
    """The project lacks something that offloaded views need; the message says what."""
