"""How long a supervisor bears with what it cannot end politely."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from backroom.tasks import supervisor
from backroom.tasks.clerk import PATIENCE
from backroom.tasks.settling import Death


class Stuck:
    """A process that settles a death and that a receiver never lets go on."""

    exitcode: int | None = None

    def start(self) -> None:
        """Start nothing."""

    def join(self) -> None:
        """Wait for nothing."""

    def is_alive(self) -> bool:
        return self.exitcode is None

    def kill(self) -> None:
        self.exitcode = -9


@pytest.mark.parametrize(
    ("is_stopping", "patience"), [(False, supervisor.SETTLE), (True, PATIENCE)], ids=["working", "stopping"]
)
def test_a_receiver_that_never_returns_holds_a_stop_no_longer_than_any_other(monkeypatch, is_stopping, patience):
    stuck, clock = Stuck(), SimpleNamespace(monotonic=lambda: 100.0)
    monkeypatch.setattr(supervisor, "_context", SimpleNamespace(Process=lambda **_arguments: stuck))
    monkeypatch.setattr(supervisor, "close_everything", lambda: None)
    monkeypatch.setattr(supervisor, "time", clock)
    settlement = supervisor.Settlement("default", Death("worker", frozenset()))
    for seconds in (0, patience):
        clock.monotonic = lambda: 100.0 + seconds  # noqa: B023 - called at once
        assert not settlement.is_over(is_stopping=is_stopping)
        assert stuck.is_alive()
    clock.monotonic = lambda: 100.0 + patience + 1
    assert not settlement.is_over(is_stopping=is_stopping)
    assert not stuck.is_alive()
    assert settlement.is_over(is_stopping=is_stopping)
