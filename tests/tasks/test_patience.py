"""What a database asks to be done again is done again, after a rest."""

import time

import pytest
from django.db import OperationalError, connections, transaction

from backroom.sql import dialect
from backroom.sql.dialect import patiently
from backroom.tasks.models import TaskRecord, WorkerRecord

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
on_postgres = pytest.mark.parametrize("store_database", ["postgres"], indirect=True)


class Refused(Exception):
    def __init__(self, sqlstate: str) -> None:
        self.sqlstate = sqlstate


def refused(times: int, sqlstate: str = "", text: str = "database is locked"):
    """Return work that fails so many times, and the list of its tries."""
    tries: list[float] = []

    def work() -> str:
        tries.append(time.monotonic())
        if len(tries) <= times:
            raise OperationalError(text) from Refused(sqlstate)
        return "done"

    return work, tries


@pytest.fixture
def rests(monkeypatch):
    rests: list[float] = []
    monkeypatch.setattr(time, "sleep", rests.append)
    return rests


def test_what_sqlite_refuses_at_once_is_tried_again_after_a_rest(rests):
    work, tries = refused(5)
    assert patiently("default", work) == "done"
    assert len(tries) == 6
    assert len(rests) == 5
    assert all(dialect.REST[0] <= rest <= dialect.REST[1] for rest in rests)
    assert len(set(rests)) > 1


@on_postgres
@pytest.mark.parametrize("sqlstate", ["40P01", "40001"])
def test_a_transaction_that_lost_its_locks_is_done_again(store_database, rests, sqlstate):
    work, tries = refused(2, sqlstate, "deadlock detected")
    assert patiently(store_database, work) == "done"
    assert len(tries) == 3


@on_postgres
def test_any_other_failure_is_not(store_database, rests):
    work, tries = refused(1, "57014")
    with pytest.raises(OperationalError):
        patiently(store_database, work)
    assert len(tries) == 1


def test_the_caller_s_transaction_is_not_done_again(store_database, rests):
    work, tries = refused(1, "40P01")
    with pytest.raises(OperationalError), transaction.atomic(using=store_database):
        patiently(store_database, work)
    assert len(tries) == 1


def test_patience_has_an_end(store_database, rests):
    work, _ = refused(10**9, "40P01")
    with pytest.raises(OperationalError):
        patiently(store_database, work, patience=0.01)


@on_postgres
def test_a_key_has_one_index(store_database):
    with connections[store_database].cursor() as cursor:
        for model in (TaskRecord, WorkerRecord):
            cursor.execute("SELECT indexdef FROM pg_indexes WHERE tablename = %s", [model._meta.db_table])
            assert not [text for (text,) in cursor.fetchall() if "pattern_ops" in text]
