"""A worker outlives what goes wrong in one attempt. Each of these ended one, or kept one busy for ever, once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.processes.conftest import Site, children, is_running, stop
from tests.services.project import wait_until


@pytest.mark.parametrize("name", ["interrupts_loop", "exits_in_a_child_task", "cancels_itself"])
def test_a_coroutine_that_ends_the_loop_ends_itself_alone(make_site: Callable[..., Site], name: str) -> None:
    site = make_site()
    worker = site.worker()
    site.enqueue(name)
    site.wait_for_states(failed=1)
    site.enqueue("add_in_loop", 1, 2)
    site.wait_for_states(failed=1, successful=1)
    assert stop(worker) == 0


def test_an_option_that_cannot_be_imported_harms_its_own_task_alone(make_site: Callable[..., Site]) -> None:
    site = make_site()
    [task_id] = site.enqueue("add", 1, 2, using="retry_on=ValueError")
    overrides = '{"retry_on": [{"path": "gone.from.here"}]}'
    site.project.query("UPDATE backroom_tasks_taskrecord SET overrides = ?", (overrides,))
    worker = site.worker()
    site.enqueue("add", 3, 4)
    site.wait_for_states(successful=1, deferred=1)
    assert "No module named 'gone'" in site.column("errors", task_id)
    [child] = children(worker)
    assert is_running(child.pid)
    assert stop(worker) == 0


def test_recycling_lets_what_runs_finish_however_long_it_takes(make_site: Callable[..., Site]) -> None:
    site = make_site()
    [long] = site.enqueue("gated", str(site.effects), str(site.gate))
    worker = site.worker("--max-tasks", "3", "--grace", "0.1", "--threads", "2")
    site.wait_for_line("begin")
    [first] = children(worker)
    site.enqueue("add", 1, many=3)
    site.wait_for_states(successful=3, running=1)
    # The grace period is for a stop that somebody asked for.
    wait_until(lambda: site.project.query("SELECT count(*) FROM backroom_tasks_workerrecord")[0][0] == 1)
    assert is_running(first.pid)
    site.open_gate()
    site.wait_for_states(successful=4)
    wait_until(lambda: not is_running(first.pid), what="the used-up process to be replaced")
    assert site.column("attempts", long) == 1
    assert len([line for line in site.lines() if line.startswith("begin")]) == 1
    assert stop(worker) == 0


def test_a_unique_window_that_lapses_while_its_task_runs_stops_nobody(make_site: Callable[..., Site]) -> None:
    site = make_site()
    unique = "unique=__import__('backroom.tasks', fromlist=['Unique']).Unique(key=lambda *_: 'one', scope=0.5)"
    site.enqueue("gated", str(site.effects), str(site.gate), using=unique)
    worker = site.worker()
    site.wait_for_line("begin")
    wait_until(
        lambda: (
            len({site.enqueue("gated", str(site.effects), str(site.gate), using=unique)[0] for _ in range(1)})
            and sum(site.states().values()) == 2
        ),
        what="a second task after the window",
    )
    site.open_gate()
    site.wait_for_states(successful=2)
    assert "store_away" not in worker.output()
    assert stop(worker) == 0


def test_no_task_waits_in_a_process_whose_slots_are_busy(make_site: Callable[..., Site]) -> None:
    site = make_site()
    # A loop that was used once made a busy process claim more and more for coroutines that were none.
    busy = site.worker("--threads", "1")
    site.enqueue("add_in_loop", 1, 2)
    site.wait_for_states(successful=1)
    site.enqueue("gated", str(site.effects), str(site.gate))
    site.wait_for_line("begin")
    site.enqueue("effect", str(site.effects), many=40)
    free = site.worker("--threads", "1")
    site.wait_for_states(successful=41, running=1)
    site.open_gate()
    site.wait_for_states(successful=42)
    assert [stop(busy), stop(free)] == [0, 0]


def test_a_task_that_holds_the_write_lock_is_stopped_in_time(make_site: Callable[..., Site]) -> None:
    # Renewing has to wait for the lock, and what watches the limits must not wait with it.
    site = make_site(lease=4.0)
    site.enqueue("holds_the_write_lock", str(site.effects))
    worker = site.worker("--threads", "1")
    site.wait_for_states(failed=1)
    assert site.lines() == ["locked", "interrupted"]
    assert stop(worker) == 0


def test_the_task_after_an_interrupted_begin_writes_for_good(make_site: Callable[..., Site]) -> None:
    site = make_site()
    worker = site.worker("--threads", "1")
    site.enqueue("is_interrupted_after_begin", str(site.effects))
    site.wait_for_states(failed=1)
    site.enqueue("writes", "kept")
    site.wait_for_states(failed=1, successful=1)
    assert site.project.query("SELECT name FROM auth_group") == [("kept",)]
    assert stop(worker) == 0
