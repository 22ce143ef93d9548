"""What the tests of the engine share: a backend on each database, and the tasks of `work`, which remember nothing."""

import pytest
from django.tasks import task_backends

from tests.tasks import work


@pytest.fixture(autouse=True)
def _nothing_seen():
    work.seen.clear()


@pytest.fixture
def backend(store_database):
    """Give the backend on this database; its alias is the database's."""
    return task_backends[store_database]
