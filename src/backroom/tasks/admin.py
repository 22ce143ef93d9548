"""Tasks and workers in Django's admin: looked at, searched, retried, cancelled, run now; never edited."""

import json
from datetime import datetime
from functools import partial
from itertools import batched
from typing import Any, ClassVar, Final

from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import flatten_fieldsets
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join

from backroom.clock import from_datetime
from backroom.tasks import adminorders, control, queries
from backroom.tasks.adminlists import BackendFilter, QueueFilter, ReadOnlyAdmin, StateFilter, moment
from backroom.tasks.adminorders import Order
from backroom.tasks.lifecycle import label
from backroom.tasks.models import TaskRecord, WorkerRecord
from backroom.tasks.records import Record, Worker
from backroom.tasks.results import errors_of, progress_of

SHOWN: Final = 20_000
"""Characters of arguments, results and tracebacks that a page shows."""
LARGE: Final = ("payload", "overrides", "metadata", "progress", "worker_ids", "result", "errors")
EVERYWHERE: Final = (admin.ActionLocation.CHANGE_LIST, admin.ActionLocation.CHANGE_FORM)


@admin.register(TaskRecord)
class TaskRecordAdmin(ReadOnlyAdmin):
    """Tasks."""

    list_display = ("task_path", "is_", "queue_name", "attempts", "enqueued", "finished", "id")
    list_filter = (BackendFilter, StateFilter, QueueFilter)
    search_fields = ("id__exact",)
    search_help_text = "The id of a task"
    ordering = ("-id",)
    actions = ("retry", "cancel", "run_now")

    class Media:
        """Lets long lines be read to their end."""

        css: ClassVar = {"all": ["backroom/tasks/admin.css"]}

    enqueued = moment("enqueued_at", "enqueued")
    not_before = moment("run_after", "not before")
    due = moment("due_at", "due")
    expires = moment("expires_at", "expires")
    first_started = moment("started_at", "first started")
    last_started = moment("last_attempted_at", "last started")
    finished = moment("finished_at", "finished")
    kept_until = moment("prune_at", "kept until")
    leased_until = moment("lease_until", "leased until")
    unique_for = moment("unique_until", "unique until")

    def get_queryset(self, request: HttpRequest) -> QuerySet[TaskRecord]:
        """Leave the large columns out of lists."""
        rows = super().get_queryset(request)
        is_list = request.resolver_match is None or "object_id" not in request.resolver_match.kwargs
        return rows.defer(*LARGE) if is_list else rows

    def get_fieldsets(self, request: HttpRequest, _obj: TaskRecord | None = None) -> Any:
        """Return the page's parts; arguments and result only for those who may see them."""
        happened = ("enqueued", "first_started", "last_started", "finished")
        planned = ("not_before", "due", "expires", "kept_until")
        is_trusted = request.user.has_perm("backroom_tasks.view_payload")
        secrets = ("arguments", "result_", "metadata_") if is_trusted else ("hidden",)
        parts: dict[str | None, Any] = {
            None: ("id", ("is_", "progress_"), "task_path", ("queue_name", "priority", "backend_name")),
            "Times": (happened, planned),
            "Attempts": (("attempts", "failures", "crashes"), ("workers", "leased_until"), "errors_"),
            "Arguments and result": secrets,
            "Options": ("overrides", ("unique_scope", "unique_for"), "fence"),
        }
        return [(heading, {"fields": fields}) for heading, fields in parts.items()]

    def get_readonly_fields(self, request: HttpRequest, obj: TaskRecord | None = None) -> list[str]:
        """Every field is for reading."""
        return flatten_fieldsets(self.get_fieldsets(request, obj))

    @admin.display(description="state")
    def is_(self, row: TaskRecord) -> str:
        """Show the one word for where the task stands."""
        return label(row)

    @admin.display(description="progress")
    def progress_(self, row: TaskRecord) -> str:
        """Show how far the task has come."""
        progress = progress_of(_record(row))
        if progress is None:
            return self.get_empty_value_display()
        of = "" if progress.total is None else f" of {progress.total:g}"
        return f"{progress.done:g}{of} {progress.message}".rstrip()

    @admin.display(description="workers")
    def workers(self, row: TaskRecord) -> str:
        """Show who started the task, attempt by attempt."""
        return row.worker_ids.strip() or self.get_empty_value_display()

    @admin.display(description="errors")
    def errors_(self, row: TaskRecord) -> str:
        """Show the traceback of each attempt that failed, the latest first."""
        errors = errors_of(_record(row))[::-1]
        if not errors:
            return self.get_empty_value_display()
        return format_html_join("", "<p>{}</p><pre>{}</pre>", ((e.exception_class_path, e.traceback) for e in errors))

    @admin.display(description="arguments")
    def arguments(self, row: TaskRecord) -> str:
        """Show what the task was enqueued with."""
        return _pretty(row.payload) or self.get_empty_value_display()

    @admin.display(description="result")
    def result_(self, row: TaskRecord) -> str:
        """Show what the task returned."""
        return _pretty(row.result) or self.get_empty_value_display()

    @admin.display(description="metadata")
    def metadata_(self, row: TaskRecord) -> str:
        """Show the metadata that travels with the task."""
        return _pretty(row.metadata) or self.get_empty_value_display()

    @admin.display(description="hidden")
    def hidden(self, _row: TaskRecord) -> str:
        """Say what is needed to see more."""
        return "To see arguments, result and metadata takes the permission backroom_tasks.view_payload."

    @admin.action(
        permissions=["retry"],
        description="Retry this %(verbose_name)s",
        description_plural="Retry selected %(verbose_name_plural)s",
        location=EVERYWHERE,
    )
    def retry(self, request: HttpRequest, rows: QuerySet[TaskRecord]) -> None:
        """Put finished tasks back into their queues: on the page of one whatever became of it, in a list what failed.

        What was cancelled, has expired or has succeeded is chosen by narrowing the list down to it.
        """
        about_one = request.resolver_match is not None and "object_id" in request.resolver_match.kwargs
        chosen = request.GET.get(StateFilter.parameter_name, "")
        only = None if about_one else frozenset({*control.FAILURES, chosen})
        takes = "finished" if about_one else "failed"
        verb = partial(control.retry, only=only)
        self._carry_out(request, rows, Order(verb=verb, command="retry", done_word="Retried", takes=takes))

    @admin.action(
        permissions=["cancel"],
        description="Cancel this %(verbose_name)s",
        description_plural="Cancel selected %(verbose_name_plural)s",
        location=EVERYWHERE,
    )
    def cancel(self, request: HttpRequest, rows: QuerySet[TaskRecord]) -> None:
        """Cancel waiting tasks, ask running ones to stop."""
        order = Order(verb=control.cancel, command="cancel", done_word="Cancelled", takes="unfinished")
        self._carry_out(request, rows, order)

    @admin.action(
        permissions=["run_now"],
        description="Run this %(verbose_name)s now",
        description_plural="Run selected %(verbose_name_plural)s now",
        location=EVERYWHERE,
    )
    def run_now(self, request: HttpRequest, rows: QuerySet[TaskRecord]) -> None:
        """Make deferred tasks ready."""
        takes = "scheduled and retrying"
        order = Order(verb=control.run_now, command="run-now", done_word="Made ready", takes=takes)
        self._carry_out(request, rows, order)

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may retry tasks."""
        return request.user.has_perm("backroom_tasks.retry_task")

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may cancel tasks."""
        return request.user.has_perm("backroom_tasks.cancel_task")

    def has_run_now_permission(self, request: HttpRequest) -> bool:
        """Tell whether this user may run deferred tasks now."""
        return request.user.has_perm("backroom_tasks.run_task_now")

    def _carry_out(self, request: HttpRequest, rows: QuerySet[TaskRecord], order: Order) -> None:
        named = list(rows.order_by("-id").values_list("backend_name", "id")[: adminorders.ORDERED + 1])
        served = adminorders.serve(order, named)
        for batch in batched(served.done, adminorders.BATCH):
            logged = TaskRecord.objects.using(rows.db).filter(pk__in=batch).only("id", "task_path")
            LogEntry.objects.log_actions(str(request.user.pk), logged, CHANGE, f"{order.done_word}.")
        for level, text in adminorders.told(order, served):
            self.message_user(request, text, level)


@admin.register(WorkerRecord)
class WorkerRecordAdmin(ReadOnlyAdmin):
    """Workers that were heard of and have not gone."""

    list_display = ("id", "is_alive", "host", "pid", "queues_", "threads", "running", "started", "seen")
    list_filter = (BackendFilter,)
    ordering = ("id",)
    fields = ("id", "is_alive", "backend_name", "host", "pid", "queues_", "threads", "running", "started", "seen")
    readonly_fields = fields

    started = moment("started_at", "started")
    seen = moment("seen_at", "seen")

    @admin.display(description="alive", boolean=True)
    def is_alive(self, row: WorkerRecord) -> bool | None:
        """Show whether it was heard of within a lease; unknown when TASKS has no such backend."""
        if row.backend_name not in queries.shared_aliases():
            return None
        now = queries.backend_of(row.backend_name).clock.now()
        return not queries.is_silent(_worker(row), now=now, using=row.backend_name)

    @admin.display(description="queues")
    def queues_(self, row: WorkerRecord) -> str:
        """Show what it works on."""
        return row.queues.replace(",", ", ") or "all"


def _record(row: TaskRecord) -> Record:
    return Record(*map(_plain, (getattr(row, name) for name in Record._fields)))


def _worker(row: WorkerRecord) -> Worker:
    names = ("id", "host", "pid", "threads", "started_at", "seen_at", "running")
    return Worker(
        **{name: _plain(getattr(row, name)) for name in names}, queues=tuple(filter(None, row.queues.split(",")))
    )


def _plain(value: Any) -> Any:
    return from_datetime(value) if isinstance(value, datetime) else value


def _pretty(text: str | None) -> str:
    if not text:
        return ""
    pretty = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    more = "" if len(pretty) <= SHOWN else f"\n… {len(pretty) - SHOWN} characters more"
    return format_html("<pre>{}{}</pre>", pretty[:SHOWN], more)
