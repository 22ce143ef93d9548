"""The one table of offloaded views: whose work is done by which task. Nothing here is a credential in clear."""

import secrets
from typing import Final

from django.db import models

from backroom.sql.fields import MomentField

ID_BYTES: Final = 24


def new_id() -> str:
    """Return an id that cannot be guessed: 192 random bits in 32 characters fit for a URL."""
    return secrets.token_urlsafe(ID_BYTES)


class Operation(models.Model):
    """A visitor's handle on a task. Several handles may share one task; each has one owner."""

    id = models.CharField(max_length=64, primary_key=True, default=new_id)
    backend_name = models.CharField(max_length=64)
    """The TASKS alias."""
    task_id = models.CharField(max_length=64, db_index=True, blank=True)
    """Empty between the insert and the enqueue, which nobody else sees where both are one transaction."""
    origin = models.TextField()
    """Path and query of the view that was asked: it renders the result."""
    method = models.CharField(max_length=16)
    session_hash = models.CharField(max_length=64, blank=True)
    """Of the random secret in the owner's session data; see `owners`."""
    user_id = models.CharField(max_length=255, blank=True)
    fingerprint = models.CharField(max_length=64)
    """Of the view, the task and its arguments."""
    key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001 - NULLs do not collide
    """Of the owner and the fingerprint, while this is where the owner's same request joins."""
    shared_key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001 - as key
    """Of the fingerprint alone, while this is where everybody's same request finds its task."""
    idempotency_key = models.CharField(max_length=64, null=True, unique=True)  # noqa: DJ001 - as key
    """Of the owner and the client's Idempotency-Key."""
    created_at = MomentField()
    seen_at = MomentField(null=True)
    """When the owner was first given the result, or told of the failure."""
    left_at = MomentField(null=True)
    """When the owner cancelled while others waited for the same task."""
    check_at = MomentField(db_index=True)
    """When `maintenance.prune()` is to look whether the task is still there."""
    gone_at = MomentField(null=True)
    """When it was found that the task is no longer there."""

    is_new = False
    """Whether this very request enqueued the task. Not a column: on an operation that was found it is False."""

    class Meta:
        verbose_name = "operation"

    def __str__(self) -> str:
        return f"{self.method} {self.origin}"
