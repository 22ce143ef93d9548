"""Backends share a store's place without seeing one another; workers sign in; transactions hold together."""

from backroom.clock import after
from backroom.tasks.records import Query
from backroom.testing.stores.case import NOW, StoreCase, deferred, ids_of, new_record, request, succeeded, worker


class TakenBack(Exception):
    """Undoes a transaction."""


class Sharing(StoreCase):
    """Several backends, the registry of workers, and transactions."""

    def test_no_backend_sees_the_records_of_another(self) -> None:
        theirs = self.make_store("theirs")
        ready = new_record(backend_name="theirs", expires_at=NOW)
        late = new_record(backend_name="theirs", **deferred(1))
        theirs.insert([ready, late])
        assert self.claim(9, now=after(NOW, 60)) == []
        assert self.claim(9, ids=[ready.id, late.id], now=after(NOW, 60)) == []
        assert self.store.get([ready.id, late.id]) == []
        assert self.store.find(Query()) == ([], None)
        assert self.store.counts() == {}
        assert self.store.oldest_ready() == []
        assert self.store.unstarted(9, after(NOW, 60)) == []
        assert theirs.get([late.id]) == [late]

    def test_no_backend_touches_what_another_runs_or_has_finished(self) -> None:
        theirs = self.make_store("theirs")
        theirs.insert([new_record(backend_name="theirs") for _ in range(2)])
        running, finished = theirs.claim(request(9))
        theirs.apply([succeeded(finished)._replace(prune_at=NOW)])
        assert self.store.overdue(9, after(NOW, 3600)) == []
        assert self.store.request_cancel([running.id]) == frozenset()
        theirs.request_cancel([running.id])
        assert self.store.cancelling(running.worker_id) == frozenset()
        assert self.store.prune(NOW, 9) == 0
        assert theirs.get([running.id]) == [running._replace(cancel_requested=True)]

    def test_backends_work_side_by_side(self) -> None:
        theirs = self.make_store("theirs")
        ours = self.insert(2)
        theirs.insert([new_record(backend_name="theirs") for _ in range(2)])
        assert ids_of(self.claim(9)) == ids_of(ours)
        assert theirs.counts() == {("default", "ready"): 2}

    def test_workers_are_noted_and_forgotten(self) -> None:
        second, first = worker("b", queues=("mail", "print"), running=3), worker("a")
        self.store.beat([second, first])
        assert self.store.workers() == [first, second]
        self.store.forget(["a", "unknown"])
        assert self.store.workers() == [second]

    def test_a_worker_that_is_noted_again_is_seen_later(self) -> None:
        self.store.beat([worker("a"), worker("b")])
        self.store.beat([worker("a", seen_at=after(NOW, 10), running=2)])
        assert self.store.workers() == [worker("a", seen_at=after(NOW, 10), running=2), worker("b")]

    def test_no_workers_are_noted_or_forgotten(self) -> None:
        self.store.beat([])
        self.store.forget([])
        assert self.store.workers() == []

    def test_each_backend_has_workers_of_its_own(self) -> None:
        theirs = self.make_store("theirs")
        theirs.beat([worker("a")])
        self.store.forget(["a"])
        assert self.store.workers() == []
        assert theirs.workers() == [worker("a")]

    def test_a_transaction_that_is_taken_back_leaves_nothing(self) -> None:
        if not self.store.supports_atomic:
            return
        claim = self.insert_and_claim()
        record = new_record()
        try:
            with self.store.transaction():
                self.store.insert([record])
                assert self.store.apply([succeeded(claim)]) == {claim.id}
                raise TakenBack
        except TakenBack:
            pass
        assert self.store.get([claim.id, record.id]) == [claim]

    def test_a_transaction_that_ends_well_leaves_everything(self) -> None:
        claim = self.insert_and_claim()
        (record,) = self.insert()
        with self.store.transaction():
            self.store.apply([succeeded(claim)])
            self.claim(ids=[record.id])
        assert [found.state for found in self.store.get([claim.id, record.id])] == ["successful", "running"]
