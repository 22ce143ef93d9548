"""A Redis store whose inserts follow the fate of the caller's transaction on a database.

Redis takes nothing back. So what is inserted inside `atomic()` is sent when that commits, and never after a rollback;
with the outbox it is written down in the same transaction and sent from there, now or by a worker's maintenance.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from django.apps import apps
from django.db import DatabaseError, connections, transaction
from django.db.transaction import TransactionManagementError

from backroom.compact import dumps
from backroom.redis import Server
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.records import Record
from backroom.tasks.stores.redis import RedisStore

logger = logging.getLogger("backroom.tasks")

FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 1.0
"""Seconds between two tries at a server that is away."""
RELAYED: Final = 500
"""Records that one step of the relay moves."""
STEPS: Final = 20
"""Steps that one round of it takes at most."""


class CommittedStore(RedisStore):
    """Inserts what is enqueued once the transaction on `database` commits; at once when there is none."""

    def __init__(
        self,
        server: Server,
        backend_name: str,
        *,
        prefix: str,
        shards: int,
        database: str,
        patience: float = 0.0,
        has_outbox: bool = False,
    ) -> None:
        super().__init__(server, backend_name, prefix=prefix, shards=shards)
        self.database = database
        self.patience = patience
        self.has_outbox = has_outbox

    def insert(self, records: Sequence[Record]) -> Mapping[str, str]:
        """See Store.insert(). Inside a transaction nothing is known of collisions yet: `holder_of` tells later."""
        connection = connections[self.database]
        if self.has_outbox:
            self._write_down(records)
        elif _is_by_hand(connection):
            msg = (
                f"The transaction on {self.database!r} is managed by hand (autocommit is off), and nothing tells when it "
                f"commits. Use atomic(), or set 'outbox' in TASKS[{self.backend_name!r}]['OPTIONS']."
            )
            raise TransactionManagementError(msg)
        elif connection.in_atomic_block:
            # An insert of nothing: what the server would refuse is told while the caller can still take all of it back.
            self._patiently(self._run, "insert", self.shards[0], [0, 0])
            transaction.on_commit(lambda: self._send(records), using=self.database, robust=True)
        else:
            return self._patiently(super().insert, records)
        return {}

    def relay(self) -> None:
        """Send what the outbox still holds, in steps of `RELAYED` records and not more than `STEPS` of them."""
        outbox = _outbox().using(self.database).filter(backend_name=self.backend_name).order_by("id")
        last = ""
        for _ in range(STEPS):
            rows = list(outbox.filter(id__gt=last)[:RELAYED])
            self._move([record for row in rows if (record := _read(row)) is not None])
            if len(rows) < RELAYED:
                return
            last = rows[-1].id

    def _send(self, records: Sequence[Record]) -> None:
        try:
            self._patiently(self.insert_unasked, records)
        except StoreUnavailable as error:
            # The caller's transaction is committed, and others wait for their turn after it.
            logger.error(  # noqa: TRY400 - the reason says it all
                "action=lost_after_commit tasks=%d task_id=%s reason=%r: an outbox would have kept them",
                len(records),
                ",".join(record.id for record in records[:10]),
                str(error),
            )

    def _write_down(self, records: Sequence[Record]) -> None:
        model = _outbox().model
        rows = [model(id=record.id, backend_name=self.backend_name, record=dumps(record)) for record in records]
        is_by_hand = _is_by_hand(connections[self.database])
        # On SQLite the end of a savepoint would be the end of a transaction that is managed by hand.
        with transaction.atomic(using=self.database, savepoint=not is_by_hand):
            _outbox().using(self.database).bulk_create(rows, batch_size=RELAYED)
            # Nobody calls when such a one commits: then a worker sends them.
            if not is_by_hand:
                transaction.on_commit(lambda: self._move_or_leave(records), using=self.database, robust=True)

    def _move_or_leave(self, records: Sequence[Record]) -> None:
        try:
            self._move(records)
        except (StoreUnavailable, DatabaseError) as error:
            # The caller's transaction is committed: that a row could not be struck off is none of its affair.
            logger.warning("action=outbox_kept tasks=%d reason=%r: a worker sends them later", len(records), str(error))

    def _move(self, records: Sequence[Record]) -> None:
        """Send records and delete their rows. Who dies in between leaves rows whose ids are known there already."""
        if records:
            self.insert_unasked(records)
            ids = [record.id for record in records]
            for first in range(0, len(ids), RELAYED):
                _outbox().using(self.database).filter(id__in=ids[first : first + RELAYED]).delete()

    def _patiently[**P, T](self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do it again and again while the server is away, for as long as the settings say."""
        if self.patience <= 0:
            return work(*args, **kwargs)
        deadline = time.monotonic() + self.patience
        pause = FIRST_PAUSE
        while True:
            try:
                return work(*args, **kwargs)
            except StoreUnavailable:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                time.sleep(min(pause, left))
                pause = min(2 * pause, LONGEST_PAUSE)


def _is_by_hand(connection: Any) -> bool:
    """Tell whether somebody has switched autocommit off. Opens no connection."""
    if connection.in_atomic_block:
        # Inside such a transaction atomic() makes savepoints alone.
        return not connection.commit_on_exit
    return not (connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit)


def _read(row: Any) -> Record | None:
    try:
        return Record(*json.loads(row.record))
    except (ValueError, TypeError):
        logger.error("action=outbox_unreadable task_id=%s: its row is left where it is", row.id)  # noqa: TRY400
        return None


def _outbox() -> Any:
    # Asked for when it is needed: a project without an outbox needs no tables of ours.
    return apps.get_model("backroom_tasks", "OutboxRecord").objects
