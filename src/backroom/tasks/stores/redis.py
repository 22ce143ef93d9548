"""The store in Redis or Valkey: each verb is one script over many ids, in `lua/`, whose common part maps the keys.

A shard is a hash tag, and so one slot of a cluster. A record lives in the shard of its unique key, or of its id.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from itertools import batched
from math import inf
from pathlib import Path
from typing import Any, Final

from backroom.clock import LAST, SECOND, Moment
from backroom.redis import RedisUnavailable, Script, Server, key
from backroom.tasks.exceptions import StoreUnavailable
from backroom.tasks.records import (
    DEFERRED,
    FAILED,
    READY,
    RUNNING,
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
from backroom.tasks.stores.redisrecords import (
    LETTERS,
    STATES,
    beginning_of,
    claims_in,
    ids_out,
    pairs_in,
    queue_in,
    queue_out,
    queues_out,
    record_in,
    record_out,
    request_out,
    text_in,
    transition_out,
    worker_in,
    worker_out,
)

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
ROW_BYTES: Final = 1_000_000
"""After so much one script of `get` leaves the rest to the next."""
CLAIM_BYTES: Final = 1_000_000
"""After so much a claim leaves the rest where it was, as MOST_BYTES in `exchange.lua` says."""
TRIES: Final = 3
POINTER_SECONDS: Final = 86_400
"""For how long the id of a task that was kept out leads to the one that was in its way."""

FIRST: Final = {"insert": ("insert_plain",), "exchange": ("claim_few",)}
"""The short way of a script, which stands before all else in it."""


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
                return text_in(found)
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
                held += map(text_in, found)
                cancelled += map(text_in, asked)
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
            found = [each for each in self._read(map(text_in, ids)) if each.state == DEFERRED]
            if len(found) == len(ids):
                break
            # Some were made ready meanwhile. A list that is short for want of them would look like the last.
        return sorted(found, key=lambda record: (record.due_at or 0, record.id))[:limit]

    def apply(self, transitions: Sequence[Transition]) -> frozenset[str]:
        """See Store.apply()."""
        return self.exchange(transitions, None).applied

    def request_cancel(self, ids: Sequence[str]) -> frozenset[str]:
        """See Store.request_cancel()."""
        found = [self._run("request_cancel", shard, some) for shard, some in self._places(ids_out(ids))]
        return frozenset(text_in(id_) for each in found for id_ in each)

    def cancelling(self, worker_id: str) -> frozenset[str]:
        """See Store.cancelling()."""
        found = [self._run("cancelling", shard, [worker_id]) for shard in self.shards]
        return frozenset(text_in(id_) for each in found for id_ in each)

    def get(self, ids: Sequence[str]) -> list[Record]:
        """See Store.get()."""
        return sorted(self._read(ids_out(ids)))

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
                name = text_in(field)
                place = (queue_in(name[1:]), STATES[name[0]])
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
        newest_first = sorted(self._read(map(text_in, ids)), reverse=True)
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
            pairs = [part for worker in workers for part in (worker.id, worker_out(worker))]
            self._run("beat", self.shards[0], pairs)

    def workers(self) -> list[Worker]:
        """See Store.workers()."""
        fields = iter(self._call("HGETALL", f"{self.shards[0]}:workers"))
        found = [worker_in(text_in(id_), value) for id_, value in zip(fields, fields, strict=True)]
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
        queues = queues_out(self.asked) or [""]
        return [f"{self.shards[0]}:bell:{queue}" for queue in queues]

    # ── What a listener sends ahead ──

    def seconds_until_due(self, now: Moment) -> float:
        """Return how long nothing becomes due by itself, as far as the last claim has seen."""
        # A moment longer: the server must not look just before.
        return inf if self._due_at is None else (self._due_at - now) / SECOND + 0.001

    def errand(self, request: Request, shift: int) -> tuple[Any, ...]:
        """Return the command that claims at whatever time the server comes to it; its clock and ours are `shift` apart."""
        self.asked = request.queues
        asked = request_out(request, now=f"@{shift}", lease_until=f"@{request.lease_until - request.now}")
        keys = _keys(self.shards[0])
        return ("EVALSHA", script("exchange").digest, len(keys), *keys, TOKENS, 0, *asked)

    def returned(self, reply: Any, request: Request) -> tuple[list[Claim], Moment]:
        """Return what the reply to an errand says was claimed, and when."""
        _, _, claimed, due_at, now, lease_until = reply
        self._due_at = float(due_at) if due_at else None
        moment = int(now)
        return claims_in(claimed, self.backend_name, request.worker_id, moment, int(lease_until)), moment

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
            arguments = [TOKENS, pointer_seconds, *record_out(records[0])]
            return pairs_in(self._run("insert", self.shards[0], arguments))
        collisions: dict[str, str] = {}
        calls = []
        for shard, some in self._home(records):
            # Only the first shard has bells.
            tokens = TOKENS if shard == self.shards[0] else 0
            calls += [
                (_keys(shard), [tokens, pointer_seconds, *(part for record in chunk for part in record_out(record))])
                for chunk in _chunks(some, size_of_record)
            ]
        for few in batched(calls, AHEAD):
            for reply in self._run_each("insert", few):
                collisions |= pairs_in(reply)
        if len(self.shards) > 1 and records:
            self._run("ring", self.shards[0], [TOKENS, *{queue_out(record.queue_name) for record in records}])
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
            arguments += transition_out(transition)
        if request is None:
            arguments.append(0)
        else:
            arguments += request_out(request, now=request.now, lease_until=request.lease_until)
        lost, absent, claimed, due_at, _, _ = self._run("exchange", shard, arguments)
        if request is not None:
            self._due_at = float(due_at) if due_at else None
        not_applied = set(map(text_in, lost))
        applied = {transition.id for transition in transitions if transition.id not in not_applied}
        if request is None or not claimed:
            return applied, list(map(text_in, absent)), []
        claims = claims_in(claimed, self.backend_name, request.worker_id, request.now, request.lease_until)
        # Some may have been left for want of room. Whoever comes with ids takes what he does not get for another's.
        while request.ids and len(claims) < request.limit and sum(map(len, claimed)) >= CLAIM_BYTES:
            had = {claim.id for claim in claims}
            left = tuple(id_ for id_ in request.ids if id_ not in had)
            rest = request._replace(ids=left, limit=request.limit - len(claims))
            arguments = [tokens, 0, *request_out(rest, now=request.now, lease_until=request.lease_until)]
            claimed = self._run("exchange", shard, arguments)[2]
            claims += claims_in(claimed, self.backend_name, request.worker_id, request.now, request.lease_until)
        return applied, list(map(text_in, absent)), claims

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

    # ── Read ───────────────────────────────────────────────────────────────────────────────────

    def _read(self, ids: Iterable[str]) -> Iterator[Record]:
        """Yield the records that exist, as many in one script as are not too long."""
        for shard, some in self._places(ids):
            first = 0
            while first < len(some):
                rows, looked_at = self._run("get", shard, [ROW_BYTES, *some[first:]])
                yield from (record_in(row, self.backend_name) for row in rows)
                first += looked_at

    def _due(self, name: str, limit: int, now: Moment) -> Iterator[Record]:
        ids = [found for shard in self.shards for found in self._run("due", shard, [name, now, limit])]
        return self._read(map(text_in, ids))

    def _find(self, shard: str, query: Query, after: str, limit: int) -> tuple[list[str], str]:
        """Return one id more than asked for, if there are so many, and from where to go on looking."""
        states = _states_of(query)
        if states is None:
            return [], ""
        asked = [
            "".join(LETTERS[state] for state in states),
            "" if query.queue_name is None else f"={queue_out(query.queue_name)}",
            f"={query.worker_id}" if query.worker_id else "",
            beginning_of(query.task_path),
            beginning_of(query.reason),
            LOOKED_AT,
        ]
        found: list[str] = []
        for _ in range(SCANNED // LOOKED_AT):
            ids, last = self._run("find", shard, [after, limit + 1 - len(found), *asked])
            found += map(text_in, ids)
            after = text_in(last)
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


@cache
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


def _chunks[T](items: Sequence[T], size_of: Callable[[T], int]) -> Iterator[list[T]]:
    return chunks_of(items, size_of, count=CHUNK, size=CHUNK_BYTES)
