"""How tasks are told to the scripts of Redis, and read back from what these return. `lua/common.lua` says what lies where."""

import json
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from backroom.clock import LAST, Moment
from backroom.compact import dumps, loads
from backroom.tasks.records import (
    DEFERRED,
    FAILED,
    READY,
    RUNNING,
    SUCCESSFUL,
    WAITING,
    Claim,
    Record,
    State,
    Transition,
    Worker,
)
from backroom.tasks.stores.base import Request

LONG: Final = 2_000
"""Characters of a payload, and of a JSON with result and errors, beyond which the rest is kept where no search reads it."""
LETTERS: Final[dict[State, str]] = {DEFERRED: "d", READY: "r", RUNNING: "x", SUCCESSFUL: "s", FAILED: "f"}
STATES: Final[dict[str, State]] = {letter: state for state, letter in LETTERS.items()}
NOTHING: Final = "-"


# ── Out ──────────────────────────────────────────────────────────────────────────────────────


def record_out(record: Record) -> list[Any]:
    """Return what `insert` is told of a record."""
    flags = ""
    more: list[Any] = []
    is_deferred = record.state == DEFERRED
    if is_deferred:
        flags += "d"
        more.append(record.due_at)
    if record.expires_at is not None:
        flags += "e"
        more.append(record.expires_at)
    if record.unique_key is not None:
        flags += "p" if record.unique_scope == "pending" else "u"
        more += (record.unique_key, NOTHING if record.unique_until is None else record.unique_until, record.enqueued_at)
    path, rest = _round_the_moment(
        record.task_path,
        record.run_after,
        record.due_at if is_deferred else None,
        record.expires_at,
        record.unique_scope,
        record.unique_until,
        record.overrides,
        record.metadata,
    )
    if len(record.payload) > LONG:
        flags += "l"
        more.append(record.payload[LONG:])
    queue = queue_out(record.queue_name)
    return [
        record.id,
        f"{flags or NOTHING} {record.priority} {queue}\n{path}{record.enqueued_at}{rest}\n{record.payload[:LONG]}",
        *more,
    ]


@lru_cache(maxsize=1024)
def _round_the_moment(path: str, *values: Any) -> tuple[str, str]:
    """Return what stands before and after `enqueued_at` in the JSON that all tasks alike have in common."""
    return f"{dumps((path,))[:-1]},", f",{dumps(values)[1:]}"


def transition_out(transition: Transition) -> list[Any]:
    """Return what `exchange` is told of a transition."""
    options = "" if transition.unique_key is not None else "u"
    if transition.cancel_requested is not None:
        options += "c" if transition.cancel_requested else "n"
    is_waiting = transition.state in WAITING
    score = transition.due_at if is_waiting else transition.prune_at
    body = dumps(
        (
            transition.reason,
            transition.due_at,
            transition.expires_at,
            transition.finished_at,
            transition.prune_at,
            transition.failures,
            transition.crashes,
            transition.result,
            transition.errors,
        )
    )
    told: list[Any] = [
        transition.id,
        transition.fence,
        LETTERS[transition.state],
        options,
        transition.attempts,
        NOTHING if transition.started_at is None else transition.started_at,
        transition.expires_at if is_waiting and transition.expires_at is not None else "",
        # What is not to be pruned stands behind everything that is.
        "+inf" if score is None else score,
        transition.worker_ids,
        body[:LONG],
    ]
    if transition.progress is not None:
        told[3] += "p"
        told.append(transition.progress)
    if len(body) > LONG:
        told[3] += "m"
        told.append(body[LONG:])
    return told


def request_out(request: Request, *, now: Moment | str, lease_until: Moment | str) -> list[Any]:
    """Return what `exchange` is told of a request."""
    queues = queues_out(request.queues)
    told: list[Any] = [request.limit, now, lease_until, request.worker_id, len(queues), *queues]
    if request.ids is None:
        return [*told, -1]
    ids = ids_out(request.ids)
    return [*told, len(ids), *ids]


def beginning_of(name: str | None) -> str:
    """Return how a JSON begins whose first value is this one, as the script of `find` is told it."""
    return "" if name is None else f"={dumps((name,))[:-1]},"


def worker_out(worker: Worker) -> str:
    """Return what is noted of a worker."""
    return dumps(
        (worker.host, worker.pid, worker.queues, worker.threads, worker.started_at, worker.seen_at, worker.running)
    )


# ── In ───────────────────────────────────────────────────────────────────────────────────────


def claims_in(flat: list[Any], backend_name: str, worker_id: str, now: Moment, lease_until: Moment) -> list[Claim]:
    """Return the claims that `exchange` has made."""
    claims = []
    worker_ids = f"{worker_id} "
    rows = iter(flat)
    for id_ in rows:
        task, live = next(rows), next(rows)
        if live:
            unique_key, progress = next(rows), next(rows)
            claims.append(record_in((id_, task, live, unique_key, progress, lease_until), backend_name))
            continue
        # Nobody has touched it before, and so nearly all of it is as it was inserted.
        queue, priority, body, payload = _parsed(task)
        path, enqueued_at, run_after, _, expires_at, scope, until, overrides, metadata = body
        claims.append(
            Record(
                id_.decode(),
                backend_name,
                queue,
                priority,
                path,
                payload,
                enqueued_at,
                overrides,
                metadata,
                RUNNING,
                "",
                run_after,
                None,
                expires_at,
                None,
                scope,
                until,
                1,
                1,
                0,
                0,
                False,  # noqa: FBT003 - a row
                now,
                now,
                None,
                None,
                lease_until,
                worker_id,
                worker_ids,
            )
        )
    return claims


def record_in(row: Sequence[Any], backend_name: str) -> Record:
    """Return the record of a row that `get` has read."""
    id_, task, live, unique_key, progress, lease_until = row
    queue, priority, body, payload = _parsed(task)
    path, enqueued_at, run_after, due_at, expires_at, scope, until, overrides, metadata = body
    record = Record(
        text_in(id_),
        backend_name,
        queue,
        priority,
        path,
        payload,
        enqueued_at,
        overrides,
        metadata,
        READY if due_at is None else DEFERRED,
        run_after=run_after,
        due_at=due_at,
        expires_at=expires_at,
        unique_key=text_in(unique_key) or None,
        unique_scope=scope,
        unique_until=until,
    )
    return _as_it_is(record, live, progress, lease_until) if live else record


def _parsed(task: bytes) -> tuple[str, int, list[Any], str]:
    """Return queue, priority, the rest of what never changes, and the payload."""
    line, body, payload = task.decode().split("\n", 2)
    _, priority, queue = line.split(" ", 2)
    return queue_in(queue), int(priority), loads(body), payload


def _as_it_is(record: Record, live: bytes, progress: bytes, lease_until: Any) -> Record:
    """Return a record with what has become of it since it was inserted."""
    line, worker_ids, body = live.decode().split("\n", 2)
    fence, letter, attempts, started_at, last_at, worker_id, flags, _, _ = line.split(" ", 8)
    state = STATES[letter]
    values: dict[str, Any] = {
        "state": state,
        "due_at": record.due_at if state == DEFERRED else None,
        "fence": int(fence),
        "attempts": int(attempts),
        "started_at": None if started_at == NOTHING else int(started_at),
        "last_attempted_at": None if last_at == NOTHING else int(last_at),
        "cancel_requested": "c" in flags,
        "worker_id": "" if worker_id == NOTHING else worker_id,
        "worker_ids": worker_ids,
        "progress": text_in(progress),
    }
    if state == RUNNING:
        # A score is a double: the very last moment there is would come back as one beyond it.
        values["lease_until"] = min(int(float(lease_until)), LAST) if lease_until else None
    if body:
        reason, due_at, expires_at, finished_at, prune_at, failures, crashes, result, errors = loads(body)
        values |= {
            "reason": reason,
            "due_at": due_at if state == DEFERRED else None,
            "expires_at": expires_at,
            "finished_at": finished_at,
            "prune_at": prune_at,
            "failures": failures,
            "crashes": crashes,
            "result": result,
            "errors": errors,
        }
    return record._replace(**values)


def worker_in(id_: str, value: bytes) -> Worker:
    """Return the worker of whom that was noted."""
    host, pid, queues, threads, started_at, seen_at, running = json.loads(value)
    return Worker(
        id=id_,
        host=host,
        pid=pid,
        queues=tuple(queues),
        threads=threads,
        started_at=started_at,
        seen_at=seen_at,
        running=running,
    )


# ── Words ──────────────────────────────────────────────────────────────────────────────────────


@lru_cache(maxsize=1024)
def queue_out(name: str) -> str:
    """Return a queue's name as the server knows it: printable, and in one line."""
    return json.dumps(name)[1:-1]


@lru_cache(maxsize=16)
def queues_out(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the queues of a worker, each once: they may be thousands, and are always the same."""
    return tuple(map(queue_out, dict.fromkeys(names)))


@lru_cache(maxsize=1024)
def queue_in(name: str) -> str:
    """Return the name of a queue that the server knows so."""
    text: str = json.loads(f'"{name}"')
    return text


def text_in(value: bytes | str) -> str:
    """Return a reply as text."""
    return value.decode() if isinstance(value, bytes) else value


def ids_out(ids: Iterable[str]) -> list[str]:
    """Return ids once each, less those that cannot be one."""
    return sorted({id_ for id_ in ids if id_.isprintable()})


def pairs_in(flat: Sequence[bytes]) -> dict[str, str]:
    """Return as pairs what a script returned one after the other."""
    texts = map(text_in, flat)
    return dict(zip(texts, texts, strict=True))
