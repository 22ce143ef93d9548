"""Whether tasks can be kept here: the store is reached, has its tables, is quick, and is used as it should be."""

import statistics
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, Final

from django.db import Error as DatabaseTrouble
from django.db import connections

from backroom.clock import SECOND, Moment, after, seconds_between
from backroom.errors import BackroomError, sentence
from backroom.sql.dialect import ADVISED_FOR_FILES, FileState, file_state, is_server, product, server_moment
from backroom.tasks import queries
from backroom.tasks.backends.base import Backend
from backroom.tasks.checks import check_version
from backroom.tasks.doctor.findings import FAIL, OK, WARN, Finding, Findings, Level, milliseconds
from backroom.tasks.readiness import advice_to_migrate, cure_of
from backroom.tasks.tables import span
from backroom.tasks.worker import WorkerSettings

ROUND_TRIPS: Final = 21
SLOW: Final = 0.02
"""Seconds there and back: what every `enqueue()` in a request costs at least."""
CLOCK_SAMPLES: Final = 5
SKEW: Final = 1.0
"""Seconds between two clocks that a person should know of."""
SHORT_TIMEOUT: Final = 5_000
"""Milliseconds."""
SPARE: Final = 4
"""Connections of a worker process beside one for each thread: claims, leases, maintenance, coroutines."""
DEFAULT_POOL: Final = 4


def reach(backend: Backend, patience: float) -> Findings:
    """Tell whether what keeps the tasks answers within so many seconds."""
    if backend.database is not None:
        yield from _reach_database(backend.database, patience)
    yield from _reach_server(backend, patience)


def migrations(backend: Backend) -> Findings:
    """Tell whether the tables are there."""
    advice = advice_to_migrate(backend)
    if advice is None:
        yield Finding(OK, "migrations", "all applied")
    else:
        what, _, cure = advice.partition(". ")
        yield Finding(FAIL, "migrations", what, cure)


def round_trip(backend: Backend) -> Findings:
    """Tell how long the store takes to answer."""
    backend.store.get([""])
    took = sorted(_timed(lambda: backend.store.get([""])) for _ in range(ROUND_TRIPS))
    median = statistics.median(took)
    text = f"{milliseconds(median)} there and back (median of {ROUND_TRIPS}, {milliseconds(took[0])} to {milliseconds(took[-1])})"
    if median < SLOW:
        yield Finding(OK, "round trip", text)
    else:
        yield Finding(WARN, "round trip", text, "Each enqueue costs a request that much. Bring the store nearer.")


def file(backend: Backend) -> Findings:
    """Tell how a SQLite file is used: its journal, its lock, its durability."""
    database = backend.database
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


def clock(backend: Backend) -> Findings:
    """Tell how far this machine's clock is from that of the server: if each machine's is near it, they agree."""
    if _server_moment(backend) is None:
        return
    skew, doubt = min((_skew(backend) for _ in range(CLOCK_SAMPLES)), key=lambda sample: sample[1])
    text = f"{abs(skew):.3f} s {'behind' if skew > 0 else 'ahead of'} the server's (± {milliseconds(doubt)})"
    if abs(skew) - doubt < SKEW:
        yield Finding(OK, "clock", text)
        return
    lease = backend.settings.lease
    level: Level = FAIL if abs(skew) - doubt >= lease / 2 else WARN
    advice = f"Synchronize the clocks (NTP). A worker whose clock is ahead by the lease of {lease:g} s robs the others."
    yield Finding(level, "clock", text, advice)


def connections_kept(backend: Backend) -> Findings:
    """Tell whether connections to a database server are kept, and pools large enough."""
    database = backend.database
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


def _reach_database(database: str, patience: float) -> Findings:
    try:
        name = _within(patience, lambda: _greet(database))
    except (DatabaseTrouble, TimeoutError) as error:
        yield Finding(FAIL, "database", f"{database!r} does not answer: {sentence(error)}", cure_of(database))
        return
    too_old = check_version(database)
    yield Finding(FAIL if too_old else OK, "database", name, str(too_old[0].hint) if too_old else "")


def _reach_server(backend: Backend, patience: float) -> Findings:
    try:
        examined = _within(patience, backend.examine_server)
    except (BackroomError, TimeoutError) as error:
        yield Finding(FAIL, "server", sentence(error))
        return
    if examined is None:
        return
    name, messages = examined
    yield Finding(OK, "server", name)
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


def _timed(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


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


def _server_moment(backend: Backend) -> Moment | None:
    if (found := backend.server_moment()) is not None or backend.database is None:
        return found
    return server_moment(backend.database)


def _skew(backend: Backend) -> tuple[float, float]:
    """Return by how much the server's clock is ahead of this machine's, and how uncertain that is."""
    before = backend.clock.now()
    server = _server_moment(backend) or before
    trip = seconds_between(before, backend.clock.now())
    return seconds_between(after(before, trip / 2), server), trip / 2 + 1 / SECOND
