"""Every change compares the fence before it sets anything."""

from backroom.clock import after
from backroom.tasks.policy import advanced, cancelled, requeued
from backroom.tasks.stores.base import Exchange
from backroom.testing.stores.case import (
    NOW,
    RULES,
    StoreCase,
    crashed,
    deferred,
    failed,
    ids_of,
    new_record,
    raised,
    released,
    request,
    snoozed,
    succeeded,
)


class Changing(StoreCase):
    """Apply, exchange and request_cancel."""

    def test_a_success_is_written_whole(self) -> None:
        claim = self.insert_and_claim()
        assert self.store.apply([succeeded(claim, "[1, null]", now=after(NOW, 1))]) == {claim.id}
        assert self.read(claim) == claim._replace(
            state="successful",
            fence=2,
            result="[1, null]",
            finished_at=after(NOW, 1),
            prune_at=after(NOW, 1 + RULES.keep_seconds),
            lease_until=None,
            worker_id="",
        )

    def test_a_failed_attempt_that_will_be_retried_is_written_whole(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([raised(claim)])
        assert self.read(claim) == claim._replace(
            state="deferred",
            fence=2,
            failures=1,
            due_at=after(NOW, 60),
            errors='[["builtins.ValueError", "ValueError: out of paper\\n"]]',
            lease_until=None,
            worker_id="",
        )

    def test_a_failure_is_written_whole(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([failed(claim)])
        assert self.read(claim) == claim._replace(
            state="failed",
            reason="error",
            fence=2,
            failures=1,
            errors='[["builtins.ValueError", "ValueError: out of paper\\n"]]',
            finished_at=NOW,
            prune_at=after(NOW, RULES.keep_failed_seconds),
            lease_until=None,
            worker_id="",
        )

    def test_what_was_given_back_is_as_if_it_had_never_been_claimed(self) -> None:
        (record,) = self.insert()
        (claim,) = self.claim()
        self.store.apply([released(claim)])
        assert self.read(record) == record._replace(fence=2, last_attempted_at=NOW)

    def test_a_lost_worker_counts_as_an_attempt(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([crashed(claim)])
        found = self.read(claim)
        assert (found.state, found.crashes, found.attempts, found.failures) == ("ready", 1, 1, 0)

    def test_who_read_an_older_fence_changes_nothing(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([crashed(claim)])
        (current,) = self.claim(worker_id="worker-2")
        for late in (succeeded(claim), raised(claim), released(claim), snoozed(claim, 1), crashed(claim)):
            assert self.store.apply([late]) == frozenset()
        assert self.read(claim) == current

    def test_the_second_of_two_changes_loses(self) -> None:
        claim = self.insert_and_claim()
        assert self.store.apply([succeeded(claim)]) == {claim.id}
        assert self.store.apply([failed(claim)]) == frozenset()
        assert self.read(claim).state == "successful"

    def test_a_fence_from_the_future_changes_nothing(self) -> None:
        claim = self.insert_and_claim()
        assert self.store.apply([succeeded(claim)._replace(fence=claim.fence + 1)]) == frozenset()
        assert self.read(claim) == claim

    def test_of_a_batch_only_the_held_ones_apply(self) -> None:
        self.insert(6)
        claims = self.claim(6)
        self.store.apply([crashed(claim) for claim in claims[::2]])
        unknown = succeeded(claims[0])._replace(id="unknown")
        assert self.store.apply([unknown, *map(succeeded, reversed(claims))]) == set(ids_of(claims[1::2]))
        assert [record.state for record in self.store.get(ids_of(claims))] == ["ready", "successful"] * 3

    def test_a_batch_of_different_changes_gives_each_record_its_own(self) -> None:
        self.insert(5)
        claims = self.claim(5)
        changes = [
            succeeded(claims[0], '"a"'),
            raised(claims[1]),
            snoozed(claims[2], 5),
            released(claims[3]),
            failed(claims[4]),
        ]
        self.store.apply(changes)
        found = self.store.get(ids_of(claims))
        assert [record.state for record in found] == ["successful", "deferred", "deferred", "ready", "failed"]
        assert [record.due_at for record in found] == [None, after(NOW, 60), after(NOW, 5), None, None]
        assert [record.result for record in found] == ['"a"', None, None, None, None]

    def test_applying_nothing_does_nothing(self) -> None:
        assert self.store.apply([]) == frozenset()

    def test_waiting_records_are_changed_in_the_same_way(self) -> None:
        (ready,) = self.insert()
        (late,) = self.insert(**deferred(60))
        changes = [cancelled(ready, rules=RULES, now=NOW), advanced(late)]
        assert self.store.apply(changes) == {ready.id, late.id}
        assert [(record.state, record.reason, record.due_at) for record in self.store.get(ids_of([ready, late]))] == [
            ("failed", "cancelled", None),
            ("ready", "", None),
        ]

    def test_a_claim_that_came_first_beats_a_cancel(self) -> None:
        (record,) = self.insert()
        cancel = cancelled(record, rules=RULES, now=NOW)
        self.claim()
        assert self.store.apply([cancel]) == frozenset()
        assert self.read(record).state == "running"

    def test_a_finished_record_that_is_put_back_can_be_claimed_again(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([failed(claim)])
        self.store.apply([requeued(self.read(claim))])
        found = self.read(claim)
        assert (found.state, found.reason, found.failures) == ("ready", "", 0)
        assert (found.finished_at, found.prune_at) == (None, None)
        (again,) = self.claim()
        assert (again.id, again.attempts, again.fence) == (claim.id, 2, 4)

    def test_a_change_keeps_the_request_to_cancel_and_the_progress_unless_it_names_them(self) -> None:
        claim = self.insert_and_claim()
        self.store.request_cancel([claim.id])
        self.store.apply([released(claim)._replace(progress='[1, 2, "half"]')])
        (again,) = self.claim()
        assert again.cancel_requested
        assert again.progress == '[1, 2, "half"]'
        self.store.apply([released(again)._replace(cancel_requested=False)])
        found = self.read(claim)
        assert not found.cancel_requested
        assert found.progress == '[1, 2, "half"]'

    def test_errors_and_results_of_any_script_are_kept(self) -> None:
        text = "日本語 🦊 \\u0000 'quoted' \"twice\" %s \\ {}"
        claim = self.insert_and_claim()
        self.store.apply([failed(claim)._replace(errors=text, progress=text, result=text)])
        found = self.read(claim)
        assert (found.errors, found.progress, found.result) == (text, text, text)

    def test_an_exchange_applies_and_claims(self) -> None:
        self.insert(4)
        claims = self.claim(2)
        exchange = self.store.exchange([succeeded(claim) for claim in claims], request(9, worker_id="worker-2"))
        assert exchange.applied == set(ids_of(claims))
        assert [claim.worker_id for claim in exchange.claims] == ["worker-2"] * 2
        assert self.store.counts() == {("default", "successful"): 2, ("default", "running"): 2}

    def test_an_exchange_claims_what_it_has_just_made_ready(self) -> None:
        claim = self.insert_and_claim()
        exchange = self.store.exchange([released(claim)], request(9))
        assert exchange.applied == {claim.id}
        assert ids_of(exchange.claims) == [claim.id]

    def test_an_exchange_claims_although_its_changes_come_too_late(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([crashed(claim)])
        self.insert()
        exchange = self.store.exchange([succeeded(claim)], request(9))
        assert exchange.applied == frozenset()
        assert len(exchange.claims) == 2

    def test_an_exchange_may_only_apply_or_only_claim(self) -> None:
        claim = self.insert_and_claim()
        self.insert()
        assert self.store.exchange([succeeded(claim)], None) == Exchange(frozenset({claim.id}), [])
        assert len(self.store.exchange([], request()).claims) == 1
        assert self.store.exchange([], request()) == Exchange(frozenset(), [])
        assert self.store.exchange([], None) == Exchange(frozenset(), [])

    def test_only_running_records_are_asked_to_cancel(self) -> None:
        claim = self.insert_and_claim()
        (waiting,) = self.insert()
        finished = self.finish(self.insert_and_claim())
        asked = [finished.id, waiting.id, claim.id, "unknown"]
        assert self.store.request_cancel(asked) == {claim.id}
        assert self.read(claim) == claim._replace(cancel_requested=True)
        assert self.store.request_cancel([claim.id]) == {claim.id}
        assert not self.read(waiting).cancel_requested
        assert not self.read(finished).cancel_requested
        assert self.store.request_cancel([]) == frozenset()

    def test_a_record_that_was_never_inserted_cannot_be_changed(self) -> None:
        assert self.store.apply([released(new_record(state="running", attempts=1))]) == frozenset()
