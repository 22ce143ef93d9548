"""The tables: as the models say, as the records say."""

from datetime import UTC, datetime
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.db import IntegrityError, connections, transaction
from django.utils import timezone

from backroom.clock import from_datetime
from backroom.tasks.models import TaskRecord, WorkerRecord
from backroom.tasks.records import Record
from backroom.tasks.stores import statements
from backroom.tasks.stores.sql import SQLStore
from backroom.testing.stores.case import NOW, new_record, worker


@pytest.mark.django_db
def test_the_migrations_make_what_the_models_say():
    out = StringIO()
    call_command("makemigrations", "backroom_tasks", check=True, dry_run=True, stdout=out)
    assert "No changes detected" in out.getvalue()


def test_a_row_has_the_columns_of_a_record():
    assert [field.name for field in TaskRecord._meta.concrete_fields] == list(Record._fields)
    assert TaskRecord._meta.db_table == statements.TABLE
    assert WorkerRecord._meta.db_table == statements.WORKERS


def test_every_field_of_a_record_is_inserted_or_has_a_default(store_database):
    inserted = {name for name, _ in statements.INSERTED}
    for field in TaskRecord._meta.concrete_fields:
        assert field.name in inserted or field.null or field.has_db_default(), field.name


def test_the_orm_reads_what_the_store_wrote(store_database):
    store = SQLStore(store_database, "contract")
    record = new_record(expires_at=NOW)
    store.insert([record])
    store.beat([worker("a", queues=("mail",))])
    row: Any = TaskRecord.objects.using(store_database).get(id=record.id)
    assert from_datetime(row.enqueued_at) == NOW
    assert row.enqueued_at.tzinfo is not None
    assert (row.state, row.fence, row.due_at) == ("ready", 0, None)
    assert str(row) == f"shop.tasks.send {record.id}"
    assert str(WorkerRecord.objects.using(store_database).get()) == "a"


def test_moments_can_be_asked_for_as_datetimes(store_database):
    SQLStore(store_database, "contract").insert([new_record(enqueued_at=from_datetime(timezone.now()))])
    rows = TaskRecord.objects.using(store_database)
    assert rows.filter(enqueued_at__lte=timezone.now()).count() == 1
    assert rows.filter(enqueued_at__gt=timezone.now()).count() == 0


@pytest.mark.parametrize("text", ["2030-01-01T00:00:00+00:00", "1893456000000000", 1_893_456_000_000_000])
def test_a_moment_of_a_form_or_a_fixture_is_a_datetime(text):
    field = TaskRecord._meta.get_field("enqueued_at")
    value = field.to_python(text)
    assert value == datetime(2030, 1, 1, tzinfo=UTC)
    assert field.to_python(value) == value
    assert field.to_python(None) is None
    assert field.get_prep_value(value) == 1_893_456_000_000_000


def test_a_naive_datetime_is_in_the_time_zone_of_the_project(settings):
    settings.TIME_ZONE = "Asia/Kathmandu"
    field = TaskRecord._meta.get_field("enqueued_at")
    assert field.get_prep_value(datetime(2030, 1, 1, 5, 45)) == 1_893_456_000_000_000  # noqa: DTZ001


def test_a_unique_key_is_the_databases_affair(store_database):
    store = SQLStore(store_database, "contract")
    store.insert([new_record(unique_key="k", unique_scope="unfinished")])
    (row,) = TaskRecord.objects.using(store_database)
    row.id = "another"
    with pytest.raises(IntegrityError), transaction.atomic(using=store_database):
        row.save(using=store_database, force_insert=True)


def test_no_two_records_have_one_id(store_database):
    record = new_record()
    store = SQLStore(store_database, "contract")
    store.insert([record])
    with pytest.raises(IntegrityError), transaction.atomic(using=store_database):
        store.insert([record])
    with connections[store_database].cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {statements.TABLE}")
        assert cursor.fetchone()[0] == 1
