"""What the contract of stores cannot ask: how many statements, which locks, which indexes."""

import json
import re
import sqlite3
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import pytest
from django.db import DatabaseError, connections, transaction
from django.test.utils import CaptureQueriesContext

from backroom.clock import after
from backroom.sql.dialect import uncompiled
from backroom.tasks.records import Claim, Query, Renewal
from backroom.tasks.stores import sql
from backroom.tasks.stores.sql import SQLStore
from backroom.testing.stores.case import (
    NOW,
    StoreCase,
    deferred,
    ids_of,
    new_record,
    request,
    succeeded,
    unique,
    worker,
)

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])


class SQLCase(StoreCase):
    alias = "default"

    def make_store(self, backend_name):
        return SQLStore(self.alias, backend_name)

    def statements(self):
        return CaptureQueriesContext(connections[self.alias])


class TestStatements(SQLCase):
    @pytest.fixture(autouse=True)
    def _database(self, store_database):
        self.alias = store_database

    def count(self, work):
        with self.statements() as captured:
            work()
        return len(captured)

    def test_an_idle_look_is_one_statement(self):
        assert self.count(lambda: self.claim(100)) == 1

    def test_a_claim_of_a_hundred_is_two_statements_and_one_more_to_learn_the_queues(self):
        self.insert(300)
        assert self.count(lambda: self.claim(100, queues=["default"])) == 2
        assert self.count(lambda: self.claim(100, queues=["default", "mail"])) == 2
        assert self.count(lambda: self.claim(100)) == 3

    def test_on_postgresql_a_claim_that_is_expected_to_find_something_is_one_statement(self):
        self.insert(400)
        expected = request(100, queues=["default"])._replace(is_expected=True)
        assert self.count(lambda: self.store.claim(expected)) == {"default": 2, "postgres": 1}[self.alias]
        several = request(100, queues=["default", "mail"])._replace(is_expected=True)
        assert self.count(lambda: self.store.claim(several)) == {"default": 2, "postgres": 1}[self.alias]
        transitions = [succeeded(claim) for claim in self.store.claim(expected)]
        # Begin, apply, claim, commit; SQLite looks too, and applies row by row.
        assert (
            self.count(lambda: self.store.exchange(transitions, expected)) == {"default": 7, "postgres": 4}[self.alias]
        )

    def test_on_postgresql_what_a_ring_told_of_is_claimed_in_one_statement_and_first_what_comes_first(self):
        self.insert(2)
        (urgent,) = self.insert(priority=5)
        (due,) = self.insert(priority=9, **deferred(-1))
        rung = request(1, queues=["default"])._replace(is_expected=True, is_rung=True)
        statements = {"default": 5, "postgres": 1}[self.alias]
        claims: list[Claim] = []
        assert self.count(lambda: claims.extend(self.store.claim(rung))) == statements
        # What has come due waits for the next claim, where there is no look for it.
        assert ids_of(claims) == [{"default": due, "postgres": urgent}[self.alias].id]
        assert (claims[0].state, claims[0].attempts, claims[0].worker_id) == ("running", 1, "worker-1")
        (following,) = self.store.claim(rung._replace(is_rung=False))
        assert following.id == {"default": urgent, "postgres": due}[self.alias].id

    def test_on_postgresql_a_claim_of_what_a_ring_told_of_waits_for_no_disk_and_has_a_fence_of_its_own(self):
        self.insert(4)
        rung = request(1, queues=["default"])._replace(is_expected=True, is_rung=True)
        hurried = {"default": 0, "postgres": 1}[self.alias]
        with self.statements() as captured:
            claims = self.store.claim(rung) + self.store.claim(rung)
        assert len(self.hurried(captured)) == 2 * hurried
        # Were they alike, what a crash took back could be finished by whoever claimed it before.
        assert len({claim.fence for claim in claims}) == 1 + hurried
        with self.statements() as captured, transaction.atomic(using=self.alias):
            (within,) = self.store.claim(rung)
        with self.statements() as again:
            (expected,) = self.store.claim(rung._replace(is_rung=False))
        assert self.hurried(captured) == self.hurried(again) == []
        assert (within.fence, expected.fence) == (1, 1)

    def hurried(self, captured):
        return [query["sql"] for query in captured if "synchronous_commit" in query["sql"]]

    def test_a_ring_that_told_of_nothing_finds_what_has_come_due(self):
        rung = request(1, queues=["default"])._replace(is_expected=True, is_rung=True)
        assert self.store.claim(rung) == []
        (due,) = self.insert(**deferred(-1))
        assert ids_of(self.store.claim(rung)) == [due.id]

    def test_a_claim_of_what_has_become_due_is_a_transaction_with_one_more(self):
        self.insert(100, **deferred(0))
        # Look, begin, promote, claim, commit.
        assert self.count(lambda: self.claim(100, queues=["default"], now=after(NOW, 1))) == 5

    def test_finishing_a_hundred_and_claiming_the_next_is_one_transaction(self):
        self.insert(200)
        transitions = [succeeded(claim) for claim in self.claim(100)]
        with self.statements() as captured:
            self.store.exchange(transitions, request(100, queues=["default"]))
        # Begin, apply, look, claim, commit; SQLite applies row by row, with a savepoint to take it back to.
        assert len(captured) == {"default": 7, "postgres": 5}[self.alias]
        assert len([query for query in captured if query["sql"].startswith("COMMIT")]) == 1

    def test_applying_a_hundred_is_one_statement_in_a_transaction(self):
        self.insert(100)
        transitions = [succeeded(claim) for claim in self.claim(100)]
        assert self.count(lambda: self.store.apply(transitions)) == {"default": 5, "postgres": 3}[self.alias]

    def test_inserting_one_is_one_statement(self):
        assert self.count(lambda: self.store.insert([new_record()])) == 1

    def test_inserting_five_thousand_is_one_statement_and_on_postgresql_no_transaction_round_it(self):
        records = [new_record() for _ in range(5_000)]
        assert self.count(lambda: self.store.insert(records)) == {"default": 3, "postgres": 1}[self.alias]

    def test_what_is_inserted_with_the_callers_changes_can_be_taken_back_alone(self):
        kept, refused = [new_record() for _ in range(2)], [new_record() for _ in range(2)]
        with transaction.atomic(using=self.alias):
            self.store.insert(kept)
            with pytest.raises(DatabaseError):
                self.store.insert([*refused, refused[0]])
        assert [record.id for record in self.store.get(ids_of(kept + refused))] == sorted(ids_of(kept))

    def test_inserting_five_thousand_unique_ones_takes_two_more_at_most(self):
        records = [new_record(**unique(str(index))) for index in range(5_000)]
        assert self.count(lambda: self.store.insert(records)) == 4
        assert self.count(lambda: self.store.insert([new_record(**unique("1"))])) == 5

    def test_what_is_too_long_for_one_statement_is_cut_up(self, monkeypatch):
        records = [new_record(payload="x" * 10) for _ in range(5)]
        unique_ones = [new_record(payload="x" * 10, **unique(str(index))) for index in range(5)]
        monkeypatch.setattr(sql, "CHUNK_CHARACTERS", 25)
        assert self.store.insert(records) == self.store.insert(unique_ones) == {}
        transitions = [succeeded(claim, "y" * 30) for claim in self.claim(20)]
        assert self.store.apply([*transitions, transitions[0]._replace(id="gone")]) == set(
            ids_of(records + unique_ones)
        )
        assert [found.result for found in self.store.get(ids_of(records))] == ["y" * 30] * 5

    def test_a_chunk_is_short_in_rows_and_in_characters(self, monkeypatch):
        monkeypatch.setattr(sql, "CHUNK_CHARACTERS", 25)
        monkeypatch.setattr(sql, "CHUNK", 3)
        assert list(sql._chunks([10, 10, 10, 30, 1, 1, 1, 1], lambda size: size)) == [
            [10, 10],
            [10],
            [30],
            [1, 1, 1],
            [1],
        ]

    def test_renewing_a_hundred_is_one_statement(self):
        self.insert(100)
        renewals = [Renewal(claim.id, claim.fence, "[1,2,null]") for claim in self.claim(100)]
        assert self.count(lambda: self.store.renew(renewals, after(NOW, 60))) == 1

    def test_what_the_queues_hold_takes_as_many_statements_however_many_they_are(self):
        names = [f"customer-{number:02}" for number in range(60)]
        records = [new_record(queue_name=name, priority=number) for name in names for number in (0, 1, -1)]
        self.store.insert(records)
        # On PostgreSQL in a transaction of its own, for which compiling is turned off.
        assert self.count(self.store.counts) == {"default": 1, "postgres": 4}[self.alias]
        assert self.store.counts() == {(name, "ready"): 3 for name in names}
        assert self.count(self.store.oldest_ready) == 1
        assert self.store.oldest_ready() == records[::3]

    def test_doing_nothing_takes_no_statement(self):
        assert self.count(lambda: self.store.insert([])) == 0
        assert self.count(lambda: self.store.apply([])) == 0
        assert self.count(lambda: self.store.renew([], NOW)) == 0
        assert self.count(lambda: self.store.exchange([], None)) == 0
        assert self.count(lambda: self.claim(0)) == 0

    @pytest.mark.parametrize(
        "verb",
        [
            lambda store: store.get(["a", "b"]),
            lambda store: store.find(Query(states=("ready",), queue_name="default")),
            lambda store: store.overdue(100, NOW),
            lambda store: store.unstarted(100, NOW),
            lambda store: store.request_cancel(["a", "b"]),
            lambda store: store.prune(NOW, 100),
            lambda store: store.workers(),
            lambda store: store.beat([worker("a")]),
            lambda store: store.forget(["a"]),
        ],
    )
    def test_every_other_verb_is_one_statement(self, verb):
        self.insert(10)
        assert self.count(lambda: verb(self.store)) == 1


class TestSQLiteLocks(SQLCase):
    """One connection at a time may write to a SQLite file; the others wait, or are refused."""

    @pytest.fixture
    def other(self):
        """Give another connection to the same file, which waits for nothing."""
        path = connections["default"].settings_dict["NAME"]
        with closing(sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)) as connection:
            yield connection

    @pytest.fixture
    def impatient(self, monkeypatch):
        """Refuse at once what would have to wait for the write lock."""
        connections["default"].ensure_connection()
        connections["default"].connection.execute("PRAGMA busy_timeout=0")
        monkeypatch.setattr(sql, "patiently", lambda _alias, work: work())
        yield
        connections["default"].close()

    def test_an_idle_look_does_not_ask_for_the_write_lock(self, other, impatient):
        self.insert(2, **deferred(60))
        self.insert_and_claim()
        other.execute("BEGIN IMMEDIATE")
        assert self.claim(10) == self.claim(10, queues=["default"]) == []
        with pytest.raises(DatabaseError, match="locked"):
            self.claim(10, now=after(NOW, 60))

    def test_reading_does_not_wait_for_a_writer(self, other, impatient):
        (record,) = self.insert()
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM backroom_tasks_taskrecord")
        assert self.store.get([record.id]) == [record]
        assert self.store.find(Query()).records == [record]
        assert self.store.counts() == {("default", "ready"): 1}
        assert [self.store.overdue(9, NOW), self.store.unstarted(9, NOW), self.store.workers()] == [[], [], []]

    @pytest.mark.parametrize("mode", [None, "DEFERRED", "IMMEDIATE"])
    def test_a_transaction_has_the_write_lock_from_its_beginning(self, other, monkeypatch, mode):
        connection: Any = connections["default"]
        connection.ensure_connection()
        monkeypatch.setattr(connection, "transaction_mode", mode)
        with self.store.transaction():
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
            self.insert()
        other.execute("BEGIN IMMEDIATE")
        assert connection.transaction_mode == mode

    def test_a_claim_waits_for_its_turn_however_long_the_connection_would(self, other):
        self.insert()
        connections["default"].ensure_connection()
        connections["default"].connection.execute("PRAGMA busy_timeout=1")
        other.execute("BEGIN IMMEDIATE")
        refused = threading.Event()
        connections["default"].connection.set_trace_callback(lambda _statement: refused.set())

        def give_way():
            refused.wait(30)
            other.execute("COMMIT")

        thread = threading.Thread(target=give_way)
        thread.start()
        assert len(self.claim()) == 1
        thread.join()
        connections["default"].close()


class TestPostgreSQLLocks(SQLCase):
    """A row that another transaction has locked is passed over."""

    @pytest.fixture(autouse=True)
    def _database(self, store_database):
        self.alias = store_database
        # What waits for a lock fails instead of waiting.
        with connections[self.alias].cursor() as cursor:
            cursor.execute("SET lock_timeout = '1ms'")
        yield
        connections[self.alias].close()

    @pytest.fixture
    def other(self):
        connection = connections.create_connection(self.alias)
        connection.set_autocommit(False)
        yield lambda *statement: connection.connection.execute(*statement).fetchall()
        connection.close()

    pytestmark = pytest.mark.parametrize("store_database", ["postgres"], indirect=True)

    def test_a_claim_takes_what_is_free(self, other):
        records = self.insert(4)
        other("SELECT id FROM backroom_tasks_taskrecord WHERE id = ANY(%s) FOR UPDATE", [ids_of(records[:2])])
        assert ids_of(self.claim(3)) == ids_of(records[2:])

    def test_what_a_ring_told_of_is_passed_over_when_it_is_locked(self, other):
        locked, free = self.insert(2)
        rung = request(1, queues=["default"])._replace(is_expected=True, is_rung=True)
        other("SELECT id FROM backroom_tasks_taskrecord WHERE id = %s FOR UPDATE", [locked.id])
        assert ids_of(self.store.claim(rung)) == [free.id]
        assert self.store.claim(rung) == []

    def test_a_claim_by_ids_takes_what_is_free(self, other):
        records = self.insert(4)
        other("SELECT id FROM backroom_tasks_taskrecord WHERE id = ANY(%s) FOR UPDATE", [ids_of(records[:2])])
        assert ids_of(self.claim(4, ids=ids_of(records))) == ids_of(records[2:])

    def test_a_claim_from_several_queues_takes_what_is_free(self, other):
        locked, free = self.insert(queue_name="a") + self.insert(queue_name="b")
        other("SELECT id FROM backroom_tasks_taskrecord WHERE id = %s FOR UPDATE", [locked.id])
        assert ids_of(self.claim(2, queues=["a", "b"])) == [free.id]

    def test_what_becomes_due_is_promoted_past_what_is_locked(self, other):
        locked, free = self.insert(2, **deferred(1))
        other("SELECT id FROM backroom_tasks_taskrecord WHERE id = %s FOR UPDATE", [locked.id])
        assert ids_of(self.claim(2, now=after(NOW, 1))) == [free.id]

    def test_pruning_passes_over_what_is_locked(self, other):
        self.insert(2)
        locked, _ = claims = self.claim(2)
        self.store.apply([succeeded(claim)._replace(prune_at=NOW) for claim in claims])
        other("SELECT id FROM backroom_tasks_taskrecord WHERE id = %s FOR UPDATE", [locked.id])
        assert self.store.prune(NOW, 9) == 1

    def test_a_claim_takes_no_more_than_asked_for_whatever_the_plan(self):
        self.insert(50)
        # Left to a nested loop, a subquery with a limit would run again for each row, and each time find other rows.
        with connections[self.alias].cursor() as cursor:
            for method in ("hashjoin", "mergejoin", "hashagg", "sort", "material"):
                cursor.execute(f"SET enable_{method} = off")
        assert len(self.claim(5)) == 5
        assert len(self.claim(5, queues=["default", "mail"])) == 5
        assert len(self.store.claim(request(1, queues=["default"])._replace(is_expected=True, is_rung=True))) == 1
        assert self.store.counts() == {("default", "ready"): 39, ("default", "running"): 11}


class TestIndexes(SQLCase):
    """Each question is answered from an index that holds the rows of one state only."""

    @pytest.fixture(autouse=True)
    def _database(self, store_database):
        self.alias = store_database

    def plan(self, verb):
        with self.statements() as captured:
            verb()
        explain = "EXPLAIN QUERY PLAN" if connections[self.alias].vendor == "sqlite" else "EXPLAIN"
        plans = []
        with connections[self.alias].cursor() as cursor:
            if explain == "EXPLAIN":
                # A table of few rows would be read whole.
                cursor.execute("SET enable_seqscan = off")
                cursor.execute("SET enable_bitmapscan = off")
            for query in captured:
                if not query["sql"].startswith(("BEGIN", "COMMIT", "SET")):
                    cursor.execute(f"{explain} {query['sql'].replace('%', '%%')}")
                    plans += ["\n".join(str(row) for row in cursor.fetchall())]
        return "\n".join(plans)

    @pytest.mark.parametrize(
        ("verb", "index"),
        [
            (lambda self: self.claim(10, queues=["default"]), "backroom_ready"),
            (lambda self: self.claim(10, queues=["default"], now=after(NOW, 99)), "backroom_deferred"),
            (lambda self: self.store.overdue(10, NOW), "backroom_running"),
            (lambda self: self.store.unstarted(10, NOW), "backroom_expiring"),
            (lambda self: self.store.prune(NOW, 10), "backroom_prune"),
            (lambda self: self.store.find(Query(states=("failed",))), "backroom_failed"),
            (lambda self: self.store.counts(), "backroom_failed"),
            (lambda self: self.store.counts(), "backroom_ready"),
            (lambda self: self.store.oldest_ready(), "backroom_ready"),
        ],
    )
    def test_it_reads_the_index_and_sorts_nothing(self, verb, index):
        self.insert(20)
        self.insert(20, **deferred(1))
        plan = self.plan(lambda: verb(self))
        assert index in plan
        assert "SCAN backroom_tasks" not in plan
        assert "Seq Scan" not in plan
        assert "USE TEMP B-TREE FOR ORDER BY" not in plan


@pytest.mark.parametrize("store_database", ["postgres"], indirect=True)
class TestPlans(SQLCase):
    """What a plan reads, whatever the version of PostgreSQL: how it joins and words it is for the planner to choose."""

    @pytest.fixture(autouse=True)
    def _database(self, store_database):
        self.alias = store_database

    @pytest.mark.parametrize("then", ["ready", "successful"])
    @pytest.mark.parametrize("queues", [(), ("default",), ("default", "mail")])
    def test_a_look_reads_the_beginning_of_an_index_whatever_the_statistics_were_once(self, then, queues):
        with _statistics_of_another_time(self.alias, then), self.statements() as captured:
            store = SQLStore(self.alias, "contract")
            store._look(request(queues=queues))
            store._ready_queues()
            plans = _plans(self.alias, captured)
        assert {read.by for read in plans.reads} == {"backroom_ready", "backroom_deferred"}, plans
        assert not plans.gathers, plans

    @pytest.mark.parametrize("then", ["ready", "successful"])
    def test_so_does_a_look_for_the_oldest_of_each_queue(self, then):
        with _statistics_of_another_time(self.alias, then), self.statements() as captured:
            SQLStore(self.alias, "contract").oldest_ready()
            plans = _plans(self.alias, captured)
        queued = [read for read in plans.reads if read.by == "backroom_ready"]
        others = [read for read in plans.reads if read.by != "backroom_ready"]
        assert [read.kind for read in queued] == ["Index Only Scan"] * 3, plans
        # The rows of these ids, and nothing else, are looked for by id.
        assert len(others) == 3, plans
        assert all(re.match(r"\(+id\b.* = ", read.condition) for read in others), plans
        assert not plans.gathers, plans
        # Compiling it would take longer than all the rest.
        assert not plans.is_compiled, plans

    @pytest.mark.parametrize("then", ["ready", "successful"])
    def test_and_a_count_reads_the_table_for_no_queue(self, then):
        with _statistics_of_another_time(self.alias, then), self.statements() as captured:
            SQLStore(self.alias, "contract").counts()
            [count] = [query for query in captured if query["sql"].lstrip().startswith("WITH")]
            plans = _plans(self.alias, [count])
            with uncompiled(self.alias):
                as_run = _plans(self.alias, [count])
        assert "SET LOCAL jit = off" in [query["sql"] for query in captured]
        # For thousands of ready tasks that would take ten times as long as to count them.
        assert not as_run.is_compiled, as_run
        assert all(read.by for read in plans.reads), plans
        assert [read.kind for read in plans.reads if read.by == "backroom_ready"] == ["Index Only Scan"] * 2, plans


@contextmanager
def _statistics_of_another_time(alias: str, then: str) -> Iterator[None]:
    """Fill the table of PostgreSQL and let it take statistics of that; `then` is what most of it was."""
    cursor = connections[alias].cursor()
    cursor.execute("ALTER TABLE backroom_tasks_taskrecord SET (autovacuum_enabled = false)")
    cursor.execute(
        "INSERT INTO backroom_tasks_taskrecord (id, backend_name, queue_name, priority, task_path, payload,"
        " enqueued_at, due_at, state) SELECT i, 'contract', 'default', 0, 'p', '{}', i, i, CASE"
        " WHEN %s = 'successful' THEN %s WHEN i %% 3 = 0 THEN 'deferred' ELSE 'ready' END"
        " FROM generate_series(1, 30000) AS i",
        [then, then],
    )
    cursor.execute("ANALYZE backroom_tasks_taskrecord")
    try:
        yield
    finally:
        cursor.execute("ALTER TABLE backroom_tasks_taskrecord RESET (autovacuum_enabled)")
        cursor.execute("TRUNCATE backroom_tasks_taskrecord")
        cursor.execute("ANALYZE backroom_tasks_taskrecord")


class Read(NamedTuple):
    """A scan of the table of tasks."""

    kind: str
    by: str
    """The index; empty for a scan of the whole table."""
    condition: str


class Plans(NamedTuple):
    """What PostgreSQL is going to do with the table of tasks."""

    reads: list[Read]
    gathers: list[str]
    """What reads more than a limit lets it, to sort it or to put it together."""
    is_compiled: bool


def _plans(alias: str, captured: Iterable[dict[str, str]]) -> Plans:
    cursor = connections[alias].cursor()
    found = Plans([], [], is_compiled=False)
    for query in list(captured):
        cursor.execute(f"EXPLAIN (FORMAT JSON) {query['sql'].replace('%', '%%')}")
        [explained] = cursor.fetchone()[0]
        _look_through(explained["Plan"], (), found)
        found = found._replace(is_compiled=found.is_compiled or "JIT" in explained)
    return found


def _look_through(node: dict[str, Any], above: tuple[str, ...], found: Plans) -> None:
    kind = node["Node Type"]
    if node.get("Relation Name") == "backroom_tasks_taskrecord":
        found.reads.append(Read(kind, node.get("Index Name", ""), node.get("Index Cond", "")))
        found.gathers.extend(each for each in above if "Sort" in each or "Aggregate" in each)
    # What stands above a limit is given no more than it lets through; what is planned apart, nothing of this node's.
    above = () if kind == "Limit" else (*above, kind)
    for each in node.get("Plans", []):
        is_apart = each["Parent Relationship"] in {"InitPlan", "SubPlan"}
        _look_through(each, () if is_apart else above, found)


class TestParameters(SQLCase):
    def test_values_never_become_statements(self):
        evil = "'); DELETE FROM backroom_tasks_taskrecord; --"
        (record,) = self.insert()
        self.store.insert([new_record(queue_name=evil, task_path=evil)])
        self.claim(9, queues=[evil])
        self.store.find(Query(queue_name=evil, task_path=evil, worker_id=evil), after=evil)
        self.store.get([evil])
        self.store.request_cancel([evil, json.dumps([evil])])
        assert self.read(record) == record
