"""What the file that names the vendors promises about transactions; test_patience.py has the locks."""

import pytest
from django.db import connections, transaction

from backroom.sql.dialect import UnsupportedDatabase, dialect_of, write_transaction


@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestWriteTransaction:
    def test_what_was_written_is_committed_or_taken_back(self, store_database):
        with write_transaction(store_database):
            self.write(store_database, "kept")
        with pytest.raises(ZeroDivisionError):
            self.write_and_raise(store_database, ZeroDivisionError)
        assert self.written(store_database) == ["kept"]

    def test_an_exception_that_is_no_error_takes_it_back_too(self, store_database):
        with pytest.raises(KeyboardInterrupt):
            self.write_and_raise(store_database, KeyboardInterrupt)
        assert self.written(store_database) == []
        assert not connections[store_database].in_atomic_block

    def test_inside_another_it_can_be_taken_back_alone(self, store_database):
        with transaction.atomic(using=store_database):
            self.write(store_database, "kept")
            with pytest.raises(ZeroDivisionError):
                self.write_and_raise(store_database, ZeroDivisionError)
        assert self.written(store_database) == ["kept"]

    def write_and_raise(self, alias, kind):
        with write_transaction(alias):
            self.write(alias, "taken back")
            raise kind

    def write(self, alias, name):
        with connections[alias].cursor() as cursor:
            cursor.execute(
                "INSERT INTO backroom_tasks_workerrecord (id, backend_name, host, pid, threads, started_at, seen_at)"
                " VALUES (%s, 'x', 'x', 1, 1, 1, 1)",
                [name],
            )

    def written(self, alias):
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT id FROM backroom_tasks_workerrecord ORDER BY id")
            return [name for (name,) in cursor.fetchall()]


def test_another_vendor_is_refused_with_what_is_supported(monkeypatch):
    monkeypatch.setattr(connections["default"], "vendor", "oracle")
    with pytest.raises(UnsupportedDatabase, match=r"is oracle\. Use one of: SQLite ≥ 3\.37, PostgreSQL ≥ 15"):
        dialect_of("default")
