from dataclasses import replace

import pytest

from backroom.clock import SECOND, after
from backroom.tasks import queries
from backroom.tasks.ids import new_id
from backroom.tasks.records import DEFERRED, Record, Worker
from backroom.tasks.stores.base import Request
from backroom.tasks.stores.memory import MemoryStore
from backroom.tasks.stores.sql import SQLStore

NOW = 1_900_000_000 * SECOND


pytestmark = pytest.mark.django_db(databases=["default", "postgres"])


@pytest.fixture(params=["memory", "default", "postgres"])
def store(request):
    if request.param == "memory":
        return MemoryStore()
    return SQLStore(request.param, "default")


def record(**values):
    return Record(new_id(), "default", "default", 0, "shop.tasks.work", "{}", NOW)._replace(**values)


def test_no_queue_has_an_oldest_task_when_none_is_ready(store):
    store.insert([record(state=DEFERRED, due_at=after(NOW, 60))])
    assert store.oldest_ready() == []


def test_the_oldest_of_a_queue_is_found_whatever_its_priority(store):
    low, high, mail, other = (
        record(priority=-100),
        record(priority=100),
        record(queue_name="mail", priority=5),
        record(backend_name="other"),
    )
    store.insert([high, low, mail])
    if not isinstance(store, MemoryStore):
        store.insert([other])
    assert store.oldest_ready() == [low, mail]


def test_a_claimed_task_is_the_oldest_no_more(store):
    first, second = record(), record()
    store.insert([first, second])
    store.claim(Request((), 1, "worker", NOW, after(NOW, 30)))
    assert store.oldest_ready() == [second]


def test_a_task_waits_since_it_became_ready():
    assert queries.ready_since(record()) == NOW
    assert queries.ready_since(record(run_after=after(NOW, 60))) == after(NOW, 60)
    assert queries.ready_since(record(run_after=after(NOW, -60))) == NOW
    assert queries.ready_since(record(last_attempted_at=after(NOW, 90))) == after(NOW, 90)


def test_a_worker_is_silent_after_a_lease_without_a_word():
    worker = Worker(id="w", host="h", pid=1, queues=(), threads=4, started_at=NOW, seen_at=NOW)
    assert not queries.is_silent(worker, now=after(NOW, 29))
    assert queries.is_silent(worker, now=after(NOW, 31))
    assert not queries.is_silent(replace(worker, seen_at=after(NOW, 5)), now=after(NOW, 31))


def test_only_what_other_processes_see_is_shared(settings):
    path = "backroom.tasks.backends"
    settings.TASKS = {
        "default": {"BACKEND": f"{path}.database.DatabaseBackend"},
        "double": {"BACKEND": f"{path}.dummy.DummyBackend"},
        "inline": {"BACKEND": f"{path}.immediate.ImmediateBackend"},
        "theirs": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"},
    }
    assert queries.our_aliases() == ["default", "double", "inline"]
    assert queries.shared_aliases() == ["default"]
