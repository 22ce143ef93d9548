"""Who gets what, and in which order."""

from backroom.clock import SECOND, after
from backroom.testing.stores.case import (
    LEASE,
    NOW,
    StoreCase,
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


class Claiming(StoreCase):
    """Claim."""

    def test_nothing_to_claim_gives_nothing(self) -> None:
        assert self.claim(10) == []

    def test_the_higher_priority_goes_first_and_the_older_one_within_it(self) -> None:
        (low,) = self.insert(priority=-100)
        first, second = self.insert(2)
        (high,) = self.insert(priority=100)
        (middle,) = self.insert(priority=1)
        assert ids_of(self.claim(9)) == ids_of([high, middle, first, second, low])

    def test_order_holds_from_one_claim_to_the_next(self) -> None:
        records = self.insert(5)
        (urgent,) = self.insert(priority=5)
        assert [ids_of(self.claim(2)) for _ in range(4)] == [
            ids_of([urgent, records[0]]),
            ids_of(records[1:3]),
            ids_of(records[3:]),
            [],
        ]

    def test_a_claim_takes_no_more_than_asked_for(self) -> None:
        self.insert(5)
        assert len(self.claim(3)) == 3
        assert len(self.claim(3)) == 2

    def test_a_limit_of_nought_claims_nothing(self) -> None:
        self.insert()
        assert self.claim(0) == []

    def test_what_is_claimed_is_running_and_leased_to_the_worker(self) -> None:
        (record,) = self.insert()
        (claim,) = self.claim(worker_id="worker-7")
        assert claim == record._replace(
            state="running",
            fence=1,
            attempts=1,
            started_at=NOW,
            last_attempted_at=NOW,
            lease_until=after(NOW, LEASE),
            worker_id="worker-7",
            worker_ids="worker-7 ",
        )
        assert self.read(record) == claim

    def test_a_later_attempt_is_added_to_the_first_ones(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([raised(claim)])
        (again,) = self.claim(now=after(NOW, 60), worker_id="worker-2")
        assert again.fence == 3
        assert again.attempts == 2
        assert again.worker_ids.split() == ["worker-1", "worker-2"]
        assert again.started_at == NOW
        assert again.last_attempted_at == after(NOW, 60)

    def test_what_runs_or_has_finished_is_not_claimed(self) -> None:
        self.finish(self.insert_and_claim())
        self.store.apply([failed(self.insert_and_claim())])
        self.insert_and_claim()
        assert self.claim(9, now=after(NOW, 3600)) == []

    def test_only_the_queues_asked_for_are_claimed_from(self) -> None:
        (mail,) = self.insert(queue_name="mail")
        (print_,) = self.insert(queue_name="print")
        self.insert(queue_name="other")
        assert ids_of(self.claim(9, queues=["mail"])) == [mail.id]
        assert ids_of(self.claim(9, queues=["mail", "print", "nobody's"])) == [print_.id]
        assert self.claim(9, queues=["nobody's"]) == []

    def test_order_holds_across_several_queues(self) -> None:
        (slow,) = self.insert(queue_name="a", priority=-1)
        (first,) = self.insert(queue_name="b")
        (second,) = self.insert(queue_name="a")
        (urgent,) = self.insert(queue_name="c", priority=1)
        (third,) = self.insert(queue_name="b")
        assert ids_of(self.claim(3, queues=["a", "b", "c"])) == ids_of([urgent, first, second])
        assert ids_of(self.claim(3)) == ids_of([third, slow])

    def test_order_holds_across_very_many_queues(self) -> None:
        queues = [f"queue {number}" for number in range(600)]
        records = [new_record(queue_name=name, priority=number % 7) for number, name in enumerate(queues)]
        records += [new_record(queue_name=name, priority=number % 3) for number, name in enumerate(queues[:90])]
        assert self.store.insert(records) == {}
        wanted = ids_of(sorted(records, key=lambda record: (-record.priority, record.id)))
        assert ids_of(self.claim(1)) == wanted[:1]
        assert ids_of(self.claim(130)) == wanted[1:131]
        assert ids_of(self.claim(70, queues=queues)) == wanted[131:201]
        assert ids_of(self.claim(1_000)) == wanted[201:]
        assert self.claim(9, queues=queues) == self.claim(9) == []

    def test_others_tasks_are_left_by_who_asks_for_very_many_queues(self) -> None:
        queues = [f"queue {number}" for number in range(120)]
        records = [new_record(queue_name=name) for name in queues]
        assert self.store.insert(records) == {}
        assert ids_of(self.claim(70, queues=queues[1::2])) == ids_of(records[1::2])
        assert ids_of(self.claim(70)) == ids_of(records[::2])

    def test_very_many_queues_are_claimed_from_whatever_has_to_be_done_first(self) -> None:
        first = self.insert_and_claim()
        self.store.insert([new_record(queue_name=f"queue {number}", **deferred(1)) for number in range(600)])
        exchange = self.store.exchange([succeeded(first)], request(600, now=after(NOW, 1)))
        assert exchange.applied == {first.id}
        assert len(exchange.claims) == 600

    def test_a_queue_that_is_named_twice_gives_what_it_has_once(self) -> None:
        records = self.insert(10, queue_name="mail")
        assert ids_of(self.claim(4, queues=["mail", "mail"])) == ids_of(records[:4])
        assert ids_of(self.claim(9, queues=["mail", "print", "mail"])) == ids_of(records[4:])

    def test_a_name_is_not_a_pattern_and_case_matters(self) -> None:
        self.insert(queue_name="Mail")
        assert self.claim(9, queues=["mail", "%", "M*", "Mai_"]) == []

    def test_a_deferred_record_is_not_claimed_before_it_is_due(self) -> None:
        (record,) = self.insert(**deferred(10))
        assert self.claim(now=after(NOW, 10) - 1) == []
        assert self.read(record).state == "deferred"
        (claim,) = self.claim(now=after(NOW, 10))
        assert claim.id == record.id
        assert claim.due_at is None
        assert claim.run_after == after(NOW, 10)

    def test_due_records_stand_in_line_by_priority_and_age(self) -> None:
        (late,) = self.insert(**deferred(20))
        (early,) = self.insert(**deferred(10))
        (ready,) = self.insert()
        (urgent,) = self.insert(priority=1, **deferred(20))
        assert ids_of(self.claim(9, now=after(NOW, 20))) == ids_of([urgent, late, early, ready])

    def test_a_deferred_record_of_another_queue_stays_away(self) -> None:
        self.insert(queue_name="mail", **deferred(10))
        assert self.claim(9, queues=["print"], now=after(NOW, 20)) == []
        assert len(self.claim(9, queues=["mail"], now=after(NOW, 20))) == 1

    def test_a_thousand_due_records_are_all_claimed(self) -> None:
        self.insert(1_100, **deferred(10))
        assert len([claim for _ in range(12) for claim in self.claim(100, now=after(NOW, 10))]) == 1_100

    def test_ids_say_which_are_claimed(self) -> None:
        first, second, third = self.insert(3)
        assert ids_of(self.claim(9, ids=[third.id, first.id, "unknown"])) == [first.id, third.id]
        assert ids_of(self.claim(9)) == [second.id]

    def test_ids_that_are_not_to_be_had_are_left_out(self) -> None:
        claimed = self.insert_and_claim()
        (waiting,) = self.insert(**deferred(10))
        assert self.claim(9, ids=[claimed.id, waiting.id]) == []
        assert ids_of(self.claim(9, ids=[waiting.id], now=after(NOW, 10))) == [waiting.id]

    def test_no_ids_are_not_all_ids(self) -> None:
        self.insert()
        assert self.claim(9, ids=[]) == []

    def test_ids_keep_to_the_queues_asked_for(self) -> None:
        (mail,) = self.insert(queue_name="mail")
        self.insert(queue_name="print")
        assert self.claim(9, ids=[mail.id], queues=["print"]) == []
        assert ids_of(self.claim(9, ids=[mail.id], queues=["print", "mail"])) == [mail.id]

    def test_what_was_given_back_is_claimed_again_in_its_old_place(self) -> None:
        claim = self.insert_and_claim()
        self.insert(2)
        self.store.apply([released(claim)])
        (again, _, _) = self.claim(9, worker_id="worker-2")
        assert again.id == claim.id
        assert (again.attempts, again.worker_ids) == (1, "worker-2 ")

    def test_what_snoozed_is_claimed_when_it_wakes(self) -> None:
        claim = self.insert_and_claim()
        self.store.apply([snoozed(claim, 60)])
        assert self.claim(now=after(NOW, 59)) == []
        assert ids_of(self.claim(now=after(NOW, 60))) == [claim.id]

    def test_an_expired_record_is_still_claimed(self) -> None:
        # Whoever claims it fails it: the store decides nothing.
        (record,) = self.insert(expires_at=NOW - SECOND)
        assert ids_of(self.store.claim(request())) == [record.id]
