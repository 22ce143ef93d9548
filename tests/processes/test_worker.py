"""What a worker promises while all goes well, and when it is told to stop. Real processes, real databases."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.processes.conftest import Site, children, is_running, stop
from tests.services.project import wait_until


def test_a_burst_runs_what_is_due_and_ends(site: Site) -> None:
    site.enqueue("add", 1, many=300)
    assert site.worker("--burst").wait(timeout=60) == 0
    assert site.states() == {"successful": 300}


def test_a_burst_leaves_what_is_not_due(site: Site) -> None:
    site.enqueue("add", 1, 2, using="run_after=__import__('datetime').timedelta(hours=1)")
    assert site.worker("--burst").wait(timeout=60) == 0
    assert site.states() == {"deferred": 1}


def test_a_worker_in_process_needs_no_child(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.enqueue("gated", str(site.effects), str(site.gate))
    worker = site.worker("--in-process", "--threads", "1")
    assert site.wait_for_line("begin").split()[2] == str(worker.pid)
    assert children(worker) == []
    site.open_gate()
    site.wait_for_states(successful=1)
    assert stop(worker) == 0


def test_several_processes_share_the_queue_and_run_nothing_twice(site: Site) -> None:
    site.enqueue("effect", str(site.effects), many=600)
    assert site.worker("--burst", "--processes", "3").wait(timeout=60) == 0
    assert sorted(map(int, site.lines())) == list(range(600))


def test_a_worker_serves_only_the_queues_it_is_given(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.project.add_settings("TASKS['default']['QUEUES'] = ['default', 'mail']")
    site.enqueue("add", 1, 2)
    [mail] = site.enqueue("add", 1, 2, using="queue_name='mail'")
    assert site.worker("--burst", "--queues", "mail").wait(timeout=60) == 0
    assert site.column("state", mail) == "successful"
    assert site.states() == {"successful": 1, "ready": 1}


def test_an_idle_worker_starts_a_task_at_once(site: Site) -> None:
    worker = site.worker()
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=1)
    site.enqueue("effect", str(site.effects), 1)
    site.wait_for_line("1")
    assert stop(worker) == 0


def test_failures_retries_snoozes_and_exits_end_as_they_should(site: Site) -> None:
    [twice] = site.enqueue("fails_twice", str(site.effects))
    worker = site.worker()
    site.wait_for_states(successful=1)
    assert (site.column("attempts", twice), site.column("failures", twice)) == (3, 2)
    site.effects.write_text("")
    [snoozed] = site.enqueue("snoozes_twice", str(site.effects))
    site.wait_for_states(successful=2)
    assert site.column("attempts", snoozed) == 1
    [exits] = site.enqueue("exits")
    site.wait_for_states(failed=1)
    assert "SystemExit" in site.column("errors", exits)
    assert stop(worker) == 0


def test_a_task_that_raises_keyboard_interrupt_harms_no_worker(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("--threads", "1")
    [task_id] = site.enqueue("interrupts")
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=1, failed=1)
    # Begun again like after a crash, and not for ever.
    assert (site.column("reason", task_id), site.column("crashes", task_id)) == ("lost", 3)
    assert stop(worker) == 0


def test_progress_is_seen_while_the_task_runs(site: Site) -> None:
    worker = site.worker()
    [task_id] = site.enqueue("counts_to_the_end", str(site.effects), str(site.gate))
    wait_until(lambda: site.column("progress", task_id) == '[1, 4, "one of four"]', what="the first report")
    assert site.column("state", task_id) == "running"
    site.open_gate()
    site.wait_for_states(successful=1)
    assert site.column("progress", task_id) == '[4, 4, "all"]'
    assert stop(worker) == 0


def test_coroutines_overlap_in_one_process(site: Site) -> None:
    # Each waits until thirty have begun, so they finish only if thirty run at once.
    site.enqueue("overlaps", 30, many=30)
    assert site.worker("--burst", "--threads", "1").wait(timeout=60) == 0
    assert site.states() == {"successful": 30}


def test_no_task_waits_behind_a_slow_one_while_another_worker_is_free(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.enqueue("gated", str(site.effects), str(site.gate), using="priority=10")
    site.enqueue("effect", str(site.effects), many=20)
    busy = site.worker("--threads", "1")
    site.wait_for_line("begin")
    free = site.worker("--threads", "1")
    site.wait_for_states(successful=20, running=1)
    site.open_gate()
    site.wait_for_states(successful=21)
    assert [stop(busy), stop(free)] == [0, 0]


def test_term_finishes_what_runs_and_leaves_the_rest_untouched(site: Site) -> None:
    site.enqueue("gated", str(site.effects), str(site.gate), using="priority=10")
    worker = site.worker("--threads", "1", "--grace", "20")
    site.wait_for_line("begin")
    waiting = site.enqueue("effect", str(site.effects), many=5)
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_output("action=stopping")
    wait_until(lambda: site.states() == {"running": 1, "ready": 5}, what=lambda: f"{site.states()}")
    site.open_gate()
    assert worker.wait(timeout=60) == 0
    assert site.states() == {"successful": 1, "ready": 5}
    assert [site.column("attempts", task_id) for task_id in waiting] == [0] * 5


@pytest.mark.parametrize("signals", [1, 2])
def test_what_outlasts_the_grace_period_or_a_second_signal_is_handed_back(site: Site, signals: int) -> None:
    [task_id] = site.enqueue("gated", str(site.effects), str(site.gate), using="expires=600")
    worker = site.worker("--grace", "0.3" if signals == 1 else "60")
    site.wait_for_line("begin")
    worker.send_signal(signal.SIGTERM)
    if signals == 2:
        worker.wait_for_output("stopping")
        worker.send_signal(signal.SIGTERM)
    assert worker.wait(timeout=60) == 0
    assert site.column("state", task_id) == "ready"
    assert (site.column("attempts", task_id), site.column("crashes", task_id)) == (0, 0)
    assert site.column("expires_at", task_id) is None, "it was started in time"
    site.open_gate()
    assert site.worker("--burst").wait(timeout=60) == 0
    assert site.column("state", task_id) == "successful"


def test_ctrl_c_in_a_terminal_stops_gracefully(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.enqueue("gated", str(site.effects), str(site.gate))
    worker = site.worker("--grace", "20")
    site.wait_for_line("begin")
    worker.interrupt()
    worker.wait_for_output("stopping")
    # A service manager tells every process of the group, not the supervisor alone.
    for child in children(worker):
        child.terminate()
    site.open_gate()
    assert worker.wait(timeout=60) == 0
    assert site.states() == {"successful": 1}


def test_a_process_is_recycled_after_so_many_tasks(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("--max-tasks", "50")
    wait_until(lambda: len(children(worker)) == 1, what="a child")
    [first] = children(worker)
    site.enqueue("effect", str(site.effects), many=60)
    site.wait_for_states(successful=60)
    wait_until(lambda: not is_running(first.pid), what="the first process to be replaced")
    wait_until(lambda: len(children(worker)) == 1, what="its successor")
    assert sorted(map(int, site.lines())) == list(range(60))
    assert stop(worker) == 0


def test_a_burst_outlives_the_processes_that_it_uses_up(make_site: Callable[..., Site]) -> None:
    site = make_site()
    site.enqueue("effect", str(site.effects), many=300)
    assert site.worker("--burst", "--max-tasks", "50").wait(timeout=60) == 0
    assert site.states() == {"successful": 300}


def test_a_process_is_recycled_when_it_has_grown(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("--max-memory-growth", "50M")
    wait_until(lambda: len(children(worker)) == 1, what="a child")
    [first] = children(worker)
    wait_until(lambda: first.cpu_times().user >= 0 and site.project.query("SELECT 1 FROM backroom_tasks_workerrecord"))
    site.enqueue("grows", 1)
    site.wait_for_states(successful=1)

    def grown_and_replaced() -> bool:
        if is_running(first.pid):
            site.enqueue("grows", 60)
        return not is_running(first.pid)

    wait_until(grown_and_replaced, seconds=40, what="the grown process to be replaced")
    assert stop(worker) == 0


def test_reload_takes_up_changed_code(make_site: Callable[..., Site]) -> None:
    site = make_site()
    source = "from django.tasks import task\n\n\n@task\ndef version():\n    return {!r}\n"
    site.project.write("mysite/tasks.py", source.format("old"))
    site.project.add_settings("INSTALLED_APPS.append('mysite')")
    site.project.write("mysite/models.py", "from mysite import tasks\n")
    enqueue = "from mysite.tasks import version\nprint(version.enqueue().id)"
    worker = site.worker("--reload")
    old = site.project.python(enqueue).strip()
    site.wait_for_states(successful=1)
    file = site.project.write("mysite/tasks.py", source.format("new"))
    os.utime(file, (file.stat().st_mtime + 10,) * 2)
    worker.wait_for_output("reloading")
    new = site.project.python(enqueue).strip()
    site.wait_for_states(successful=2)
    assert (site.column("result", old), site.column("result", new)) == ('"old"', '"new"')
    assert stop(worker) == 0


def test_a_killed_worker_is_started_again_by_the_reloader(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("--reload")
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=1)
    for child in children(worker):
        child.kill()
    worker.wait_for_output("starting it again")
    site.enqueue("add", 1, 2)
    site.wait_for_states(successful=2)
    assert stop(worker) == 0


def test_atomic_writes_and_their_completion_are_one(site: Site) -> None:
    ids = [site.enqueue("creates_group", f"group {number}")[0] for number in (0, 0, 1, 2)]
    assert site.worker("--burst").wait(timeout=60) == 0
    assert sorted(site.column("state", task_id) for task_id in ids) == ["failed"] + ["successful"] * 3
    assert site.project.query("SELECT count(*) FROM auth_group") == [(3,)]


def test_a_worker_works_behind_a_transaction_pooling_pgbouncer(make_site: Callable[..., Site]) -> None:
    site = make_site("pgbouncer")
    worker = site.worker("--processes", "2")
    site.enqueue("effect", str(site.effects), many=300)
    site.wait_for_states(successful=300)
    site.enqueue("creates_group", "one")
    site.wait_for_states(successful=301)
    assert sorted(map(int, site.lines())) == list(range(300))
    assert stop(worker) == 0
