"""The clerk tells the world in order, and a receiver that takes too long is told of and waited for only so long."""

from __future__ import annotations

import logging
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from backroom.tasks import clerk as clerk_module
from backroom.tasks.clerk import Clerk


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What hears of moves, and takes as long over each as a test likes."""
    heard: list[Any] = []
    receiver = SimpleNamespace(heard=heard, begun=threading.Event(), may_go_on=threading.Event())

    def announce(moves: list[Any], **_named: Any) -> None:
        receiver.begun.set()
        assert receiver.may_go_on.wait(60)
        heard.extend(moves)

    monkeypatch.setattr(clerk_module, "announce", announce)
    yield receiver
    receiver.may_go_on.set()


def new_clerk() -> Any:
    backend: Any = SimpleNamespace(defaults=None)
    return Clerk(backend)


def test_moves_are_announced_in_their_order_and_none_is_left_at_the_end(receiver):
    clerk = new_clerk()
    receiver.may_go_on.set()
    clerk.start()
    for moves in ([1, 2], [], [3]):
        clerk.announce(moves)
    clerk.stop()
    assert receiver.heard == [1, 2, 3]


def test_a_receiver_that_takes_too_long_does_not_hold_up_the_end_and_what_it_missed_is_told(
    receiver, monkeypatch, caplog
):
    clerk = new_clerk()
    monkeypatch.setattr(clerk_module, "PATIENCE", 0.01)
    clerk.start()
    clerk.announce([1])
    assert receiver.begun.wait(60)
    clerk.announce([2, 3])
    with caplog.at_level(logging.WARNING, "backroom.worker"):
        clerk.stop()
    assert [message.split(":")[0] for message in caplog.messages] == ["action=announcements_dropped tasks=2"]


def test_a_worker_claims_no_more_than_its_receivers_can_bear(receiver, monkeypatch):
    monkeypatch.setattr(clerk_module, "WAITING", 1)
    clerk = new_clerk()
    clerk.start()
    clerk.announce([1])
    assert receiver.begun.wait(60)
    clerk.announce([2])
    # One is being told and one waits: the third has to wait for room.
    third = threading.Thread(target=clerk.announce, args=([3],))
    third.start()
    third.join(0.05)
    assert third.is_alive()
    receiver.may_go_on.set()
    third.join(10)
    clerk.stop()
    assert receiver.heard == [1, 2, 3]
