"""Finding the operation for an order, or starting it: on both databases, and by requests that race."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connections

from backroom.clock import after
from backroom.offload import operations, placing
from backroom.offload.models import Operation
from backroom.offload.orders import Order
from backroom.offload.owners import Owner
from backroom.offload.placing import place
from backroom.tasks import queries
from backroom.tasks.records import Query, Record
from backroom.testing import run_tasks
from tests.offload import work
from tests.offload.conftest import Running

ANN = Owner(user_id="1")
BOB = Owner(user_id="2")


def order(using: str = "default", year: int = 2024, **options) -> Order:
    plain = {"view": "report", "origin": "/report/", "method": "POST", "kwargs": {"year": year}}
    return Order(task=work.build_report.using(backend=using), **plain | options)


def tasks_of(using: str) -> list[str]:
    return [record.id for record in queries.find(Query(), using=using).records]


# ── Races ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("shared", [False, True])
def test_requests_that_race_for_the_same_work_join_one_task(operations_database, shared):
    owners = [Owner(user_id=str(number % 4)) for number in range(12)] if shared else [ANN] * 12
    barrier = threading.Barrier(len(owners))

    def placed_by(owner: Owner) -> str:
        try:
            barrier.wait(20)
            return place(order(operations_database, shared=shared), owner).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(owners)) as pool:
        placed = set(pool.map(placed_by, owners))
    assert len(placed) == len({owner.user_id for owner in owners})
    assert len(tasks_of(operations_database)) == 1


@pytest.mark.django_db(transaction=True)
def test_requests_that_race_with_the_same_idempotency_key_share_an_operation(operations_database):
    barrier = threading.Barrier(8)

    def placed_by(_number: int) -> str:
        try:
            barrier.wait(20)
            return place(order(operations_database, idempotency_key="one"), ANN).pk
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(placed_by, range(8)))) == 1
    assert len(tasks_of(operations_database)) == 1


@pytest.mark.django_db(transaction=True)
def test_an_operation_and_its_task_are_committed_together_or_not_at_all(operations_database, monkeypatch):
    monkeypatch.setattr(placing, "_enqueue", lambda *_: pytest.fail("the store is full"))
    with pytest.raises(pytest.fail.Exception):
        place(order(operations_database), ANN)
    assert not operations.operations().exists()
    assert tasks_of(operations_database) == []


# ── Joining ─────────────────────────────────────────────────────────────────────────────────────


def test_only_the_same_owners_same_work_is_joined(operations_database):
    first = place(order(operations_database), ANN)
    assert place(order(operations_database), ANN).pk == first.pk
    others = [
        place(order(operations_database), BOB),
        place(order(operations_database, year=2025), ANN),
        place(order(operations_database, view="another"), ANN),
    ]
    assert len({first.pk, *(other.pk for other in others)}) == 4
    assert len(tasks_of(operations_database)) == 4


def test_whoever_starts_the_work_can_tell_so(operations_database):
    placed = [place(order(operations_database, shared=True), owner) for owner in (ANN, ANN, BOB)]
    assert [operation.is_new for operation in placed] == [True, False, False]


def test_the_order_of_arguments_does_not_matter(operations_database):
    first = place(order(operations_database, kwargs={"year": 1, "title": "x"}), ANN)
    assert place(order(operations_database, kwargs={"title": "x", "year": 1}), ANN).pk == first.pk


def test_who_signs_in_still_finds_the_work_of_the_session(operations_database):
    before = place(order(operations_database), Owner(session_hash="s"))
    assert place(order(operations_database), Owner(session_hash="s", user_id="1")).pk == before.pk


def test_a_finished_result_answers_for_as_long_as_the_view_says(operations_database, fake_clock):
    first = place(order(operations_database), ANN)
    run_tasks(operations_database)
    fake_clock.advance(59)
    assert place(order(operations_database, cache_for=60), ANN).pk == first.pk
    fake_clock.advance(1)
    assert place(order(operations_database, cache_for=60), ANN).pk != first.pk


def test_a_cancelled_run_is_not_joined_by_a_new_order(operations_database):
    first = place(order(operations_database), ANN)
    Running(operations_database)
    assert operations.cancel(operations.status_of(first))
    assert operations.status_of(first).state == "cancelling"
    assert place(order(operations_database), ANN).pk != first.pk
    # Reading the page again shows the same run stop.
    shown = place(order(operations_database, method="GET", year=2025), ANN)
    Running(operations_database)
    operations.cancel(operations.status_of(shown))
    assert place(order(operations_database, method="GET", year=2025), ANN).pk == shown.pk


def test_an_order_is_found_with_two_queries(operations_database, django_assert_num_queries):
    place(order(operations_database), ANN)
    with django_assert_num_queries(2, connection=connections[operations_database]):
        place(order(operations_database), ANN)


# ── Sharing ─────────────────────────────────────────────────────────────────────────────────────


def test_shared_work_is_done_once_and_each_owner_has_a_handle(operations_database):
    shared = order(operations_database, shared=True, cache_for=60)
    mine, theirs = place(shared, ANN), place(shared, BOB)
    assert mine.pk != theirs.pk
    assert mine.task_id == theirs.task_id
    assert not BOB.owns(mine)
    run_tasks(operations_database)
    late = place(shared, Owner(user_id="3"))
    assert operations.status_of(late).is_successful


def test_whoever_has_not_seen_shared_work_yet_finds_it_although_others_asked_anew(operations_database):
    asked = order(operations_database, shared=True, method="GET")
    mine = place(asked, ANN)
    run_tasks(operations_database)
    assert place(asked, BOB).task_id != mine.task_id
    assert place(asked, ANN).pk == mine.pk


def test_who_cancels_shared_work_leaves_it_to_the_others(operations_database):
    shared = order(operations_database, shared=True)
    mine, theirs = place(shared, ANN), place(shared, BOB)
    assert operations.cancel(operations.status_of(mine))
    mine.refresh_from_db(using=operations_database)
    assert operations.status_of(mine).state == "cancelled"
    assert operations.status_of(mine).finished_at is not None
    assert operations.status_of(theirs).state == "ready"
    assert not operations.cancel(operations.status_of(mine))
    # The last one who waits for it ends it.
    assert operations.cancel(operations.status_of(theirs))
    assert operations.status_of(theirs).state == "cancelled"


def test_who_left_shared_work_and_comes_back_joins_it_anew(operations_database):
    shared = order(operations_database, shared=True)
    mine, theirs = place(shared, ANN), place(shared, BOB)
    operations.cancel(operations.status_of(mine))
    back = place(shared, ANN)
    assert back.pk != mine.pk
    assert back.task_id == theirs.task_id


# ── What is kept ────────────────────────────────────────────────────────────────────────────────


def test_an_id_has_at_least_128_random_bits_and_fits_a_url(operations_database):
    ids = {place(order(operations_database, year=year), ANN).pk for year in range(1900, 1920)}
    assert len(ids) == 20
    assert all(len(each) == 32 and each.replace("-", "").replace("_", "").isalnum() for each in ids)


def test_the_clients_key_and_arguments_are_kept_as_hashes_alone(operations_database):
    place(order(operations_database, idempotency_key="a client's secret"), ANN)
    row = str(operations.operations().values().get())
    assert "secret" not in row
    assert "2024" not in row.replace(str(Operation.objects.using(operations_database).get().created_at), "")


@pytest.mark.parametrize(
    ("age", "due_in", "seconds"), [(0, None, 1), (14, None, 1), (15, None, 2), (60, None, 5), (0, 7, 7), (0, 3_600, 60)]
)
def test_a_client_is_told_to_look_more_seldom_the_longer_it_takes(
    operations_database, fake_clock, age, due_in, seconds
):
    status = operations.status_of(place(order(operations_database), ANN))
    fake_clock.advance(age)
    now = operations.now()
    assert isinstance(status.record, Record)
    record = status.record._replace(due_at=None if due_in is None else after(now, due_in))
    assert type(status)(operation=status.operation, record=record).retry_after(now) == seconds
