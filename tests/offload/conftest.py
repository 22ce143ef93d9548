"""What the tests of offloaded views share: a browser's header, running tasks, and the database of operations."""

import json
from typing import Any

import pytest

from backroom.clock import after
from backroom.offload import operations
from backroom.tasks.policy import DEFAULT_RULES, decide
from backroom.tasks.queries import backend_of
from backroom.tasks.records import Claim, Outcome, Renewal, Succeeded
from backroom.tasks.stores.base import Request
from tests.offload import work

HTML = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


@pytest.fixture(autouse=True)
def _no_runs():
    work.runs.clear()


@pytest.fixture
def operations_database(store_database, monkeypatch) -> str:
    """Keep operations in each database in turn, beside the tasks; the value is its alias."""
    monkeypatch.setattr(operations, "database", lambda: store_database)
    return str(store_database)


class Running:
    """A task in the hands of a worker that the test plays."""

    def __init__(self, using: str = "default") -> None:
        self.store = backend_of(using).store
        now = operations.now()
        claims = self.store.claim(Request((), 1, "the test", now, after(now, 60)))
        assert claims, "no task is due"
        self.claim: Claim = claims[0]

    def report(self, done: float, total: float | None, message: str = "") -> None:
        progress = json.dumps([done, total, message])
        self.store.renew([Renewal(self.claim.id, self.claim.fence, progress)], after(operations.now(), 60))

    def end(self, outcome: Outcome) -> None:
        record = self.store.get([self.claim.id])[0]
        ended = decide(record, outcome, rules=DEFAULT_RULES, now=operations.now(), draw=0)
        assert self.store.apply([ended])

    def finish(self) -> None:
        self.end(Succeeded(json.dumps(figures(2024))))


def figures(year: int, title: str = "Sales") -> dict[str, Any]:
    """Return what `work.build_report` returns."""
    return {"title": title, "year": year, "total": year * 2}
