"""Examine whether tasks can be kept, announced and worked on here, and say what to do about what is wrong.

Nothing is changed: the examination reads, and rings the workers' bell once.
"""

import importlib
import pkgutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final, Literal, NamedTuple

from django.conf import settings
from django.core import checks
from django.db import Error as DatabaseTrouble
from django.db import connections
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

from backroom.clock import SECOND, after, seconds_between
from backroom.errors import BackroomError
from backroom.sql.dialect import ADVISED_FOR_FILES, FileState, file_state, is_server, product, server_moment
from backroom.tasks import queries
from backroom.tasks.backends.base import Backend
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.backends.database import DatabaseBackend
from backroom.tasks.checks import TAG, check_version
from backroom.tasks.records import READY, Worker
from backroom.tasks.tables import count, span
from backroom.tasks.transports.wakeups import is_heard
from backroom.tasks.worker import WorkerSettings

type Level = Literal["ok", "warn", "fail"]

OK: Final = "ok"
WARN: Final = "warn"
FAIL: Final = "fail"

ROUND_TRIPS: Final = 21
SLOW: Final = 0.02
"""Seconds there and back: what every `enqueue()` in a request costs at least."""
CLOCK_SAMPLES: Final = 5
SKEW: Final = 1.0
"""Seconds between two clocks that a person should know of."""
EAR: Final = 3.0
"""Seconds in which a ring must be heard."""
LONG_WAIT: Final = 300.0
"""Seconds that a ready task may wait for a worker before that is news."""
SHORT_TIMEOUT: Final = 5_000
"""Milliseconds."""
SPARE: Final = 4
"""Connections of a worker process beside one for each thread: claims, leases, maintenance, coroutines."""
DEFAULT_POOL: Final = 4


class Finding(NamedTuple):
    """What was looked at, what it is like, and what to do about it."""

    level: Level
    subject: str
    text: str
    advice: str = ""


type Findings = Iterator[Finding]


def examine(alias: str, *, patience: float = 10.0) -> list[Finding]:
    """Return the findings on one TASKS alias of ours; `patience` is what the store may take to answer at all."""
    backend = queries.backend_of(alias)
    found: list[Finding] = []
    for look in (_settings, _reach(patience), _tables, *LOOKS):
        found += look(backend)
        # What follows asks the store, which is no use when the settings are wrong, or the store away or empty.
        if look not in LOOKS and any(finding.level == FAIL for finding in found):
            break
    return found


def advice_to_migrate(backend: Backend) -> str | None:
    """Return what to do about tables that are missing or old, or None. Raise the database's error when it is away."""
    database = _database(backend)
    if database is None or not (missing := _unapplied(database)):
        return None
    return (
        f"Database {database!r} lacks {count(len(missing), 'migration')} of backroom_tasks ({', '.join(missing)}). "
        f"Run manage.py migrate --database={database}"
    )


def reason_of(error: Exception, alias: str | None) -> str:
    """Return what an error of the database means for an operator, and what to do about it."""
    for backend in map(queries.backend_of, queries.shared_aliases() if alias is None else [alias]):
        try:
            advice = advice_to_migrate(backend)
        except DatabaseTrouble as trouble:
            return f"Database {_database(backend)!r} does not answer: {_sentence(trouble)} {_cure(_database(backend))}"
        if advice is not None:
            return advice
    return f"The database refused: {_sentence(error)}"


def _settings(backend: Backend) -> Findings:
    found = [each for each in (*checks.run_checks(tags=[TAG]), *backend.check()) if not each.is_silenced()]
    for message in found:
        yield Finding(
            FAIL if message.is_serious() else WARN, "settings", f"{message.msg} ({message.id})", message.hint or ""
        )
    if not found:
        yield Finding(OK, "settings", "the system checks find nothing wrong")
    if settings.DEBUG:
        yield Finding(
            WARN,
            "settings",
            "DEBUG is on: every connection of a worker remembers its last 9000 statements",
            "Turn DEBUG off where a worker runs for long.",
        )


def _reach(patience: float) -> Callable[[Backend], Findings]:
    def reach(backend: Backend) -> Findings:
        database = _database(backend)
        if database is None:
            yield from _greet_server(backend, patience)
            return
        try:
            name = _within(patience, lambda: _greet(database))
        except (DatabaseTrouble, TimeoutError) as error:
            yield Finding(FAIL, "database", f"{database!r} does not answer: {_sentence(error)}", _cure(database))
            return
        too_old = check_version(database)
        yield Finding(FAIL if too_old else OK, "database", name, str(too_old[0].hint) if too_old else "")

    return reach


def _greet_server(backend: Backend, patience: float) -> Findings:
    ask: Any = getattr(backend, "examine_server", None)
    if ask is None:
        return
    try:
        product, messages = _within(patience, ask)
    except (BackroomError, TimeoutError) as error:
        yield Finding(FAIL, "server", _sentence(error))
        return
    yield Finding(OK, "server", product)
    for message in messages:
        level: Level = FAIL if message.is_serious() else WARN
        yield Finding(level, "server", f"{message.msg} ({message.id})", message.hint or "")


def _greet(database: str) -> str:
    try:
        connections[database].ensure_connection()
        return product(database)
    finally:
        connections[database].close()


def _within[T](patience: float, work: Callable[[], T]) -> T:
    """Do it in a thread, and go on without it when it takes too long: a frozen server says nothing for hours."""
    done: SimpleQueue[Callable[[], T]] = SimpleQueue()

    def run() -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001 - it is raised again by whoever waits
            caught = error
            done.put(lambda: _raise(caught))
        else:
            done.put(lambda: result)

    threading.Thread(target=run, name="backroom-doctor", daemon=True).start()
    try:
        return done.get(timeout=patience)()
    except Empty:
        msg = f"it said nothing for {span(patience)}"
        raise TimeoutError(msg) from None


def _raise(error: Exception) -> Any:
    raise error


def _tables(backend: Backend) -> Findings:
    advice = advice_to_migrate(backend)
    if advice is None:
        yield Finding(OK, "migrations", "all applied")
    else:
        what, _, cure = advice.partition(". ")
        yield Finding(FAIL, "migrations", what, cure)


def _round_trip(backend: Backend) -> Findings:
    backend.store.get([""])
    took = sorted(_timed(lambda: backend.store.get([""])) for _ in range(ROUND_TRIPS))
    median = statistics.median(took)
    text = f"{_ms(median)} there and back (median of {ROUND_TRIPS}, {_ms(took[0])} to {_ms(took[-1])})"
    if median < SLOW:
        yield Finding(OK, "round trip", text)
    else:
        yield Finding(WARN, "round trip", text, "Each enqueue costs a request that much. Bring the store nearer.")


def _file(backend: Backend) -> Findings:
    database = _database(backend)
    state = file_state(database) if database is not None else None
    if state is None:
        return
    if state.is_in_memory:
        yield Finding(FAIL, "file", "the database is in memory: no worker sees it", "Give DATABASES a NAME of a file.")
        return
    paste = f"DATABASES[{database!r}]['OPTIONS'] = {ADVISED_FOR_FILES}"
    yield _journal(state, paste)
    yield _locks(state, paste)
    yield _durability(state)


def _journal(state: FileState, paste: str) -> Finding:
    if state.journal_mode == "wal":
        return Finding(OK, "file", "journal_mode is WAL: readers and the writer do not wait for one another")
    text = f"journal_mode is {state.journal_mode}: readers and the writer wait for one another"
    return Finding(WARN, "file", text, f"A worker switches it at its start; to be sure, set {paste}")


def _locks(state: FileState, paste: str) -> Finding:
    if state.transaction_mode == "DEFERRED":
        text = "transaction_mode is DEFERRED: a transaction of yours that reads first may fail as locked"
        return Finding(WARN, "locks", text, f"Set {paste}")
    if state.busy_timeout < SHORT_TIMEOUT:
        text = f"a statement of yours waits only {state.busy_timeout / 1000:g} s for the write lock"
        return Finding(WARN, "locks", text, f"Set {paste}")
    text = (
        f"transaction_mode is {state.transaction_mode}, a statement waits {state.busy_timeout / 1000:g} s for the lock"
    )
    return Finding(OK, "locks", text)


def _durability(state: FileState) -> Finding:
    match state.synchronous:
        case 0:
            text = "synchronous is OFF: a power cut can corrupt the file"
            return Finding(FAIL, "durability", text, "Take PRAGMA synchronous=OFF out of init_command.")
        case 1:
            text = "synchronous is NORMAL: a power cut takes back the last commits, and tasks with them"
            return Finding(WARN, "durability", text, "Leave it so if that is acceptable; else PRAGMA synchronous=FULL.")
    return Finding(OK, "durability", "synchronous is FULL: what is committed survives a power cut")


def _clock(backend: Backend) -> Findings:
    database = _database(backend)
    if database is None or not is_server(database):
        return
    skew, doubt = min((_skew(backend, database) for _ in range(CLOCK_SAMPLES)), key=lambda sample: sample[1])
    text = f"{abs(skew):.3f} s {'behind' if skew > 0 else 'ahead of'} the server's (± {_ms(doubt)})"
    if abs(skew) - doubt < SKEW:
        yield Finding(OK, "clock", text)
        return
    lease = backend.settings.lease
    level: Level = FAIL if abs(skew) - doubt >= lease / 2 else WARN
    advice = f"Synchronize the clocks (NTP). A worker whose clock is ahead by the lease of {lease:g} s robs the others."
    yield Finding(level, "clock", text, advice)


def _skew(backend: Backend, database: str) -> tuple[float, float]:
    """Return by how much the server's clock is ahead of this machine's, and how uncertain that is."""
    before = backend.clock.now()
    server = server_moment(database) or before
    trip = seconds_between(before, backend.clock.now())
    return seconds_between(after(before, trip / 2), server), trip / 2 + 1 / SECOND


def _wakeup(backend: Backend) -> Findings:
    wakeup: Any = getattr(backend, "wakeup", None)
    if wakeup is None:
        return
    polls = f"workers look every {backend.settings.poll:g} s"
    if not getattr(backend.settings, "notify", True):
        yield Finding(OK, "wake-up", f"turned off; {polls}")
        return
    took = _heard_after(backend, wakeup)
    if took is not None:
        yield Finding(OK, "wake-up", f"a ring is heard after {_ms(took)}")
        return
    if wakeup.channel is not None:
        text = f"NOTIFY does not arrive, as behind a PgBouncer that pools transactions; nothing is lost: {polls}"
        advice = "To be woken at once, give TASKS an alias of DATABASES that leads past the pool. DISABLE_SERVER_SIDE_CURSORS should be True behind it."
    else:
        text = f"the doorbell does not ring; nothing is lost: {polls}"
        advice = "Its folder, backroom-<uid> in the folder for temporary files, must belong to this user alone."
    yield Finding(WARN, "wake-up", text, advice)


def _heard_after(backend: Backend, wakeup: Any) -> float | None:
    """Ring, and return the seconds until it was heard, or None."""
    listener = backend.listener()
    listener.open()
    try:
        # Some ring by themselves when they begin to hear, for what came before.
        listener.hear()
        rung_at = time.perf_counter()
        wakeup.ring()
        return time.perf_counter() - rung_at if is_heard(listener, within=EAR) else None
    finally:
        listener.close()


def _broker(backend: Backend) -> Findings:
    if not isinstance(backend, CeleryBackend):
        return
    transport = backend.transport
    names = {transport.queue_of(name) for name in [*backend.queues, *backend.settings.queue_map, ""]}
    for name in sorted(names):
        depth = transport.depth(name)
        if depth is None:
            advice = (
                "Start it, or correct broker_url of the Celery app. What is enqueued meanwhile is sent when it is back."
            )
            yield Finding(FAIL, "broker", "does not answer", advice)
            return
        yield Finding(OK, "broker", f"{count(depth, 'message')} in the Celery queue {name}")


def _connections(backend: Backend) -> Findings:
    database = _database(backend)
    if database is None or not is_server(database):
        return
    described = connections[database].settings_dict
    pool = described["OPTIONS"].get("pool")
    if pool:
        sizes = pool if isinstance(pool, dict) else {}
        size = sizes.get("max_size") or sizes.get("min_size", DEFAULT_POOL)
        threads = max([worker.threads for worker in queries.workers(using=backend.alias)] or [WorkerSettings().threads])
        level: Level = OK if size >= threads + SPARE else WARN
        advice = (
            f"Give it a max_size of {threads + SPARE} or more: {threads} threads, and {SPARE} for the worker itself."
        )
        yield Finding(level, "connections", f"a pool of at most {size}", "" if level == OK else advice)
    elif described["CONN_MAX_AGE"] == 0:
        text = "CONN_MAX_AGE is 0: a request opens a connection before it can enqueue (a worker keeps its own)"
        yield Finding(WARN, "connections", text, "Set CONN_MAX_AGE = 60 and CONN_HEALTH_CHECKS = True, or a pool.")
    else:
        yield Finding(OK, "connections", f"kept for {described['CONN_MAX_AGE'] or 'ever'}")


def _workers(backend: Backend) -> Findings:
    now = backend.clock.now()
    workers = queries.workers(using=backend.alias)
    alive = [worker for worker in workers if not queries.is_silent(worker, now=now, using=backend.alias)]
    start = f"Start one: {backend.served_by}"
    for worker in workers:
        if worker not in alive:
            silent = span(seconds_between(worker.seen_at, now))
            text = f"{worker.id} has been silent for {silent}"
            yield Finding(WARN, "workers", text, "If it is gone, others take its tasks, and forget it before long.")
    if not alive:
        yield Finding(WARN, "workers", "none has been heard of", start)
        return
    running = sum(worker.running for worker in alive)
    yield Finding(OK, "workers", f"{count(len(alive), 'process', 'processes')} alive, {count(running, 'task')} running")
    if unserved := sorted(queue for queue in _queues(backend) if not _serves(alive, queue)):
        text = f"nobody works on {', '.join(unserved)}"
        yield Finding(WARN, "queues", text, "Name them in --queues of a worker, or start one without --queues.")


def _queues(backend: Backend) -> set[str]:
    ready = {queue for (queue, state), _ in queries.counts(using=backend.alias).items() if state == READY}
    return ready | backend.queues


def _serves(workers: Sequence[Worker], queue: str) -> bool:
    return any(not worker.queues or queue in worker.queues for worker in workers)


def _backlog(backend: Backend) -> Findings:
    now = backend.clock.now()
    oldest = queries.oldest_ready(using=backend.alias)
    waits = {record.queue_name: seconds_between(queries.ready_since(record), now) for record in oldest}
    for queue, waited in waits.items():
        if waited > LONG_WAIT:
            text = f"a task in {queue} has been waiting for {span(waited)}"
            yield Finding(WARN, "backlog", text, "Start more workers, or find out with status what keeps them.")
    if overdue := backend.store.overdue(1000, after(now, -backend.settings.lease)):
        text = f"{count(len(overdue), 'task')} of dead workers lie idle"
        yield Finding(WARN, "backlog", text, "Any worker of this backend takes them over: start one.")
    if not overdue and max(waits.values(), default=0) <= LONG_WAIT:
        longest = max(waits.values(), default=None)
        yield Finding(OK, "backlog", "nothing waits" if longest is None else f"the longest wait is {span(longest)}")


LOOKS: Final = (_round_trip, _file, _clock, _wakeup, _broker, _connections, _workers, _backlog)


def _database(backend: Backend) -> str | None:
    """Return the alias of the database that keeps the tasks, if it is one."""
    return backend.settings.database if isinstance(backend, DatabaseBackend) else None


def _unapplied(database: str) -> list[str]:
    module, _ = MigrationLoader.migrations_module("backroom_tasks")
    if module is None:
        # MIGRATION_MODULES turns migrations off: the tables are made another way.
        return []
    on_disk = {item.name for item in pkgutil.iter_modules(importlib.import_module(module).__path__)}
    applied = {
        name for app, name in MigrationRecorder(connections[database]).applied_migrations() if app == "backroom_tasks"
    }
    return sorted(name for name in on_disk - applied if not name.startswith("_"))


def _cure(database: str | None) -> str:
    return f"Start it, or correct DATABASES[{database!r}]."


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if text.endswith((".", "!", "?")) else f"{text}."
