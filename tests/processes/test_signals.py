"""What receivers of signals are told by a real worker, and where: in a process that nobody forks from."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import pytest

from tests.processes.conftest import Site, stop
from tests.services.project import wait_until

RECEIVING = "INSTALLED_APPS.append('tests.processes.receiving.Receiving')"


@pytest.fixture
def told(site: Site) -> Callable[[], list[tuple[str, int]]]:
    """Return a function that tells what receivers wrote down, and the process in which they did."""
    site.project.add_settings(RECEIVING)

    def told() -> list[tuple[str, int]]:
        rows = [name.rsplit(" ", 1) for (name,) in site.project.query("SELECT name FROM auth_group")]
        return sorted((text, int(pid)) for text, pid in rows)

    return told


def words(rows: list[tuple[str, int]]) -> list[str]:
    return [text for text, _ in rows]


@pytest.mark.parametrize("name", ["add", "add_in_loop"])
def test_receivers_use_the_orm_and_fail_without_harm(site: Site, told: Callable, name: str) -> None:
    site.enqueue(name, 1, 2)
    assert site.worker("--burst").wait(timeout=60) == 0
    assert site.states() == {"successful": 1}
    assert words(told()) == [
        *(f"async finished {name} 1", f"async started {name} 1"),
        *(f"finished {name} 1", f"started {name} 1"),
    ]


def test_a_retry_is_told(site: Site, told: Callable) -> None:
    site.enqueue("fails_twice", str(site.effects))
    worker = site.worker()
    site.wait_for_states(successful=1)
    assert stop(worker) == 0
    assert [text for text in words(told()) if "retried" in text] == [
        *("async retried fails_twice 1", "async retried fails_twice 2"),
        *("retried fails_twice 1", "retried fails_twice 2"),
    ]


@pytest.mark.parametrize("name", ["dies", "overruns"])
def test_what_ends_with_its_process_is_told_outside_the_process_that_forks(
    site: Site, told: Callable, name: str
) -> None:
    site.project.add_settings("TASKS['default']['OPTIONS'] = {'crash_budget': 1, 'timeout_grace': 0.3}")
    site.enqueue(name, str(site.effects))
    worker = site.worker()
    site.wait_for_states(failed=1)
    wait_until(lambda: len([text for text in words(told()) if "finished" in text]) == 2, what=lambda: repr(told()))
    tellers = {pid for text, pid in told() if "finished" in text}
    assert worker.pid not in tellers
    assert stop(worker) == 0


def test_what_ended_with_the_last_process_is_told_too(site: Site, told: Callable) -> None:
    site.project.add_settings("TASKS['default']['OPTIONS'] = {'crash_budget': 1}")
    [task_id] = site.enqueue("slow", str(site.effects), 60)
    worker = site.worker("--threads", "1", "--grace", "60", "--verbosity", "2")
    pid = int(site.wait_for_line("begin").split()[2])
    # Told to stop, the supervisor starts no process more.
    worker.send_signal(signal.SIGTERM)
    worker.wait_for_output("action=stopping")
    os.kill(pid, signal.SIGKILL)
    assert worker.wait(timeout=60) == 0
    assert site.states() == {"failed": 1}
    assert f"action=lost task_id={task_id}" in worker.output()
