"""What the store in a database says: the statements of both vendors, and those that each spells in its own way.

Raw SQL rather than the ORM, because one statement with RETURNING does what would take the ORM several round trips.
The tables belong to `backroom.tasks.models`.
"""

from collections.abc import Callable
from functools import cache
from typing import Final

from backroom.sql.dialect import DIALECTS
from backroom.tasks.records import Record
from backroom.tasks.stores.base import COUNT_CAP

TABLE: Final = "backroom_tasks_taskrecord"
WORKERS: Final = "backroom_tasks_workerrecord"
COLUMNS: Final = ", ".join(Record._fields)

INSERTED: Final = (
    ("id", "text"),
    ("backend_name", "text"),
    ("queue_name", "text"),
    ("priority", "smallint"),
    ("task_path", "text"),
    ("payload", "text"),
    ("enqueued_at", "bigint"),
    ("overrides", "text"),
    ("metadata", "text"),
    ("state", "text"),
    ("run_after", "bigint"),
    ("due_at", "bigint"),
    ("expires_at", "bigint"),
    ("unique_key", "text"),
    ("unique_scope", "text"),
    ("unique_until", "bigint"),
)
INSERTED_COLUMNS: Final = ", ".join(name for name, _ in INSERTED)

MOVED: Final = (
    ("moved_id", "text"),
    ("expected_fence", "bigint"),
    ("new_state", "text"),
    ("new_reason", "text"),
    ("new_due_at", "bigint"),
    ("new_expires_at", "bigint"),
    ("new_started_at", "bigint"),
    ("new_finished_at", "bigint"),
    ("new_prune_at", "bigint"),
    ("new_attempts", "integer"),
    ("new_failures", "integer"),
    ("new_crashes", "integer"),
    ("new_worker_ids", "text"),
    ("new_result", "text"),
    ("new_errors", "text"),
    ("new_unique_key", "text"),
    ("new_cancel_requested", "boolean"),
    ("new_progress", "text"),
)
"""The fields of `Transition`, in its order."""

RENEWED: Final = (("moved_id", "text"), ("expected_fence", "bigint"), ("new_progress", "text"))

INSERT: Final = f"""
    INSERT INTO {TABLE} ({INSERTED_COLUMNS}) VALUES ({", ".join(["%s"] * len(INSERTED))})
"""

# The notification is part of the caller's transaction: nobody wakes before the commit, or after a rollback.
INSERT_RINGING: Final = f"{INSERT} RETURNING pg_notify(%s, '')"
RING: Final = "SELECT pg_notify(%s, '')"

INSERT_MANY: Final = f"""
    INSERT INTO {TABLE} ({INSERTED_COLUMNS}) SELECT {INSERTED_COLUMNS} FROM {{rows}} AS new WHERE true
"""

# One statement, so that outside a transaction a batch takes one round trip and one commit. It is carried out to its end
# although the SELECT asks nothing of it.
INSERT_MANY_RINGING: Final = f"WITH added AS ({INSERT_MANY}) {RING}"

INSERT_UNIQUE: Final = f"""
    {INSERT_MANY} ON CONFLICT (backend_name, unique_key) WHERE unique_key IS NOT NULL DO NOTHING RETURNING id
"""

RELEASE_PAST_WINDOWS: Final = f"""
    UPDATE {TABLE} SET unique_key = NULL
    WHERE backend_name = %s AND unique_key IN {{ids}} AND unique_until <= %s
"""

SELECT_HOLDERS: Final = f"""
    SELECT unique_key, id FROM {TABLE} WHERE backend_name = %s AND unique_key IN {{ids}}
"""

# Each asks for the first entry of an index. When PostgreSQL's statistics are of another time it would read the whole
# table for EXISTS, if most rows were ready then, and the whole index for min(), if few were.
IS_READY: Final = f"""
    (SELECT id FROM {TABLE} WHERE state = 'ready' AND backend_name = %s
     ORDER BY queue_name, priority DESC, id LIMIT 1) IS NOT NULL
"""
IS_READY_AMONG: Final = f"""
    EXISTS (SELECT 1 FROM {{names}} AS asked WHERE (
        SELECT id FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND queue_name = asked.name
        ORDER BY priority DESC, id LIMIT 1
    ) IS NOT NULL)
"""
LOOK: Final = f"""
    SELECT {{ready}}, (
        SELECT due_at FROM {TABLE} WHERE state = 'deferred' AND backend_name = %s AND due_at <= %s
        ORDER BY due_at LIMIT 1
    ) IS NOT NULL
"""

PROMOTE: Final = f"""
    UPDATE {TABLE} SET state = 'ready', due_at = NULL
    WHERE state = 'deferred' AND id IN (
        SELECT id FROM {TABLE} WHERE state = 'deferred' AND backend_name = %s AND due_at <= %s
        ORDER BY due_at LIMIT 1000 {{skip_locked}}
    )
"""

# DISTINCT would read every waiting row; this reads one index entry for each queue.
_READY_QUEUES: Final = f"""
    queue(name) AS (
        SELECT (SELECT queue_name FROM {TABLE} WHERE state = 'ready' AND backend_name = %s
                ORDER BY queue_name LIMIT 1)
        UNION ALL
        SELECT (SELECT queue_name FROM {TABLE}
                WHERE state = 'ready' AND backend_name = %s AND queue_name > queue.name
                ORDER BY queue_name LIMIT 1)
        FROM queue WHERE queue.name IS NOT NULL
    )
"""
READY_QUEUES: Final = f"WITH RECURSIVE {_READY_QUEUES} SELECT name FROM queue WHERE name IS NOT NULL"

PICK: Final = f"""
    SELECT id, priority FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND queue_name = %s
    ORDER BY priority DESC, id LIMIT %s {{skip_locked}}
"""

FIRST_OF_QUEUES: Final = f"""
    SELECT name,
           (SELECT priority FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND queue_name = asked.name
            ORDER BY priority DESC, id LIMIT 1),
           (SELECT id FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND queue_name = asked.name
            ORDER BY priority DESC, id LIMIT 1)
    FROM {{names}} AS asked
"""

PICK_IDS: Final = f"""
    SELECT id, priority FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND id IN {{ids}} {{queues}}
    ORDER BY id LIMIT %s {{skip_locked}}
"""

_CLAIM: Final = f"""
    UPDATE {TABLE} SET
        state = 'running', fence = fence + {{step}}, attempts = attempts + 1,
        started_at = COALESCE(started_at, %s), last_attempted_at = %s, lease_until = %s,
        worker_id = %s, worker_ids = worker_ids || %s,
        unique_key = CASE WHEN unique_scope = 'pending' THEN NULL ELSE unique_key END
    WHERE {{condition}}
    RETURNING {COLUMNS}
"""

# PostgreSQL may run a plain subquery with a LIMIT twice and then claims too many; MATERIALIZED forbids it.
CLAIM: Final = f"""
    WITH picked AS MATERIALIZED ({{pick}})
    {_CLAIM.format(step="1", condition="id IN (SELECT id FROM picked) {unless}")}
"""

# The value of one row is asked for once, and before the UPDATE begins. To an idle server it is half the work.
# It does not wait for the disk: a crash of the server may give the record back as it was, to be claimed once more. For
# two such claims not to have the same fence, each takes a step of its own, drawn by lot.
CLAIM_ONE: Final = _CLAIM.format(step="%s", condition="id = (SELECT id FROM ({pick}) AS picked) AND {hurriedly}")

# What is due by now may come before what is ready already.
UNLESS_DUE: Final = f"""
    AND (SELECT due_at FROM {TABLE} WHERE state = 'deferred' AND backend_name = %s AND due_at <= %s
         ORDER BY due_at LIMIT 1) IS NULL
"""

UNLESS_NULL: Final = frozenset({"cancel_requested", "progress"})
"""Columns that a transition leaves as they are when it has None for them."""


def _changes(value_of: Callable[[str], str]) -> str:
    """Return the SET clause of a transition; `value_of` spells the new value of a column."""
    return ", ".join(_change(name.removeprefix("new_"), value_of(name)) for name, _ in MOVED[2:])


def _change(column: str, value: str) -> str:
    if column == "unique_key":
        # Given up or kept, never set: its window may have passed meanwhile, and the key be another task's.
        return f"{column} = CASE WHEN {value} IS NULL THEN NULL ELSE {column} END"
    return f"{column} = COALESCE({value}, {column})" if column in UNLESS_NULL else f"{column} = {value}"


APPLY: Final = f"""
    UPDATE {TABLE} SET fence = fence + 1, lease_until = NULL, worker_id = '', {_changes(lambda name: name)}
    FROM {{rows}} AS moved WHERE id = moved_id AND fence = expected_fence
    RETURNING id
"""

APPLY_ONE: Final = f"""
    UPDATE {TABLE} SET fence = fence + 1, lease_until = NULL, worker_id = '', {_changes(lambda _name: "%s")}
    WHERE id = %s AND fence = %s
"""

RENEW: Final = f"""
    UPDATE {TABLE} SET lease_until = %s, progress = COALESCE(new_progress, progress)
    FROM {{rows}} AS renewed WHERE id = moved_id AND fence = expected_fence AND state = 'running'
    RETURNING id, cancel_requested
"""

OVERDUE: Final = f"""
    SELECT {COLUMNS} FROM {TABLE} WHERE state = 'running' AND backend_name = %s AND lease_until <= %s
    ORDER BY lease_until, id LIMIT %s
"""

UNSTARTED: Final = f"""
    SELECT {COLUMNS} FROM {TABLE}
    WHERE state IN ('deferred', 'ready') AND expires_at IS NOT NULL AND backend_name = %s AND expires_at <= %s
    ORDER BY expires_at, id LIMIT %s
"""

UPCOMING: Final = f"""
    SELECT {COLUMNS} FROM {TABLE}
    WHERE state = 'deferred' AND backend_name = %s AND due_at BETWEEN %s AND %s AND (due_at > %s OR id > %s)
    ORDER BY due_at, id LIMIT %s
"""

REQUEST_CANCEL: Final = f"""
    UPDATE {TABLE} SET cancel_requested = true
    WHERE state = 'running' AND backend_name = %s AND id IN {{ids}} RETURNING id
"""

CANCELLING: Final = f"""
    SELECT id FROM {TABLE} WHERE state = 'running' AND backend_name = %s AND worker_id = %s AND cancel_requested
"""

GET: Final = f"SELECT {COLUMNS} FROM {TABLE} WHERE backend_name = %s AND id IN {{ids}} ORDER BY id"

FIND: Final = f"SELECT {COLUMNS} FROM {TABLE} WHERE {{conditions}} ORDER BY id DESC LIMIT %s"


def _counted(condition: str) -> str:
    return f"""
        SELECT queue_name, state, count(*) FROM (
            SELECT queue_name, state FROM {TABLE} WHERE backend_name = %s AND {condition} LIMIT {COUNT_CAP}
        ) AS counted GROUP BY queue_name, state
    """


# Each state is counted by itself, so that ten thousand successes do not hide one failure, and what is ready queue by
# queue. A successful record is found by its prune_at, for the index on that has finished ones only. Their order is that of
# an index, where it has one: where most rows were ready when PostgreSQL took its statistics it would read the whole table,
# for each queue.
COUNTS: Final = f"""
    WITH RECURSIVE {_READY_QUEUES}
    SELECT queue.name, 'ready', (
        SELECT count(*) FROM (
            SELECT 1 FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND queue_name = queue.name
            ORDER BY priority DESC, id LIMIT {COUNT_CAP}
        ) AS counted
    ) FROM queue WHERE queue.name IS NOT NULL
    UNION ALL {_counted("state = 'deferred' ORDER BY due_at")}
    UNION ALL {_counted("state = 'running' ORDER BY lease_until")}
    UNION ALL {_counted("state = 'failed'")}
    UNION ALL {_counted("prune_at IS NOT NULL AND state = 'successful' ORDER BY prune_at")}
"""


# Goes from the first task of each priority in use of a queue to that of the next one, then to the next queue: so it reads
# two or three entries of the index for each. Ordered as the index is: for the lowest id of one priority a planner might
# go through all ids there are.
OLDEST_READY: Final = f"""
    WITH RECURSIVE level(id, name, priority) AS (
        SELECT id, queue_name, priority FROM {TABLE} WHERE id = (
            SELECT id FROM {TABLE} WHERE state = 'ready' AND backend_name = %s
            ORDER BY queue_name, priority DESC, id LIMIT 1
        )
        UNION ALL
        SELECT following.id, following.queue_name, following.priority
        FROM level JOIN {TABLE} AS following ON following.id = COALESCE(
            (SELECT id FROM {TABLE}
             WHERE state = 'ready' AND backend_name = %s AND queue_name = level.name AND priority < level.priority
             ORDER BY priority DESC, id LIMIT 1),
            (SELECT id FROM {TABLE} WHERE state = 'ready' AND backend_name = %s AND queue_name > level.name
             ORDER BY queue_name, priority DESC, id LIMIT 1)
        )
    )
    SELECT {COLUMNS} FROM {TABLE} WHERE id IN (SELECT min(level.id) FROM level GROUP BY level.name)
"""

PRUNE: Final = f"""
    DELETE FROM {TABLE} WHERE id IN (
        SELECT id FROM {TABLE} WHERE backend_name = %s AND prune_at <= %s ORDER BY prune_at LIMIT %s {{skip_locked}}
    ) RETURNING id
"""

BEAT: Final = f"""
    INSERT INTO {WORKERS} (id, backend_name, host, pid, queues, threads, started_at, seen_at, running)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at, running = excluded.running
"""

SELECT_WORKERS: Final = f"""
    SELECT id, host, pid, queues, threads, started_at, seen_at, running FROM {WORKERS}
    WHERE backend_name = %s ORDER BY id
"""

FORGET: Final = f"DELETE FROM {WORKERS} WHERE backend_name = %s AND id IN {{ids}}"


class Texts:
    """The statements that differ between vendors, spelled out in one dialect."""

    def __init__(self, vendor: str) -> None:
        dialect = DIALECTS[vendor]
        ids = dialect.ids()
        locked = {"skip_locked": dialect.skip_locked}
        self.release_past_windows = RELEASE_PAST_WINDOWS.format(ids=ids)
        self.select_holders = SELECT_HOLDERS.format(ids=ids)
        self.promote = PROMOTE.format(**locked)
        names = dialect.rows([("name", "text")])
        self.look_among = LOOK.format(ready=IS_READY_AMONG.format(names=names))
        self.first_of_queues = FIRST_OF_QUEUES.format(names=names)
        self.pick = PICK.format(**locked)
        self.claim_one = CLAIM_ONE.format(pick=self.pick, hurriedly=dialect.hurriedly)
        self.pick_ids = PICK_IDS.format(ids=ids, queues="{queues}", **locked)
        # All of it in each row: shown the one fence of a batch, a planner might look for that rather than for the ids.
        self.apply = APPLY.format(rows=dialect.rows(MOVED))
        self.renew = RENEW.format(rows=dialect.rows(RENEWED))
        self.request_cancel = REQUEST_CANCEL.format(ids=ids)
        self.get = GET.format(ids=ids)
        self.prune = PRUNE.format(**locked)
        self.forget = FORGET.format(ids=ids)


texts_of = cache(Texts)
"""Returns the statements of a vendor."""
