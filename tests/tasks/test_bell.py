"""One thread waits, and whatever concerns it wakes it."""

import os
import threading

import pytest

from backroom.tasks.bell import Bell


class Ear:
    """A listener whose rings the test makes."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.is_asked = False

    def open(self) -> None: ...

    def ring(self) -> None:
        os.write(self.writer, b"!")

    def fileno(self) -> int | None:
        self.is_asked = True
        return self.reader

    def hear(self) -> bool:
        try:
            return bool(os.read(self.reader, 100))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def bell():
    bell = Bell()
    yield bell
    bell.close()


@pytest.fixture
def ear():
    ear = Ear()
    yield ear
    ear.close()


def test_a_ring_before_the_wait_is_not_lost(bell):
    bell.ring()
    assert bell.wait(60)


def test_many_rings_wake_once(bell):
    for _ in range(100_000):
        bell.ring()
    while bell.wait(0.001):
        pass
    assert not bell.wait(0.001)


def test_a_ring_of_another_thread_wakes(bell):
    thread = threading.Timer(0.01, bell.ring)
    thread.start()
    assert bell.wait(60)
    thread.join()


def test_what_a_listener_has_heard_already_wakes(bell, ear):
    ear.ring()
    assert bell.wait(10, ear) == "heard"


def test_what_a_listener_hears_while_it_waits_wakes(bell, ear):
    thread = threading.Timer(0.01, ear.ring)
    thread.start()
    assert bell.wait(10, ear)
    thread.join()


def test_a_listener_is_not_asked_for_by_one_who_has_no_room(bell, ear):
    ear.ring()
    assert not bell.wait(0.001)
    assert not ear.is_asked
    assert ear.hear()


def test_a_ring_of_its_own_wakes_who_listens_too(bell, ear):
    bell.ring()
    assert bell.wait(10, ear) == "rung"
    assert not ear.hear()


def test_rings_that_follow_at_once_are_heard_as_one(bell, ear):
    ear.ring()
    assert bell.wait(10, ear)
    ear.ring()
    # Within its rest it does not listen, however long it still waits.
    assert bell.wait(10, ear)
    assert not bell.wait(0.001, ear)


def test_a_closed_bell_is_rung_in_vain():
    bell = Bell()
    bell.close()
    bell.ring()
