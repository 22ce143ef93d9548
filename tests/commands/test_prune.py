import json

import pytest

from backroom.tasks import queries
from backroom.tasks.inline import run_due
from backroom.tasks.records import Query
from tests.commands.work import fail, succeed

pytestmark = pytest.mark.django_db


@pytest.fixture
def old(backend):
    """Finish five tasks whose time is over at once, and one that is kept."""
    for _ in range(5):
        succeed.using(keep_result=False).enqueue()
    fail.enqueue()
    run_due(backend)


def test_finished_tasks_whose_time_is_over_are_deleted(old, backroom):
    assert backroom("prune", "--batch=2").out == "Deleted 5 finished tasks.\n"
    assert [record.state for record in queries.find(Query()).records] == ["failed"]
    assert backroom("prune").out == "Deleted 0 finished tasks.\n"


def test_a_program_is_told_how_many(old, backroom):
    assert json.loads(backroom("prune", "--json").out) == {"backends": [{"backend": "default", "deleted": 5}]}
