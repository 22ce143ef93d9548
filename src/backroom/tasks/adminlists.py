"""Lists of tasks and workers for Django's admin: read-only, quick with millions of rows, over several databases."""

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from django.conf import settings
from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import cached_property
from django.utils.html import format_html

from backroom.tasks import queries
from backroom.tasks.lifecycle import LABELS
from backroom.tasks.records import DEFERRED, FAILED, RUNNING

if TYPE_CHECKING:
    _Paginator = Paginator[Any]
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    # Neither knows type parameters at run time.
    _Paginator = Paginator
    _ModelAdmin = admin.ModelAdmin

COUNTED: Final = 10_000
"""Rows that a list counts, and pages through, at most."""
CONDITIONS: Final[dict[str, Q]] = {
    "scheduled": Q(state=DEFERRED, failures=0),
    "retrying": Q(state=DEFERRED, failures__gt=0),
    "running": Q(state=RUNNING, cancel_requested=False),
    "cancelling": Q(state=RUNNING, cancel_requested=True),
    "failed": Q(state=FAILED, reason__in=["", "error"]),
    **{reason: Q(state=FAILED, reason=reason) for reason in ("cancelled", "expired", "lost", "timeout")},
}
"""What `lifecycle.label` means in SQL, where it is not simply the state."""


class CappedPaginator(_Paginator):
    """Counts no further than `COUNTED`."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, as far as anybody pages."""
        rows: Any = self.object_list
        found: int = rows.order_by()[: COUNTED + 1].count()
        return min(found, COUNTED)


class BackendFilter(admin.SimpleListFilter):
    """Which TASKS alias the list is about, when there are several: each may have a database of its own."""

    title = "backend"
    parameter_name = "backend"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        """Return the aliases, when there is a choice."""
        aliases = queries.shared_aliases()
        return [(alias, alias) for alias in aliases] if len(aliases) > 1 else []

    def value(self) -> str:
        """Return the alias; one is always chosen."""
        return super().value() or queries.shared_aliases()[0]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down."""
        chosen = self.value()
        aliases = [alias for alias in queries.shared_aliases() if alias == chosen]
        if not aliases:
            return queryset.none()
        return queryset.using(queries.backend_of(chosen).database).filter(backend_name=chosen)

    def choices(self, changelist: ChangeList) -> Iterator[Any]:
        """Yield the aliases, without "All"."""
        for alias, title in self.lookup_choices:
            query = changelist.get_query_string({self.parameter_name: alias})
            yield {"selected": self.value() == alias, "query_string": query, "display": title}


class StateFilter(admin.SimpleListFilter):
    """Where a task stands, in the words that people use."""

    title = "state"
    parameter_name = "is"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        """Return the words."""
        return [(word, word) for word in LABELS]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down."""
        word = self.value()
        if word not in {None, *LABELS}:
            return queryset.none()
        return queryset if word is None else queryset.filter(CONDITIONS.get(word, Q(state=word)))


class QueueFilter(admin.SimpleListFilter):
    """Which queue. The names come from the counts: to ask the table for them would read all of it."""

    title = "queue"
    parameter_name = "queue_name"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        """Return the queues that have a name or a task."""
        names = {queue for alias in queries.shared_aliases() for queue, _ in queries.counts(using=alias)}
        names |= {queue for alias in queries.shared_aliases() for queue in queries.backend_of(alias).queues}
        return [(name, name) for name in sorted(names)]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow the list down."""
        if not queries.is_text(self.value()):
            return queryset.none()
        return queryset if self.value() is None else queryset.filter(queue_name=self.value())


class ReadOnlyAdmin(_ModelAdmin):
    """What both lists share: nobody adds, changes or deletes a row, and the row is looked for where it is kept."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    sortable_by = ()
    list_per_page = 50

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rows of the database that the request is about."""
        rows = super().get_queryset(request)
        key = request.resolver_match.kwargs.get("object_id") if request.resolver_match else None
        return rows.using(_database_with(rows, key and unquote(key)))

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """Return the row, or None: also for an address that no row can have."""
        return super().get_object(request, object_id, from_field) if queries.is_text(object_id) else None

    def has_add_permission(self, _request: HttpRequest) -> bool:
        """Tasks are added by `enqueue()`."""
        return False

    def has_change_permission(self, _request: HttpRequest, _obj: Model | None = None) -> bool:
        """Tasks are changed by the actions, which mind the fence."""
        return False

    def has_delete_permission(self, _request: HttpRequest, _obj: Model | None = None) -> bool:
        """Tasks are deleted by `prune`, which deletes finished ones alone."""
        return False


def moment(name: str, description: str) -> Callable[..., Any]:
    """Return a column or field that shows a moment to the second, in the time zone of the project."""

    @admin.display(description=description)
    def show(model_admin: ReadOnlyAdmin, row: Model) -> str:
        value: datetime | None = getattr(row, name)
        if value is None:
            return model_admin.get_empty_value_display()
        local = timezone.localtime(value) if settings.USE_TZ else timezone.make_naive(value)
        return format_html('<span class="nowrap">{}</span>', f"{local:%Y-%m-%d %H:%M:%S}")

    return show


def _database_with(rows: QuerySet[Any], key: str | None) -> str | None:
    """Return the database that has the row of this key; without a key, that of the first backend."""
    backends = map(queries.backend_of, queries.shared_aliases())
    databases = list(dict.fromkeys(name for backend in backends if (name := backend.database) is not None))
    if key is not None and len(databases) > 1:
        databases.sort(key=lambda database: not rows.using(database).filter(pk=key).exists())
    return databases[0] if databases else None
