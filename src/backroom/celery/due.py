"""Find deferred records whose moment is near."""

from typing import Any, Final, NamedTuple

from django.db.models import Q

from backroom.clock import FIRST, Moment
from backroom.tasks.records import DEFERRED, Query, Record
from backroom.tasks.stores.base import Store
from backroom.tasks.stores.redis import RedisStore
from backroom.tasks.stores.sql import SQLStore

PAGE: Final = 500


class Mark(NamedTuple):
    """How far the deferred records have been gone through, in the order of their moments."""

    due_at: Moment = FIRST
    id: str = ""


def due_after(store: Store, mark: Mark, until: Moment) -> list[Record]:
    """Return the deferred records due after `mark` and not after `until`, the first ones first, `PAGE` at most."""
    match store:
        case SQLStore():
            return _in_a_table(store, mark, until)
        case RedisStore():
            return _in_sorted_sets(store, mark, until)
    return _in_any_store(store, mark, until)


def _in_a_table(store: SQLStore, mark: Mark, until: Moment) -> list[Record]:
    from backroom.tasks.models import TaskRecord

    beyond = Q(due_at__gt=mark.due_at) | Q(due_at=mark.due_at, id__gt=mark.id)
    deferred = TaskRecord.objects.using(store.alias).filter(
        beyond, state=DEFERRED, backend_name=store.backend_name, due_at__gte=mark.due_at, due_at__lte=until
    )
    ids = deferred.order_by("due_at", "id").values_list("id", flat=True)[:PAGE]
    return _in_order(record for record in store.get(list(ids)) if record.state == DEFERRED)


def _in_sorted_sets(store: RedisStore, mark: Mark, until: Moment) -> list[Record]:
    marks = [each for shard in store.shards for each in _in_a_sorted_set(store, f"{shard}:deferred", mark, until)]
    records = store.get([each.id for each in sorted(marks)[:PAGE]])
    return _in_order(record for record in records if record.state == DEFERRED)


def _in_a_sorted_set(store: RedisStore, name: str, mark: Mark, until: Moment) -> list[Mark]:
    rank = store.server.call("ZRANK", name, mark.id) if mark.id else None
    # By rank, for thousands may be due at one moment. Where the mark itself has gone, from the first of its moment.
    first = store.server.call("ZCOUNT", name, "-inf", f"({mark.due_at}") if rank is None else rank + 1
    while pairs := store.server.call("ZRANGE", name, first, first + PAGE - 1, "WITHSCORES"):
        marks = [Mark(int(float(score)), id_.decode()) for id_, score in _pairs(pairs)]
        beyond = [each for each in marks if each > mark]
        if beyond or marks[-1].due_at > until:
            return [each for each in beyond if each.due_at <= until]
        first += PAGE
    return []


def _pairs(found: Any) -> Any:
    """Return pairs, which the third version of Redis's protocol makes of them and the second one does not."""
    return found if isinstance(found[0], list | tuple) else zip(found[::2], found[1::2], strict=True)


def _in_any_store(store: Store, mark: Mark, until: Moment) -> list[Record]:
    found: list[Record] = []
    after = None
    while True:
        page = store.find(Query(states=(DEFERRED,)), after=after, limit=PAGE)
        found += [record for record in page.records if mark < mark_of(record) and (record.due_at or 0) <= until]
        after = page.next_after
        if after is None:
            return _in_order(found)[:PAGE]


def mark_of(record: Record) -> Mark:
    """Return the mark that stands at a record."""
    return Mark(record.due_at or FIRST, record.id)


def _in_order(records: Any) -> list[Record]:
    return sorted(records, key=mark_of)
