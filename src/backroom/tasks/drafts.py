"""A task on its way to becoming records: what all its calls have in common, and then each call's own part.

Knows no store and no clock: `now` is an argument.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from backroom.clock import Moment, after
from backroom.compact import dumps
from backroom.tasks.arguments import normalized, payload_of
from backroom.tasks.exceptions import InvalidArguments
from backroom.tasks.moments import moment_of
from backroom.tasks.overrides import encoded
from backroom.tasks.records import DEFERRED, READY, Record
from backroom.tasks.resolve import module_task

_PAYLOAD: Final = Record._fields.index("payload")
_ENQUEUED_AT: Final = Record._fields.index("enqueued_at")
_new: Final = tuple.__new__
assert _ENQUEUED_AT == _PAYLOAD + 1  # noqa: S101 - what differs from call to call stands together


class Drafted(NamedTuple):
    """A record, and the arguments that it was made of as JSON has them."""

    record: Record
    args: list[Any]
    kwargs: dict[str, Any]


class Draft:
    """What all records of a task have in common that are enqueued at one moment; at any, when it `lasts`."""

    __slots__ = ("_after", "_before", "_limit", "_unique", "lasts", "task")

    def __init__(self, task: Any, *, backend_name: str, now: Moment, max_payload_bytes: int) -> None:
        self.task = task
        base = module_task(task.module_path)
        # Whoever changed something, or may change it yet, has it looked at anew at each enqueue.
        self.lasts = (
            task is base
            and task.run_after is None
            and _expires_in(task) is None
            and not getattr(task, "metadata", None)
        )
        self._unique = getattr(task, "unique", None)
        self._limit = max_payload_bytes
        blank = _blank(task, base, backend_name, now)
        self._before, self._after = blank[1:_PAYLOAD], blank[_ENQUEUED_AT + 1 :]

    def record(self, id_: str, args: Sequence[Any], kwargs: Mapping[str, Any], *, now: Moment) -> Drafted:
        """Return the record of one call; raise `InvalidArguments` for what cannot travel."""
        plain_args, plain_kwargs, payload = payload_of(args, kwargs, limit=self._limit)
        # What _make() does beside this, for each of many thousands, is to count.
        record = _new(Record, (id_, *self._before, payload, now, *self._after))
        if self._unique is not None:
            record = _with_unique_key(record, self._unique, plain_args, plain_kwargs)
        return Drafted(record, plain_args, plain_kwargs)


def _blank(task: Any, base: Any, backend_name: str, now: Moment) -> Record:
    run_after = None if task.run_after is None else moment_of(task.run_after)
    is_deferred = run_after is not None and run_after > now
    return Record(
        "",
        backend_name,
        task.queue_name,
        int(task.priority),
        task.module_path,
        "",
        now,
        encoded(task, base),
        _metadata(task),
        DEFERRED if is_deferred else READY,
        "",
        run_after,
        run_after if is_deferred else None,
        _expires_at(task, max(now, run_after or now)),
    )


def _metadata(task: Any) -> str:
    metadata = getattr(task, "metadata", None)
    return dumps(normalized(metadata, "metadata")) if metadata else ""


def _expires_at(task: Any, start: Moment) -> Moment | None:
    expires = _expires_in(task)
    return None if expires is None else after(start, expires)


def _expires_in(task: Any) -> float | None:
    # Tasks that other backends' settings made have no options of ours.
    return getattr(task, "expires", None)


def _with_unique_key(record: Record, unique: Any, args: list[Any], kwargs: dict[str, Any]) -> Record:
    if unique.key is None:
        key = json.dumps([args, kwargs], sort_keys=True)
    else:
        key = unique.key(*args, **kwargs)
        if not isinstance(key, str):
            msg = f"The unique key of {record.task_path} is {key!r}. Its key function must return a string."
            raise InvalidArguments(msg)
    until = after(record.enqueued_at, unique.scope) if unique.stored_scope == "window" else None
    return record._replace(
        # Hashed, so that a key of any length fits the index and the arguments stay out of it.
        unique_key=hashlib.sha256(f"{record.task_path}\n{key}".encode("utf-8", "surrogatepass")).hexdigest(),
        unique_scope=unique.stored_scope,
        unique_until=until,
    )
