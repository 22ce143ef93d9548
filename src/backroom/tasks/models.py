"""The tables behind the SQL store. Rows are written by `stores.sql`; the ORM reads them, for the admin and for lists."""

from django.db import models
from django.db.models import Q

from backroom.sql.fields import KeyField, MomentField
from backroom.tasks.records import DEFERRED, FAILED, READY, RUNNING


class TaskRecord(models.Model):
    """One task. The columns are those of `backroom.tasks.records.Record`, which documents them."""

    id = KeyField(max_length=64, primary_key=True)
    backend_name = models.CharField(max_length=64)
    queue_name = models.CharField(max_length=128)
    priority = models.SmallIntegerField()
    task_path = models.CharField(max_length=512)
    payload = models.TextField()
    enqueued_at = MomentField()
    overrides = models.TextField(db_default="")
    metadata = models.TextField(db_default="")
    state = models.CharField(max_length=16, db_default=READY)
    reason = models.CharField(max_length=16, db_default="", blank=True)
    run_after = MomentField(null=True, blank=True)
    due_at = MomentField(null=True, blank=True)
    expires_at = MomentField(null=True, blank=True)
    unique_key = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 - NULLs do not collide
    unique_scope = models.CharField(max_length=16, null=True, blank=True)  # noqa: DJ001 - as unique_key
    unique_until = MomentField(null=True, blank=True)
    fence = models.BigIntegerField(db_default=0)
    attempts = models.IntegerField(db_default=0)
    failures = models.IntegerField(db_default=0)
    crashes = models.IntegerField(db_default=0)
    cancel_requested = models.BooleanField(db_default=False)
    started_at = MomentField(null=True, blank=True)
    last_attempted_at = MomentField(null=True, blank=True)
    finished_at = MomentField(null=True, blank=True)
    prune_at = MomentField(null=True, blank=True)
    lease_until = MomentField(null=True, blank=True)
    worker_id = models.CharField(max_length=64, db_default="", blank=True)
    worker_ids = models.TextField(db_default="", blank=True)
    progress = models.TextField(db_default="", blank=True)
    result = models.TextField(null=True, blank=True)  # noqa: DJ001 - NULL is no result, "null" is None
    errors = models.TextField(db_default="", blank=True)

    class Meta:
        verbose_name = "task"
        # Rows are added, changed and deleted by the store alone; what people may do to a task has names of its own.
        default_permissions = ("view",)
        permissions = (
            ("retry_task", "Can retry tasks"),
            ("cancel_task", "Can cancel tasks"),
            ("run_task_now", "Can run deferred tasks now"),
            ("view_payload", "Can view the arguments and results of tasks"),
        )
        ordering = ("-id",)
        # Each index holds the rows of one state only, so it stays as small as the work at hand.
        indexes = (
            models.Index(
                fields=("backend_name", "queue_name", "-priority", "id"),
                name="backroom_ready",
                condition=Q(state=READY),
            ),
            models.Index(fields=("backend_name", "due_at"), name="backroom_deferred", condition=Q(state=DEFERRED)),
            models.Index(fields=("backend_name", "lease_until"), name="backroom_running", condition=Q(state=RUNNING)),
            models.Index(fields=("backend_name", "id"), name="backroom_failed", condition=Q(state=FAILED)),
            models.Index(
                fields=("backend_name", "expires_at"),
                name="backroom_expiring",
                condition=Q(expires_at__isnull=False, state__in=[DEFERRED, READY]),
            ),
            models.Index(
                fields=("backend_name", "prune_at"), name="backroom_prune", condition=Q(prune_at__isnull=False)
            ),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("backend_name", "unique_key"), name="backroom_unique", condition=Q(unique_key__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.task_path} {self.id}"


class WorkerRecord(models.Model):
    """One worker process. The columns are those of `backroom.tasks.records.Worker`."""

    id = KeyField(max_length=64, primary_key=True)
    backend_name = models.CharField(max_length=64)
    host = models.CharField(max_length=255)
    pid = models.IntegerField()
    queues = models.TextField(db_default="", blank=True)
    threads = models.IntegerField()
    started_at = MomentField()
    seen_at = MomentField()
    running = models.IntegerField(db_default=0)

    class Meta:
        verbose_name = "worker"
        default_permissions = ("view",)
        ordering = ("id",)

    def __str__(self) -> str:
        return self.id


class OutboxRecord(models.Model):
    """One task that is to be sent to Redis, written in the transaction of whoever enqueued it."""

    id = KeyField(max_length=64, primary_key=True)
    backend_name = models.CharField(max_length=64)
    record = models.TextField()
    """JSON of the fields of a `Record`, in their order."""

    class Meta:
        verbose_name = "task to be sent"
        verbose_name_plural = "tasks to be sent"
        default_permissions = ()
        ordering = ("id",)
        indexes = (models.Index(fields=("backend_name", "id"), name="backroom_outbox"),)

    def __str__(self) -> str:
        return self.id
