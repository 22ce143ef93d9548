from itertools import product

import pytest

from backroom.tasks.lifecycle import LABELS, MOVES, IllegalMove, check_move, label
from backroom.testing.stores.case import new_record

LEGAL = {
    ("deferred", "ready"),
    ("deferred", "failed"),
    ("ready", "running"),
    ("ready", "failed"),
    ("running", "ready"),
    ("running", "deferred"),
    ("running", "successful"),
    ("running", "failed"),
    ("successful", "ready"),
    ("failed", "ready"),
}


@pytest.mark.parametrize(("before", "after"), list(product(MOVES, MOVES)))
def test_only_these_moves_are_legal(before, after):
    record = new_record(state=before)
    if (before, after) in LEGAL:
        check_move(record, after)
    else:
        with pytest.raises(IllegalMove, match=f"{record.id} is {before} and cannot become {after}"):
            check_move(record, after)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"state": "deferred"}, "scheduled"),
        ({"state": "deferred", "failures": 1}, "retrying"),
        ({"state": "ready"}, "ready"),
        ({"state": "running"}, "running"),
        ({"state": "running", "cancel_requested": True}, "cancelling"),
        ({"state": "successful"}, "successful"),
        ({"state": "failed", "reason": "error"}, "failed"),
        ({"state": "failed", "reason": "timeout"}, "timeout"),
        ({"state": "failed", "reason": "cancelled"}, "cancelled"),
        ({"state": "failed", "reason": "expired"}, "expired"),
        ({"state": "failed", "reason": "lost"}, "lost"),
    ],
)
def test_a_label_says_where_a_task_stands(values, word):
    assert label(new_record(**values)) == word
    assert word in LABELS
