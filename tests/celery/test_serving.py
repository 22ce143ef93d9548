"""What a worker's main process does when the worker ends."""

from typing import Any

import pytest

from backroom.celery import serving


class Closed:
    """A pool of Celery's that has been closed."""

    @property
    def info(self) -> Any:
        pool: Any = None
        return {"processes": pool._pool}


class Look:
    is_stopped = False

    def stop(self) -> None:
        self.is_stopped = True


@pytest.fixture
def look(monkeypatch):
    made = Look()
    worker = serving._Worker()
    monkeypatch.setattr(worker, "look", made)
    monkeypatch.setattr(serving, "_worker", worker)
    return made


def test_a_pool_that_was_closed_has_no_children():
    assert serving._children(Closed()) == set()


def test_the_look_for_what_overran_ends_with_the_worker(look):
    serving._on_worker_shutting_down(how="Warm")
    assert not look.is_stopped, "what runs may still overrun its limit"
    serving._on_worker_shutdown()
    assert look.is_stopped


def test_the_look_for_what_overran_ends_with_a_cold_shutdown(look):
    serving._on_worker_shutting_down(how="Cold")
    assert look.is_stopped
