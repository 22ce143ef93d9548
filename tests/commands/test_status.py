import json

import pytest

from backroom.clock import after
from backroom.tasks import queries
from backroom.tasks.management.subcommands import status as subcommand
from backroom.tasks.records import Worker
from tests.commands.work import succeed

pytestmark = pytest.mark.django_db


def worker(backend, id_, *, seen=0.0, queues=(), running=0):
    seen_at = after(backend.clock.now(), -seen)
    started_at = after(seen_at, -60)
    beat = Worker(
        id=id_, host="shop-1", pid=7, queues=queues, threads=4, started_at=started_at, seen_at=seen_at, running=running
    )
    backend.store.beat([beat])


def test_queues_and_states_stand_in_a_table(tasks, backroom):
    printed = backroom("status")
    assert printed.status == 0
    heading, headers, numbers = printed.out.splitlines()[:3]
    assert heading == "TASKS['default']"
    assert headers.split() == [
        "queue",
        "deferred",
        "ready",
        "running",
        "successful",
        "failed",
        "oldest",
        "ready",
        "workers",
    ]
    assert numbers.split()[:6] == ["default", "1", "1", "1", "1", "1"]
    assert "No worker is running now. Start one: manage.py backroom worker" in printed.out


def test_a_worker_for_another_backend_is_started_by_its_name(settings, backroom):
    kept = "backroom.tasks.backends.database.DatabaseBackend"
    settings.TASKS = {"default": {"BACKEND": kept}, "reports": {"BACKEND": kept}}
    starts = [line for line in backroom("status").out.splitlines() if "Start one" in line]
    assert [line.rpartition(": ")[2] for line in starts] == [
        "manage.py backroom worker",
        "manage.py backroom worker --backend reports",
    ]


def test_a_queue_that_nobody_used_yet_is_there(backend, backroom, settings):
    backend.queues = {"mail", "reports"}
    assert [line.split()[0] for line in backroom("status").out.splitlines()[2:4]] == ["mail", "reports"]


def test_a_program_gets_the_same_under_stable_keys(tasks, backend, backroom):
    worker(backend, "w1", running=1)
    worker(backend, "w2", seen=90, queues=("mail",))
    [found] = json.loads(backroom("status", "--json").out)["backends"]
    [queue] = found["queues"]
    assert queue.pop("oldest_ready_seconds") < 30
    assert queue == {
        "queue": "default",
        "deferred": 1,
        "ready": 1,
        "running": 1,
        "successful": 1,
        "failed": 1,
        "at_least": [],
        "workers": 1,
    }
    assert [(each["id"], each["is_alive"], each["running"], each["queues"]) for each in found["workers"]] == [
        ("w1", True, 1, []),
        ("w2", False, 0, ["mail"]),
    ]
    assert set(found["workers"][0]) == {
        *("id", "host", "pid", "queues", "threads", "running"),
        *("is_alive", "started_at", "seen_at", "seen_seconds"),
    }
    assert (found["backend"], found["at"][:2]) == ("default", "20")


def test_workers_stand_in_a_table(backend, backroom):
    worker(backend, "shop-1:7:aa", running=3)
    worker(backend, "shop-2:8:bb", seen=600, queues=("mail", "reports"))
    first, second = [line for line in backroom("status").out.splitlines() if line.startswith("shop-")]
    assert first.split() == ["shop-1:7:aa", "alive", "0", "s", "ago", "3", "4", "shop-1", "7", "all"]
    assert second.split() == ["shop-2:8:bb", "silent", "10", "min", "ago", "0", "4", "shop-1", "7", "mail,", "reports"]


class Counts(dict[tuple[str, str], int]):
    """Counts that note how often somebody goes through all of them."""

    gone_through = 0

    def items(self):
        self.gone_through += 1
        return super().items()

    def __iter__(self):
        self.gone_through += 1
        return super().__iter__()


@pytest.fixture
def counts(backend, monkeypatch):
    """Give counts for the command to tell; of those of one state, two are as many as are counted."""
    counts = Counts()
    monkeypatch.setattr(subcommand, "COUNT_CAP", 2)
    monkeypatch.setattr(queries, "counts", lambda **_named: counts)
    return counts


def test_a_count_that_was_cut_short_says_so(counts, backroom):
    counts |= {("a", "failed"): 1, ("b", "failed"): 1, ("a", "successful"): 1, ("a", "ready"): 1, ("b", "ready"): 2}
    [found] = json.loads(backroom("status", "--json").out)["backends"]
    # Failures are counted over all queues, and what is ready queue by queue.
    assert [queue["at_least"] for queue in found["queues"]] == [["failed"], ["ready", "failed"]]
    numbers = [line.split()[:6] for line in backroom("status").out.splitlines()[2:4]]
    assert numbers == [["a", "0", "1", "0", "1", "1+"], ["b", "0", "2+", "0", "0", "1+"]]


def test_however_many_queues_there_are_the_counts_are_gone_through_no_more_often(counts, backroom):
    counts |= {(f"customer-{number}", "ready"): 1 for number in range(50)}
    assert len(json.loads(backroom("status", "--json").out)["backends"][0]["queues"]) == 50
    assert counts.gone_through == 2


def test_all_backends_are_shown_unless_one_is_named(backend, backroom, settings):
    settings.TASKS = settings.TASKS | {"mail": settings.TASKS["default"]}
    assert backroom("status").out.count("TASKS[") == 2
    assert backroom("status", "--backend=mail").out.startswith("TASKS['mail']")


def test_watching_goes_on_until_it_is_interrupted(backend, backroom, monkeypatch):
    naps = []

    def sleep(seconds):
        naps.append(seconds)
        if len(naps) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    printed = backroom("status", "--json", "--watch", "0.5")
    assert [json.loads(line)["backends"][0]["backend"] for line in printed.out.splitlines()] == ["default", "default"]
    assert naps == [0.5, 0.5]
    assert printed.status == 130


def test_the_longest_wait_of_a_ready_task_is_told(backend, backroom):
    succeed.enqueue()
    [found] = json.loads(backroom("status", "--json").out)["backends"]
    assert 0 <= found["queues"][0]["oldest_ready_seconds"] < 30
