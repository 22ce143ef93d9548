"""The contract of stores, kept by each of ours."""

from collections import defaultdict

import pytest

from backroom.tasks.stores.memory import MemoryStore
from backroom.tasks.stores.sql import SQLStore
from backroom.testing.stores import StoreContract


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
