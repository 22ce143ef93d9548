"""The watcher strikes what has overrun, whenever its function begins."""

import threading
import time

import pytest

from backroom.tasks.board import Board, shared_memory
from backroom.tasks.exceptions import TaskTimeout
from backroom.tasks.leases import Holdings, Watcher
from tests.tasks.test_execution import new_execution


def test_a_timeout_that_passes_before_the_function_begins_strikes_when_it_has_begun():
    execution = new_execution()
    holdings = Holdings()
    [holding] = holdings.take([execution.claim])
    holding.execution, holding.soft_at = execution, time.monotonic() - 1
    watcher = Watcher(holdings, Board(shared_memory(1)), cancel_grace=5)
    # Receivers of task_started are still at work: there is no function to strike.
    watcher.look()
    begun = threading.Event()

    def function() -> None:
        begun.set()
        for _ in range(10_000):
            time.sleep(0.001)

    def look_once_begun() -> None:
        begun.wait(60)
        watcher.look()

    thread = threading.Thread(target=look_once_begun)
    thread.start()
    with pytest.raises(TaskTimeout):
        execution.call(function)
    thread.join()
    assert holding.soft_at is None
