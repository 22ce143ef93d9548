"""A task on its way to becoming records: what all its calls have in common, and then each call's own part.

Knows no store and no clock: `now` is an argument.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from backroom.clock import Moment, after
from backroom.tasks.arguments import normalized, payload_of
from backroom.tasks.compact import dumps
from backroom.tasks.exceptions import InvalidArguments
from backroom.tasks.moments import moment_of
from backroom.tasks.overrides import encoded
from backroom.tasks.records import DEFERRED, READY, Record
from backroom.tasks.resolve import module_task

_PAYLOAD: Final = Record._fields.index("payload")


class Drafted(NamedTuple):
    """A record, and the arguments that it was made of as JSON has them."""

    record: Record
    args: list[Any]
    kwargs: dict[str, Any]


class Draft:
    """A task's records-to-be, all enqueued at one moment."""

    def __init__(self, task: Any, *, backend_name: str, now: Moment, max_payload_bytes: int) -> None:
        self._unique = getattr(task, "unique", None)
        self._limit = max_payload_bytes
        blank = _blank(task, backend_name, now)
        self._before, self._after = blank[1:_PAYLOAD], blank[_PAYLOAD + 1 :]

    def record(self, id_: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Drafted:
        """Return the record of one call; raise `InvalidArguments` for what cannot travel."""
        plain_args, plain_kwargs, payload = payload_of(args, kwargs, limit=self._limit)
        record = Record._make((id_, *self._before, payload, *self._after))
        if self._unique is not None:
            record = _with_unique_key(record, self._unique, plain_args, plain_kwargs)
        return Drafted(record, plain_args, plain_kwargs)


def _blank(task: Any, backend_name: str, now: Moment) -> Record:
    run_after = None if task.run_after is None else moment_of(task.run_after)
    is_deferred = run_after is not None and run_after > now
    path = task.module_path
    return Record(
        "",
        backend_name,
        task.queue_name,
        int(task.priority),
        path,
        "",
        now,
        encoded(task, module_task(path)),
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
    expires = getattr(task, "expires", None)
    return None if expires is None else after(start, expires)


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
