"""A lease is renewed by who holds it, and whoever lets it run out is found."""

from backroom.clock import after
from backroom.tasks.records import Held, Renewal
from backroom.tasks.stores.base import Mark
from backroom.testing.stores.case import LEASE, NOW, StoreCase, crashed, deferred, ids_of, succeeded


class Leasing(StoreCase):
    """Renew, overdue, unstarted and upcoming."""

    def test_renewing_moves_the_end_of_the_lease_and_nothing_else(self) -> None:
        claim = self.insert_and_claim()
        held = self.store.renew([Renewal(claim.id, claim.fence)], after(NOW, 90))
        assert held == Held(frozenset({claim.id}), frozenset())
        assert self.read(claim) == claim._replace(lease_until=after(NOW, 90))

    def test_a_renewal_says_which_claims_are_lost(self) -> None:
        self.insert(5)
        kept, finished, taken, waiting, _ = claims = self.claim(5)
        self.store.apply([succeeded(finished), crashed(taken), crashed(waiting)])
        self.claim(worker_id="worker-2", ids=[taken.id])
        asked = [*(Renewal(claim.id, claim.fence) for claim in claims[:4]), Renewal("unknown", 1)]
        before = self.store.get(ids_of([finished, taken, waiting]))
        assert self.store.renew(asked, after(NOW, 90)).ids == {kept.id}
        assert self.store.get(ids_of([finished, taken, waiting])) == before

    def test_a_renewal_notes_progress_where_there_is_news(self) -> None:
        self.insert(2)
        first, second = self.claim(2)
        self.store.renew([Renewal(first.id, 1, '[1, 2, "日本"]'), Renewal(second.id, 1)], after(NOW, 60))
        assert self.read(first).progress == '[1, 2, "日本"]'
        assert self.read(second).progress == ""
        self.store.renew([Renewal(first.id, 1)], after(NOW, 60))
        assert self.read(first).progress == '[1, 2, "日本"]'

    def test_a_renewal_says_which_claims_somebody_wants_cancelled(self) -> None:
        self.insert(2)
        first, second = self.claim(2)
        self.store.request_cancel([second.id])
        renewals = [Renewal(claim.id, claim.fence) for claim in (first, second)]
        assert self.store.renew(renewals, after(NOW, 60)) == Held(
            frozenset({first.id, second.id}), frozenset({second.id})
        )

    def test_a_worker_learns_which_of_its_claims_somebody_wants_cancelled(self) -> None:
        self.insert(4)
        mine, unasked, finished = self.claim(3, worker_id="worker-1")
        (theirs,) = self.claim(1, worker_id="worker-2")
        self.store.request_cancel(ids_of([mine, finished, theirs]))
        self.store.apply([succeeded(finished)])
        assert self.store.cancelling("worker-1") == {mine.id}
        assert self.store.cancelling("worker-2") == {theirs.id}
        assert self.store.cancelling("worker-3") == frozenset()
        assert not self.read(unasked).cancel_requested

    def test_renewing_nothing_holds_nothing(self) -> None:
        assert self.store.renew([], after(NOW, 60)) == Held(frozenset(), frozenset())

    def test_a_lease_runs_out_at_its_last_moment(self) -> None:
        claim = self.insert_and_claim()
        assert self.store.overdue(9, after(NOW, LEASE) - 1) == []
        assert self.store.overdue(9, after(NOW, LEASE)) == [claim]

    def test_a_renewed_claim_is_not_overdue(self) -> None:
        claim = self.insert_and_claim()
        self.store.renew([Renewal(claim.id, claim.fence)], after(NOW, 2 * LEASE))
        assert self.store.overdue(9, after(NOW, LEASE)) == []

    def test_the_longest_overdue_come_first_and_no_more_than_asked_for(self) -> None:
        records = self.insert(4)
        for record, lease in zip(records, (30, 10, 20, 10), strict=True):
            self.claim(ids=[record.id], lease=lease)
        expected = [records[index].id for index in (1, 3, 2, 0)]
        assert ids_of(self.store.overdue(9, after(NOW, 60))) == expected
        assert ids_of(self.store.overdue(2, after(NOW, 60))) == expected[:2]
        assert self.store.overdue(0, after(NOW, 60)) == []

    def test_only_running_records_are_overdue(self) -> None:
        self.insert()
        self.finish(self.insert_and_claim())
        self.store.apply([crashed(self.insert_and_claim())])
        assert self.store.overdue(9, after(NOW, 3600)) == []

    def test_what_comes_due_is_found_the_first_due_first(self) -> None:
        (third,) = self.insert(**deferred(20))
        (first,) = self.insert(**deferred(10))
        (fourth,) = self.insert(**deferred(20))
        (second,) = self.insert(**deferred(10))
        self.insert(**deferred(21))
        self.insert()
        due = self.store.upcoming(10, after(NOW, 20))
        assert [record.id for record in due] == [first.id, second.id, third.id, fourth.id]
        assert self.store.upcoming(3, after(NOW, 20)) == due[:3]
        assert self.store.upcoming(10, after(NOW, 9)) == []

    def test_what_comes_due_is_gone_through_from_mark_to_mark(self) -> None:
        moments = [10, 10, 10, 20, 20, 30]
        records = [self.insert(**deferred(seconds))[0] for seconds in moments]
        mark, found = Mark(), []
        while page := self.store.upcoming(2, after(NOW, 30), mark):
            found += [record.id for record in page]
            mark = Mark(page[-1].due_at or 0, page[-1].id)
        assert found == [record.id for record in records]

    def test_a_mark_whose_record_is_due_no_more_still_stands_where_it_stood(self) -> None:
        first, second, third = [self.insert(**deferred(10))[0] for _ in range(3)]
        mark = Mark(second.due_at or 0, second.id)
        self.claim(ids=(second.id,), now=after(NOW, 10))
        left = [record.id for record in self.store.upcoming(10, after(NOW, 10), mark)]
        # Whether the others were made ready with it is the store's to choose.
        assert left in ([third.id], [])
        assert first.id not in left

    def test_what_was_not_started_in_time_is_found_the_longest_expired_first(self) -> None:
        (second,) = self.insert(expires_at=after(NOW, 20))
        (first,) = self.insert(expires_at=after(NOW, 10), **deferred(5))
        (third,) = self.insert(expires_at=after(NOW, 20))
        self.insert(expires_at=after(NOW, 21))
        self.insert()
        expected = ids_of([first, second, third])
        assert ids_of(self.store.unstarted(9, after(NOW, 20))) == expected
        assert ids_of(self.store.unstarted(2, after(NOW, 20))) == expected[:2]
        assert self.store.unstarted(9, after(NOW, 10) - 1) == []

    def test_what_was_started_in_time_is_not_found(self) -> None:
        claim = self.insert_and_claim(expires_at=after(NOW, 10))
        assert self.store.unstarted(9, after(NOW, 60)) == []
        self.finish(claim)
        assert self.store.unstarted(9, after(NOW, 60)) == []
