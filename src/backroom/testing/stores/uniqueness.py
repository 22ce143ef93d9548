"""Of several with one key the store lets one in, and says which one it is."""

from backroom.clock import after
from backroom.tasks.policy import cancelled, requeued
from backroom.testing.stores.case import (
    NOW,
    RULES,
    StoreCase,
    crashed,
    failed,
    ids_of,
    new_record,
    raised,
    released,
    snoozed,
    succeeded,
    unique,
)


class Uniqueness(StoreCase):
    """Insert with a unique key."""

    def test_a_second_one_is_kept_out_and_told_who_holds_the_key(self) -> None:
        for scope in ("pending", "unfinished"):
            (holder,) = self.insert(**unique(scope, scope))
            second = new_record(**unique(scope, scope))
            assert self.store.insert([second]) == {second.id: holder.id}
            assert self.store.get([second.id]) == []

    def test_other_keys_and_no_key_collide_with_nothing(self) -> None:
        self.insert(**unique("a"))
        self.insert(**unique("A"))
        self.insert(2)

    def test_a_pending_key_is_free_once_its_task_starts(self) -> None:
        claim = self.insert_and_claim(**unique("a", "pending"))
        assert claim.unique_key is None
        (second,) = self.insert(**unique("a", "pending"))
        self.store.apply([released(claim)])
        third = new_record(**unique("a", "pending"))
        assert self.store.insert([third]) == {third.id: second.id}

    def test_an_unfinished_key_is_held_until_the_task_has_finished(self) -> None:
        claim = self.insert_and_claim(**unique("a"))
        for change in (raised, crashed, released, lambda claim: snoozed(claim, 0)):
            assert self._is_taken("a", claim.id)
            self.store.apply([change(claim)])
            assert self._is_taken("a", claim.id)
            (claim,) = self.claim(now=after(NOW, 60))
        self.finish(claim)
        self.insert(**unique("a"))

    def test_an_unfinished_key_is_free_after_a_failure_or_a_cancel(self) -> None:
        claim = self.insert_and_claim(**unique("a"))
        self.store.apply([failed(claim)])
        (second,) = self.insert(**unique("a"))
        self.store.apply([cancelled(second, rules=RULES, now=NOW)])
        self.insert(**unique("a"))

    def test_a_window_is_held_whatever_becomes_of_the_task(self) -> None:
        claim = self.insert_and_claim(**unique("a", "window", 60))
        self.store.apply([failed(claim)])
        late = new_record(enqueued_at=after(NOW, 60) - 1, **unique("a", "window", 120))
        assert self.store.insert([late]) == {late.id: claim.id}

    def test_a_window_that_has_passed_lets_the_next_one_in(self) -> None:
        (first,) = self.insert(**unique("a", "window", 60))
        later = new_record(enqueued_at=after(NOW, 60), **unique("a", "window", 120))
        assert self.store.insert([later]) == {}
        assert self.read(first) == first._replace(unique_key=None)
        third = new_record(enqueued_at=after(NOW, 61), **unique("a", "window", 121))
        assert self.store.insert([third]) == {third.id: later.id}

    def test_a_key_that_was_lost_while_its_task_ran_does_not_come_back(self) -> None:
        for change in (succeeded, failed, raised, crashed, released, lambda claim: snoozed(claim, 60)):
            claim = self.insert_and_claim(**unique("a", "window", 1))
            (second,) = self.insert(enqueued_at=after(NOW, 2), **unique("a", "window", 3))
            assert self.store.apply([change(claim)]) == {claim.id}
            assert self.read(claim).unique_key is None
            assert self.read(second).unique_key == "a"
            self.claim(ids=[second.id], now=after(NOW, 3))
            (third,) = self.insert(enqueued_at=after(NOW, 4), **unique("a", "window", 5))
            self.store.apply([cancelled(third, rules=RULES, now=after(NOW, 5))._replace(unique_key=None)])

    def test_of_one_batch_the_first_with_a_key_goes_in(self) -> None:
        first, second, other, third = batch = [
            new_record(**unique("a")),
            new_record(**unique("a")),
            new_record(**unique("b")),
            new_record(**unique("a")),
        ]
        assert self.store.insert(batch) == {second.id: first.id, third.id: first.id}
        assert ids_of(self.claim(9)) == ids_of([first, other])

    def test_a_batch_mixes_those_with_a_key_and_those_without(self) -> None:
        (holder,) = self.insert(**unique("a"))
        batch = [new_record(), new_record(**unique("a")), new_record(**unique("b")), new_record()]
        assert self.store.insert(batch) == {batch[1].id: holder.id}
        assert ids_of(self.store.get(ids_of(batch))) == [batch[0].id, batch[2].id, batch[3].id]

    def test_a_large_batch_lets_each_key_in_once(self) -> None:
        batch = [new_record(**unique(f"key {index % 100}")) for index in range(6_000)]
        collisions = self.store.insert(batch)
        assert collisions == {record.id: batch[index % 100].id for index, record in enumerate(batch) if index >= 100}

    def test_each_backend_has_keys_of_its_own(self) -> None:
        self.insert(**unique("a"))
        theirs = new_record(backend_name="theirs", **unique("a"))
        assert self.make_store("theirs").insert([theirs]) == {}

    def test_a_record_that_was_pruned_holds_no_key(self) -> None:
        claim = self.insert_and_claim(**unique("a", "window", 10))
        self.store.apply([succeeded(claim)._replace(prune_at=NOW)])
        assert self.store.prune(NOW, 9) == 1
        self.insert(**unique("a", "window", 10))

    def test_a_key_that_another_took_meanwhile_keeps_no_record_from_going_back_into_its_queue(self) -> None:
        claim = self.insert_and_claim(**unique("a"))
        finished = self.finish(claim)
        self.insert(**unique("a"))
        assert self.store.apply([requeued(finished)]) == {claim.id}

    def _is_taken(self, key: str, by: str) -> bool:
        record = new_record(**unique(key))
        return self.store.insert([record]) == {record.id: by}
