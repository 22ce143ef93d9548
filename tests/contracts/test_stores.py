"""The contract of stores, kept by each of ours."""

from collections import defaultdict

import pytest

from backroom.sql.dialect import fetch
from backroom.tasks.stores.memory import MemoryStore
from backroom.tasks.stores.sql import SQLStore
from backroom.tasks.stores.statements import TABLE
from backroom.testing.stores import StoreContract
from backroom.testing.stores.changing import Changing
from backroom.testing.stores.claiming import Claiming


class TestMemoryStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _empty(self):
        self.stores = defaultdict(MemoryStore)

    def make_store(self, backend_name):
        return self.stores[backend_name]


# Real commits: other threads are to see what one has written.
@pytest.mark.parametrize("store_database", ["default", "postgres", "pgbouncer"], indirect=True)
@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestSQLStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, store_database):
        self.alias = store_database

    def make_store(self, backend_name):
        return SQLStore(self.alias, backend_name)


class Expectant(SQLStore):
    """Asks as a worker does that expects something to claim in each of the queues there are."""

    def exchange(self, transitions, request):
        if request is not None:
            names = fetch(
                self.alias, f"SELECT DISTINCT queue_name FROM {TABLE} WHERE backend_name = %s", [self.backend_name]
            )
            queues = request.queues or tuple(name for (name,) in names)
            request = request._replace(is_expected=True, queues=queues)
        return super().exchange(transitions, request)


@pytest.mark.parametrize("store_database", ["default", "postgres"], indirect=True)
@pytest.mark.django_db(transaction=True, available_apps=["backroom.tasks"])
class TestExpectantSQLStore(Claiming, Changing):
    @pytest.fixture(autouse=True)
    def _database(self, store_database):
        self.alias = store_database

    def make_store(self, backend_name):
        return Expectant(self.alias, backend_name)
