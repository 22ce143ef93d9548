"""What a supervisor reads of slots that can no longer answer."""

from backroom.tasks.board import Board, Post, shared_memory


def test_a_hard_limit_is_the_task_s_that_it_was_set_for():
    board = Board(shared_memory(2))
    board.post(0, "one")
    board.post(1, "other", 50.0)
    board.limit(0, "one", 20.0)
    assert list(board.posts()) == [Post("one", 20.0), Post("other", 50.0)]
    # Meanwhile the slot has begun the next task, which nobody wants cancelled.
    board.post(0, "next")
    board.limit(0, "one", 20.0)
    assert board.overdue(30.0) == frozenset()
    assert board.overdue(50.0) == {"other"}
    board.clear(1)
    assert list(board.posts()) == [Post("next", 0.0)]
