"""What a child of a worker leaves behind, and who ends it."""

import os
import signal
import subprocess
import time

from backroom.celery.places import Leftover, Place, end_overdue


def test_the_first_in_a_place_finds_nothing():
    assert Place().take() is None


def test_a_successor_finds_what_its_predecessor_was_at():
    place = Place()
    place.take()
    place.board.post(0, "task-1")
    assert place.take() == Leftover(os.getpid(), frozenset({"task-1"}), was_ended=False)
    assert place.take() == Leftover(os.getpid(), frozenset(), was_ended=False)


def test_who_left_in_good_order_leaves_nothing():
    place = Place()
    place.take()
    place.leave()
    assert place.take() is None


def test_a_child_that_overran_its_limit_is_ended_and_its_successor_knows():
    with subprocess.Popen(["sleep", "600"]) as child:
        places = [Place(), Place()]
        places[1].take()
        places[1]._tenant[0] = child.pid
        places[1].board.post(0, "task-1", time.monotonic() - 1)
        end_overdue(places, lambda: {os.getpid()})
        assert places[1]._tenant[1] == 0, "it was no child of this worker's"
        end_overdue(places, lambda: {child.pid})
        assert child.wait(60) == -signal.SIGKILL
        assert places[1].take() == Leftover(child.pid, frozenset({"task-1"}), was_ended=True)


def test_a_child_within_its_limit_is_left_alone():
    place = Place()
    place.take()
    place.board.post(0, "task-1", time.monotonic() + 60)
    end_overdue([place], lambda: {os.getpid()})
    place.board.post(0, "task-2")
    end_overdue([place], lambda: {os.getpid()})
