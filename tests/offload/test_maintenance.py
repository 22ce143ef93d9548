"""Operations are forgotten after their tasks, in bounded batches."""

from django.db import OperationalError

from backroom.offload import maintenance, operations
from backroom.offload.maintenance import CHECK_SECONDS, GONE_SECONDS
from backroom.offload.owners import Owner
from backroom.offload.placing import FIRST_CHECK_SECONDS, place
from backroom.tasks import control, queries
from backroom.tasks.maintenance import tidy
from backroom.testing import run_tasks
from backroom.upkeep import tidying
from tests.offload.test_operations import ANN, order


def test_an_operation_goes_some_time_after_its_task(operations_database, fake_clock):
    operation = place(order(operations_database), ANN)
    fake_clock.advance(FIRST_CHECK_SECONDS)
    assert maintenance.prune() == 0
    run_tasks(operations_database)
    for _ in range(2):
        # Looked at while it is kept, it is not looked at again before its time is over.
        fake_clock.advance(CHECK_SECONDS)
        assert maintenance.prune() == 0
    assert maintenance.step() == (0, 0)
    fake_clock.advance(8 * 86_400)
    control.prune(using=operations_database)
    assert maintenance.prune() == 0
    found = operations.get(operation.pk)
    assert found
    assert operations.status_of(found).is_gone
    fake_clock.advance(GONE_SECONDS)
    assert maintenance.prune() == 1
    assert operations.get(operation.pk) is None


def test_a_gone_operation_is_joined_by_nobody(operations_database, fake_clock):
    first = place(order(operations_database), ANN)
    run_tasks(operations_database)
    fake_clock.advance(30 * 86_400)
    control.prune(using=operations_database)
    assert place(order(operations_database, cache_for=10**9), ANN).pk != first.pk


def test_each_step_is_bounded(operations_database, fake_clock, django_assert_max_num_queries):
    for number in range(7):
        place(order(operations_database), Owner(user_id=str(number)))
    fake_clock.advance(FIRST_CHECK_SECONDS)
    assert [maintenance.step(batch=3) for _ in range(4)] == [(3, 0), (3, 0), (1, 0), (0, 0)]


def test_an_operation_of_a_backend_that_is_no_more_goes_too(operations_database, fake_clock):
    place(order(operations_database), ANN)
    operations.operations().update(backend_name="removed")
    fake_clock.advance(FIRST_CHECK_SECONDS)
    maintenance.prune()
    fake_clock.advance(GONE_SECONDS)
    assert maintenance.prune() == 1


def test_a_workers_maintenance_looks_after_operations_too(operations_database, fake_clock):
    operation = place(order(operations_database), ANN)
    fake_clock.advance(60 * 86_400)
    backend = queries.backend_of(operations_database)
    control.cancel([operation.task_id], using=operations_database)
    fake_clock.advance(60 * 86_400)
    for _ in range(2):
        tidy(backend, backend.clock.now())
        fake_clock.advance(GONE_SECONDS + CHECK_SECONDS)
    assert operations.get(operation.pk) is None


def test_a_database_that_is_away_is_told_once_and_without_a_traceback(operations_database, monkeypatch, caplog):
    away = OperationalError("connection refused\n\tIs the server running?")
    found = [away, away, (0, 0), away, (0, 0)]

    def step():
        result = found.pop(0)
        if result is away:
            raise away
        return result

    monkeypatch.setattr(maintenance, "step", step)
    monkeypatch.setattr("backroom.upkeep.connections.close_all", lambda: None)
    told = []
    while found:
        tidying.send_robust(sender=None, using=operations_database)
        told.append(len(caplog.records))
    assert told == [1, 1, 1, 2, 2]
    assert {record.levelname for record in caplog.records} == {"WARNING"}
    assert "action=upkeep_waits module=backroom.offload.maintenance" in caplog.text
    assert "Traceback" not in caplog.text
