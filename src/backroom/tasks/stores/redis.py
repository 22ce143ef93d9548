"""The store in Redis or Valkey: each verb is one script over many ids, in `lua/`, whose common part maps the keys.

A shard is a hash tag, and so one slot of a cluster. A record lives in the shard of its unique key, or of its id.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache
from itertools import batched
from math import inf
from pathlib import Path
from typing import Any, Final

from backroom.clock import LAST, SECOND, Moment
from backroom.compact import dumps, loads
from backroom.redis import RedisUnavailable, Script, Server, key
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.records import (
    DEFERRED,
    FAILED,
    READY,
    RUNNING,
    SUCCESSFUL,
    WAITING,
    Claim,
    Held,
    Page,
    Query,
    Record,
    Renewal,
    State,
    Transition,
    Worker,
)
from backroom.tasks.stores.base import COUNT_CAP, Exchange, Mark, Request
from backroom.tasks.stores.chunks import chunks_of, size_of_record, size_of_transition

CHUNK: Final = 1_000
"""Records in one script: while it runs the server serves nobody else."""
CHUNK_BYTES: Final = 1_000_000
"""Bytes of payloads, or of results and errors, after which the rest goes into another script."""
AHEAD: Final = 16
"""Chunks that are sent before the first one is answered."""
TOKENS: Final = 16
"""Workers that one insert wakes at most; the others find what is left by looking."""
LOOKED_AT: Final = 1_000
"""Ids that one script of `find` looks at."""
LOOKS: Final = 500
"""Looks into queues in one script of `oldest_ready`, and fields of a hash that may be long in one command."""
SCANNED: Final = 20_000
"""Ids that one `find` looks at before it returns a page that is not full."""
LONG: Final = 2_000
"""Characters of a payload, and of a JSON with result and errors, beyond which the rest is kept where no search reads it."""
ROW_BYTES: Final = 1_000_000
"""After so much one script of `get` leaves the rest to the next."""
CLAIM_BYTES: Final = 1_000_000
"""After so much a claim leaves the rest where it was, as MOST_BYTES in `exchange.lua` says."""
TRIES: Final = 3
POINTER_SECONDS: Final = 86_400
"""For how long the id of a task that was kept out leads to the one that was in its way."""

FIRST: Final = {"insert": ("insert_plain",), "exchange": ("claim_few",)}
"""The short way of a script, which stands before all else in it."""

LETTERS: Final[dict[State, str]] = {DEFERRED: "d", READY: "r", RUNNING: "x", SUCCESSFUL: "s", FAILED: "f"}
STATES: Final[dict[str, State]] = {letter: state for state, letter in LETTERS.items()}
NOTHING: Final = "-"


class RedisStore:
    """Keeps the records of one backend on a server. Holds no connection of its own."""

    supports_atomic = False
    unavailable: tuple[type[Exception], ...] = (StoreUnavailable,)

    def __init__(self, server: Server, backend_name: str, *, prefix: str = "backroom", shards: int = 1) -> None:
        self.server = server
        self.backend_name = backend_name
        tags = [backend_name] if shards == 1 else [f"{backend_name}.{number}" for number in range(shards)]
        self.shards = tuple(key(prefix, tag) for tag in tags)
        self.asked: tuple[str, ...] = ()
        """The queues that this process claimed from last: those whose bells its listener waits for."""
        self._due_at: float | None = None
        self._turn = 0

    def insert(self, records: Sequence[Record]) -> Mapping[str, str]:
        """See Store.insert(). What is there already is left as it is: it may be called again for want of an answer."""
        return self._insert(records, pointer_seconds=0)

    def insert_unasked(self, records: Sequence[Record]) -> Mapping[str, str]:
        """Insert records whose ids were handed out before: `holder_of` finds what kept one of them out."""
        return self._insert(records, pointer_seconds=POINTER_SECONDS)

    def holder_of(self, id_: str) -> str | None:
        """Return the id of the task that kept this one out, if that was not long ago."""
        if not id_.isprintable():
            return None
        for shard in self.shards:
            if found := self._call("GET", f"{shard}:instead:{id_}"):
                return _text(found)
        return None

    def claim(self, request: Request) -> list[Claim]:
        """See Store.claim(). With several shards the order of priority holds within each."""
        return self.exchange([], request).claims

    def exchange(self, transitions: Sequence[Transition], request: Request | None) -> Exchange:
        """See Store.exchange()."""
        if request is not None and request.limit <= 0:
            request = None
        if request is not None:
            self.asked = request.queues
        if len(self.shards) > 1:
            applied_in_shards = self._apply_in_shards(transitions)
            return Exchange(applied_in_shards, self._claim_in_shards(request) if request else [])
        if not transitions and request is None:
            return Exchange(frozenset(), [])
        applied: set[str] = set()
        claims: list[Claim] = []
        chunks: list[Sequence[Transition]] = list(_chunks(transitions, size_of_transition)) or [()]
        for chunk in chunks:
            asked = request if chunk is chunks[-1] else None
            done, _, claims = self._exchange(self.shards[0], chunk, asked)
            applied |= done
        return Exchange(frozenset(applied), claims)

    def renew(self, renewals: Sequence[Renewal], lease_until: Moment) -> Held:
        """See Store.renew()."""
        held: list[str] = []
        cancelled: list[str] = []
        left = {renewal.id: renewal for renewal in renewals}
        for shard, ids in self._places(left):
            arguments: list[Any] = [lease_until]
            for renewal in (left[id_] for id_ in ids if id_ in left):
                arguments += (renewal.id, renewal.fence, renewal.progress or "")
            if len(arguments) > 1:
                found, asked = self._run("renew", shard, arguments)
                held += map(_text, found)
                cancelled += map(_text, asked)
        return Held(frozenset(held), frozenset(cancelled))

    def overdue(self, limit: int, now: Moment) -> list[Claim]:
        """See Store.overdue()."""
        # What has changed since it was looked for is left out: a lease may have been renewed.
        found = [each for each in self._due("leases", limit, now) if (each.lease_until or LAST) <= now]
        return sorted(found, key=lambda record: (record.lease_until or 0, record.id))[:limit]

    def unstarted(self, limit: int, now: Moment) -> list[Record]:
        """See Store.unstarted()."""
        found = [each for each in self._due("expires", limit, now) if each.state in WAITING]
        return sorted(found, key=lambda record: (record.expires_at or 0, record.id))[:limit]

    def upcoming(self, limit: int, until: Moment, after: Mark | None = None) -> list[Record]:
        """See Store.upcoming()."""
        due_at, id_ = after or Mark()
        found: list[Record] = []
        for _ in range(TRIES):
            ids = [each for shard in self.shards for each in self._run("upcoming", shard, [until, limit, due_at, id_])]
            found = [each for each in self._read(map(_text, ids)) if each.state == DEFERRED]
            if len(found) == len(ids):
                break
            # Some were made ready meanwhile. A list that is short for want of them would look like the last.
        return sorted(found, key=lambda record: (record.due_at or 0, record.id))[:limit]

    def apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        """See Store.apply()."""
        return self.exchange(transitions, None).applied

    def request_cancel(self, ids: Sequence[str]) -> frozenset[str]:
        """See Store.request_cancel()."""
        found = [self._run("request_cancel", shard, some) for shard, some in self._places(_known(ids))]
        return frozenset(_text(id_) for each in found for id_ in each)

    def cancelling(self, worker_id: str) -> frozenset[str]:
        """See Store.cancelling()."""
        found = [self._run("cancelling", shard, [worker_id]) for shard in self.shards]
        return frozenset(_text(id_) for each in found for id_ in each)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """See Store.get()."""
        return sorted(self._read(_known(ids)))

    def find(self, query: Query, *, after: str | None = None, limit: int = 100) -> Page:
        """See Store.find(). A page that is not full and has a `next_after` means that many records did not match."""
        parts = [self._find(shard, query, after or "", limit) for shard in self.shards]
        # Below the highest `last` there may be ids that one of the shards has not looked at yet.
        horizon = max((last for _, last in parts if last), default="")
        ids = sorted((id_ for found, _ in parts for id_ in found if id_ >= horizon), reverse=True)
        page = ids[:limit]
        # What has changed since is left out, as if it had been found later.
        records = [record for record in self._read(page) if _fits(record, query)]
        return Page(sorted(records, reverse=True), page[-1] if len(ids) > limit else horizon or None)

    def counts(self) -> dict[tuple[str, State], int]:
        """See Store.counts()."""
        total: dict[tuple[str, State], int] = {}
        for shard in self.shards:
            for field, count in self._fields(f"{shard}:counts").items():
                name = _text(field)
                place = (_queue_in(name[1:]), STATES[name[0]])
                total[place] = total.get(place, 0) + int(count)
        return {place: min(count, COUNT_CAP) for place, count in total.items() if count > 0}

    def oldest_ready(self) -> list[Record]:
        """See Store.oldest_ready()."""
        ids: list[bytes] = []
        for shard in self.shards:
            queues = list(self._fields(f"{shard}:queues"))
            while queues:
                found, looked_into = self._run("oldest_ready", shard, [LOOKS, *queues[:LOOKS]])
                ids += found
                queues = queues[looked_into:]
        newest_first = sorted(self._read(map(_text, ids)), reverse=True)
        oldest = {record.queue_name: record for record in newest_first if record.state == READY}
        return [oldest[queue] for queue in sorted(oldest)]

    def prune(self, before: Moment, limit: int) -> int:
        """See Store.prune()."""
        pruned = 0
        for shard in self.shards:
            if pruned < limit:
                pruned += int(self._run("prune", shard, [before, limit - pruned]))
        return pruned

    def beat(self, workers: Sequence[Worker]) -> None:
        """See Store.beat()."""
        if workers:
            pairs = [part for worker in workers for part in (worker.id, _noted(worker))]
            self._run("beat", self.shards[0], pairs)

    def workers(self) -> list[Worker]:
        """See Store.workers()."""
        fields = iter(self._call("HGETALL", f"{self.shards[0]}:workers"))
        found = [_worker(_text(id_), value) for id_, value in zip(fields, fields, strict=True)]
        return sorted(found, key=lambda worker: worker.id)

    def forget(self, ids: Sequence[str]) -> None:
        """See Store.forget()."""
        if ids:
            self._call("HDEL", f"{self.shards[0]}:workers", *ids)

    def transaction(self) -> AbstractContextManager[None]:
        """See Store.transaction(); Redis takes nothing back."""
        return nullcontext()

    def bells(self) -> list[str]:
        """Return the keys of the lists on which a worker of this process waits for a token."""
        queues = _queues_out(self.asked) or [""]
        return [f"{self.shards[0]}:bell:{queue}" for queue in queues]

    # ── What a listener sends ahead ──

    def seconds_until_due(self, now: Moment) -> float:
        """Return how long nothing becomes due by itself, as far as the last claim has seen."""
        # A moment longer: the server must not look just before.
        return inf if self._due_at is None else (self._due_at - now) / SECOND + 0.001

    def errand(self, request: Request, shift: int) -> tuple[Any, ...]:
        """Return the command that claims at whatever time the server comes to it; its clock and ours are `shift` apart."""
        self.asked = request.queues
        asked = _asked(request, now=f"@{shift}", lease_until=f"@{request.lease_until - request.now}")
        keys = _keys(self.shards[0])
        return ("EVALSHA", script("exchange").digest, len(keys), *keys, TOKENS, 0, *asked)

    def returned(self, reply: Any, request: Request) -> tuple[list[Claim], Moment]:
        """Return what the reply to an errand says was claimed, and when."""
        _, _, claimed, due_at, now, lease_until = reply
        self._due_at = float(due_at) if due_at else None
        moment = int(now)
        return self._claims(claimed, request.worker_id, moment, int(lease_until)), moment

    def moment_at_server(self, reply: Sequence[bytes]) -> Moment:
        """Return the moment that a reply to TIME says."""
        return int(reply[0]) * SECOND + int(reply[1])

    def bell_for(self, worker_id: str) -> str:
        """Return the key of the list whose tokens are for one worker alone."""
        return f"{self.shards[0]}:bell@{worker_id}"

    @contextmanager
    def rung_for(self, worker_id: str) -> Iterator[None]:
        """Wake one worker, whatever there is for it."""
        bell = self.bell_for(worker_id)
        self._call("RPUSH", bell, "1")
        try:
            yield
        finally:
            self._call("DEL", bell)

    # ── Insert ─────────────────────────────────────────────────────────────────────────────────

    def _insert(self, records: Sequence[Record], *, pointer_seconds: int) -> Mapping[str, str]:
        if len(self.shards) == 1 and len(records) == 1:
            arguments = [TOKENS, pointer_seconds, *_drafted(records[0])]
            return _pairs(self._run("insert", self.shards[0], arguments))
        collisions: dict[str, str] = {}
        calls = []
        for shard, some in self._home(records):
            # Only the first shard has bells.
            tokens = TOKENS if shard == self.shards[0] else 0
            calls += [
                (_keys(shard), [tokens, pointer_seconds, *(part for record in chunk for part in _drafted(record))])
                for chunk in _chunks(some, size_of_record)
            ]
        for few in batched(calls, AHEAD):
            for reply in self._run_each("insert", few):
                collisions |= _pairs(reply)
        if len(self.shards) > 1 and records:
            self._run("ring", self.shards[0], [TOKENS, *{_queue_out(record.queue_name) for record in records}])
        return collisions

    def _home(self, records: Sequence[Record]) -> Iterator[tuple[str, Sequence[Record]]]:
        if len(self.shards) == 1:
            yield self.shards[0], records
            return
        for shard in self.shards:
            if some := [each for each in records if self._shard_of(each.unique_key or each.id) == shard]:
                yield shard, some

    def _shard_of(self, name: str) -> str:
        return self.shards[zlib.crc32(name.encode()) % len(self.shards)]

    def _places(self, ids: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
        """Yield each shard and the ids that may be there: all, for a unique one lives where its key does."""
        asked = list(ids)
        if asked:
            for shard in self.shards:
                for chunk in batched(asked, CHUNK):
                    yield shard, list(chunk)

    # ── Exchange ───────────────────────────────────────────────────────────────────────────────

    def _exchange(
        self, shard: str, transitions: Sequence[Transition], request: Request | None
    ) -> tuple[set[str], list[str], list[Claim]]:
        """Return the ids that applied, those that are not in this shard, and the claims."""
        # Only the first shard has bells.
        tokens = TOKENS if shard == self.shards[0] else 0
        arguments: list[Any] = [tokens, len(transitions)]
        for transition in transitions:
            arguments += _changed(transition)
        if request is None:
            arguments.append(0)
        else:
            arguments += _asked(request, now=request.now, lease_until=request.lease_until)
        lost, absent, claimed, due_at, _, _ = self._run("exchange", shard, arguments)
        if request is not None:
            self._due_at = float(due_at) if due_at else None
        not_applied = set(map(_text, lost))
        applied = {transition.id for transition in transitions if transition.id not in not_applied}
        if request is None or not claimed:
            return applied, list(map(_text, absent)), []
        claims = self._claims(claimed, request.worker_id, request.now, request.lease_until)
        # Some may have been left for want of room. Whoever comes with ids takes what he does not get for another's.
        while request.ids is not None and sum(map(len, claimed)) >= CLAIM_BYTES:
            had = {claim.id for claim in claims}
            left = tuple(id_ for id_ in request.ids if id_ not in had)
            rest = request._replace(ids=left, limit=request.limit - len(claims))
            arguments = [tokens, 0, *_asked(rest, now=request.now, lease_until=request.lease_until)]
            claimed = self._run("exchange", shard, arguments)[2]
            claims += self._claims(claimed, request.worker_id, request.now, request.lease_until)
        return applied, list(map(_text, absent)), claims

    def _apply_in_shards(self, transitions: Sequence[Transition]) -> frozenset[str]:
        applied: set[str] = set()
        elsewhere = []
        for shard in self.shards:
            home = [each for each in transitions if self._shard_of(each.id) == shard]
            for chunk in _chunks(home, size_of_transition):
                done, absent, _ = self._exchange(shard, chunk, None)
                applied |= done
                elsewhere += [each for each in chunk if each.id in absent]
        # A unique record lives where its key does, which its id does not tell.
        for shard in self.shards if elsewhere else ():
            for chunk in _chunks(elsewhere, size_of_transition):
                applied |= self._exchange(shard, chunk, None)[0]
        return frozenset(applied)

    def _claim_in_shards(self, request: Request) -> list[Claim]:
        claims: list[Claim] = []
        self._turn += 1
        for number in range(len(self.shards)):
            if len(claims) < request.limit:
                shard = self.shards[(self._turn + number) % len(self.shards)]
                claims += self._exchange(shard, (), request._replace(limit=request.limit - len(claims)))[2]
        return sorted(claims, key=lambda claim: (-claim.priority, claim.id))

    def _claims(self, flat: list[Any], worker_id: str, now: Moment, lease_until: Moment) -> list[Claim]:
        claims = []
        worker_ids = f"{worker_id} "
        rows = iter(flat)
        for id_ in rows:
            task, live = next(rows), next(rows)
            if live:
                unique_key, progress = next(rows), next(rows)
                claims.append(self._record((id_, task, live, unique_key, progress, lease_until)))
                continue
            # Nobody has touched it before, and so nearly all of it is as it was inserted.
            queue, priority, body, payload = _parsed(task)
            path, enqueued_at, run_after, _, expires_at, scope, until, overrides, metadata = body
            claims.append(
                Record(
                    id_.decode(),
                    self.backend_name,
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

    # ── Read ───────────────────────────────────────────────────────────────────────────────────

    def _record(self, row: Sequence[Any]) -> Record:
        id_, task, live, unique_key, progress, lease_until = row
        queue, priority, body, payload = _parsed(task)
        path, enqueued_at, run_after, due_at, expires_at, scope, until, overrides, metadata = body
        record = Record(
            _text(id_),
            self.backend_name,
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
            unique_key=_text(unique_key) or None,
            unique_scope=scope,
            unique_until=until,
        )
        return _as_it_is(record, live, progress, lease_until) if live else record

    def _read(self, ids: Iterable[str]) -> Iterator[Record]:
        """Yield the records that exist, as many in one script as are not too long."""
        for shard, some in self._places(ids):
            first = 0
            while first < len(some):
                rows, looked_at = self._run("get", shard, [ROW_BYTES, *some[first:]])
                yield from map(self._record, rows)
                first += looked_at

    def _due(self, name: str, limit: int, now: Moment) -> Iterator[Record]:
        ids = [found for shard in self.shards for found in self._run("due", shard, [name, now, limit])]
        return self._read(map(_text, ids))

    def _find(self, shard: str, query: Query, after: str, limit: int) -> tuple[list[str], str]:
        """Return one id more than asked for, if there are so many, and from where to go on looking."""
        states = _states_of(query)
        if states is None:
            return [], ""
        asked = [
            "".join(LETTERS[state] for state in states),
            "" if query.queue_name is None else f"={_queue_out(query.queue_name)}",
            f"={query.worker_id}" if query.worker_id else "",
            _beginning(query.task_path),
            _beginning(query.reason),
            LOOKED_AT,
        ]
        found: list[str] = []
        for _ in range(SCANNED // LOOKED_AT):
            ids, last = self._run("find", shard, [after, limit + 1 - len(found), *asked])
            found += map(_text, ids)
            after = _text(last)
            if not after or len(found) > limit:
                break
        return found, after

    # ── Ask ────────────────────────────────────────────────────────────────────────────────────

    def _call(self, *command: Any) -> Any:
        try:
            return self.server.call(*command)
        except RedisUnavailable as error:
            raise StoreUnavailable(str(error)) from error

    def _fields(self, name: str) -> dict[bytes, bytes]:
        """Return a hash that may be long, read in steps: what changes meanwhile is told as it was or as it is."""
        found: dict[bytes, bytes] = {}
        cursor = b"0"
        while True:
            cursor, flat = self._call("HSCAN", name, cursor, "COUNT", LOOKS)
            fields = iter(flat)
            found.update(zip(fields, fields, strict=True))
            if int(cursor) == 0:
                return found

    def _run(self, name: str, shard: str, arguments: Sequence[Any]) -> Any:
        try:
            return script(name).run(self.server, _keys(shard), arguments)
        except RedisUnavailable as error:
            raise StoreUnavailable(str(error)) from error

    def _run_each(self, name: str, calls: Sequence[Any]) -> list[Any]:
        try:
            return script(name).run_each(self.server, calls)
        except RedisUnavailable as error:
            raise StoreUnavailable(str(error)) from error


def _keys(shard: str) -> tuple[str, str]:
    """Return the keys that a script names: the beginning of all of them, which is none itself, and one that is there.

    While a cluster moves the slot, some keys are here and some there, and a script would take the others for empty.
    The node refuses a script of whose two keys it lacks one, and it always lacks the first: so it is asked again.
    """
    return shard, f"{shard}:tasks"


@cache
def script(name: str) -> Script:
    """Return one of the scripts in `lua/`, with what it does first, and what all have in common, below its flags."""
    folder = Path(__file__).parent / "lua"
    flags, _, body = (folder / f"{name}.lua").read_text().partition("\n")
    above = [*FIRST.get(name, ()), "common"]
    return Script("\n".join((flags, *((folder / f"{each}.lua").read_text() for each in above), body)))


# ── One record ─────────────────────────────────────────────────────────────────────────────────


def _drafted(record: Record) -> list[Any]:
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
    queue = _queue_out(record.queue_name)
    return [
        record.id,
        f"{flags or NOTHING} {record.priority} {queue}\n{path}{record.enqueued_at}{rest}\n{record.payload[:LONG]}",
        *more,
    ]


@lru_cache(maxsize=1024)
def _round_the_moment(path: str, *values: Any) -> tuple[str, str]:
    """Return what stands before and after `enqueued_at` in the JSON that all tasks alike have in common."""
    return f"{dumps((path,))[:-1]},", f",{dumps(values)[1:]}"


def _parsed(task: bytes) -> tuple[str, int, list[Any], str]:
    """Return queue, priority, the rest of what never changes, and the payload."""
    line, body, payload = task.decode().split("\n", 2)
    _, priority, queue = line.split(" ", 2)
    return _queue_in(queue), int(priority), loads(body), payload


def _changed(transition: Transition) -> list[Any]:
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


def _asked(request: Request, *, now: Moment | str, lease_until: Moment | str) -> list[Any]:
    """Return what `exchange` is told of a request."""
    queues = _queues_out(request.queues)
    told: list[Any] = [request.limit, now, lease_until, request.worker_id, len(queues), *queues]
    if request.ids is None:
        return [*told, -1]
    ids = _known(request.ids)
    return [*told, len(ids), *ids]


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
        "progress": _text(progress),
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


def _states_of(query: Query) -> tuple[State, ...] | None:
    """Return the states in which a record can match (none: any), or None when there is no such state."""
    # Only what runs has a worker, and only what failed has a reason.
    implied: dict[State, str | None] = {RUNNING: query.worker_id, FAILED: query.reason}
    states = query.states
    for state, value in implied.items():
        if value and states and state not in states:
            return None
        if value:
            states = (state,)
    return states


def _fits(record: Record, query: Query) -> bool:
    asked = (
        (query.queue_name, record.queue_name),
        (query.task_path, record.task_path),
        (query.reason, record.reason),
        (query.worker_id, record.worker_id),
    )
    return record.state in (query.states or (record.state,)) and all(wanted in {None, found} for wanted, found in asked)


def _beginning(name: str | None) -> str:
    """Return how a JSON begins whose first value is this one, as the script of `find` is told it."""
    return "" if name is None else f"={dumps((name,))[:-1]},"


def _noted(worker: Worker) -> str:
    return dumps(
        (worker.host, worker.pid, worker.queues, worker.threads, worker.started_at, worker.seen_at, worker.running)
    )


def _worker(id_: str, value: bytes) -> Worker:
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
def _queue_out(name: str) -> str:
    """Return a queue's name as the server knows it: printable, and in one line."""
    return json.dumps(name)[1:-1]


@lru_cache(maxsize=16)
def _queues_out(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the queues of a worker, each once: they may be thousands, and are always the same."""
    return tuple(map(_queue_out, dict.fromkeys(names)))


@lru_cache(maxsize=1024)
def _queue_in(name: str) -> str:
    text: str = json.loads(f'"{name}"')
    return text


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _known(ids: Iterable[str]) -> list[str]:
    """Return ids once each, less those that cannot be one."""
    return sorted({id_ for id_ in ids if id_.isprintable()})


def _pairs(flat: Sequence[bytes]) -> dict[str, str]:
    texts = map(_text, flat)
    return dict(zip(texts, texts, strict=True))


def _chunks[T](items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    return chunks_of(items, size_of, count=CHUNK, size=CHUNK_BYTES)
