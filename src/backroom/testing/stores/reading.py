"""What the store tells, and what it forgets."""

from typing import Any

from backroom.clock import after
from backroom.tasks.policy import cancelled, requeued
from backroom.tasks.records import Query, Record
from backroom.tasks.stores.base import COUNT_CAP
from backroom.testing.stores.case import NOW, RULES, StoreCase, deferred, failed, ids_of, request, succeeded, unique


class Reading(StoreCase):
    """Get, find, counts and prune."""

    def test_records_are_got_sorted_by_id(self) -> None:
        records = self.insert(3)
        asked = [records[2].id, "unknown", records[0].id, records[2].id]
        assert self.store.get(asked) == [records[0], records[2]]
        assert self.store.get([]) == []
        assert self.store.get(["unknown", "'; DROP TABLE x; --", "%"]) == []

    def test_what_cannot_be_an_id_is_unknown(self) -> None:
        (record,) = self.insert()
        for id_ in ("\0", f"{record.id}\0", "\ud800", "", "ü", "\\", '"'):
            assert self.store.get([id_, record.id]) == [record]
            assert self.store.request_cancel([id_]) == frozenset()
            assert self.store.claim(request(9, ids=[id_])) == []

    def test_the_newest_are_found_first(self) -> None:
        records = self.insert(3)
        assert self.store.find(Query()) == (records[::-1], None)

    def test_pages_join_without_gap_or_overlap(self) -> None:
        records = self.insert(10)
        assert self._pages(Query(), limit=3) == [records[9:6:-1], records[6:3:-1], records[3:0:-1], records[:1]]

    def test_a_last_page_that_is_full_is_the_last(self) -> None:
        records = self.insert(6)
        assert [len(page) for page in self._pages(Query(), limit=3)] == [3, 3]
        assert self.store.find(Query(), after=records[0].id) == ([], None)

    def test_a_record_that_arrives_between_two_pages_shifts_nothing(self) -> None:
        records = self.insert(4)
        page = self.store.find(Query(), limit=2)
        self.insert()
        assert self.store.find(Query(), after=page.next_after, limit=2) == (records[1::-1], None)

    def test_each_filter_finds_its_own(self) -> None:
        (mail,) = self.insert(queue_name="mail")
        (other,) = self.insert(task_path="shop.tasks.other")
        claim = self.insert_and_claim()
        (late,) = self.insert(**deferred(60))
        broken = self.insert_and_claim()
        self.store.apply([failed(broken)])
        for query, expected in (
            (Query(queue_name="mail"), [mail]),
            (Query(task_path="shop.tasks.other"), [other]),
            (Query(worker_id="worker-1"), [claim]),
            (Query(reason="error"), [broken]),
            (Query(reason="lost"), []),
            (Query(states=("ready",)), [other, mail]),
            (Query(states=("running", "deferred")), [late, claim]),
            (Query(states=("ready",), queue_name="mail"), [mail]),
            (Query(states=("failed",), queue_name="mail"), []),
        ):
            assert ids_of(self.store.find(query).records) == ids_of(expected), query

    def test_a_filter_holds_from_page_to_page(self) -> None:
        wanted = [self.insert(queue_name=name)[0] for name in ("mail", "print") * 5][::2]
        assert sum(self._pages(Query(queue_name="mail"), limit=2), []) == wanted[::-1]  # noqa: RUF017 - three lists

    def test_each_queue_and_state_is_counted(self) -> None:
        self.insert(3)
        self.insert(2, queue_name="mail")
        self.insert(queue_name="mail", **deferred(60))
        self.insert_and_claim(queue_name="print")
        self.finish(self.insert_and_claim())
        self.store.apply([failed(self.insert_and_claim())])
        assert self.store.counts() == {
            ("default", "ready"): 3,
            ("mail", "ready"): 2,
            ("mail", "deferred"): 1,
            ("print", "running"): 1,
            ("default", "successful"): 1,
            ("default", "failed"): 1,
        }

    def test_an_empty_store_counts_nothing(self) -> None:
        assert self.store.counts() == {}

    def test_counting_stops_at_the_cap(self) -> None:
        self.insert(COUNT_CAP + 10)
        self.insert(3, queue_name="mail")
        assert self.store.counts() == {("default", "ready"): COUNT_CAP, ("mail", "ready"): 3}

    def test_many_of_one_state_hide_none_of_another(self) -> None:
        self.insert(COUNT_CAP + 10)
        while claims := self.claim(5_000):
            self.store.apply([succeeded(claim) for claim in claims])
        self.store.apply([failed(self.insert_and_claim(queue_name="mail"))])
        self.insert(queue_name="mail", **deferred(60))
        assert self.store.counts() == {
            ("default", "successful"): COUNT_CAP,
            ("mail", "failed"): 1,
            ("mail", "deferred"): 1,
        }

    def test_each_queue_tells_its_oldest_ready_record(self) -> None:
        assert self.store.oldest_ready() == []
        self.insert_and_claim()
        self.insert(**deferred(60))
        (oldest,) = self.insert(priority=-100)
        (mail,) = self.insert(queue_name="mail", priority=5)
        self.insert(priority=100)
        self.insert(queue_name="mail")
        self.finish(self.insert_and_claim(queue_name="print"))
        assert self.store.oldest_ready() == [oldest, mail]

    def test_a_queue_whose_one_finished_record_goes_back_into_it_is_no_empty_one(self) -> None:
        # Of several names, as the order in which a store counts what went and what came may hang on them.
        for name in map("queue-{}".format, range(10)):
            (record,) = self.insert(queue_name=name)
            self.store.apply([cancelled(record, rules=RULES, now=NOW)])
            self.store.apply([requeued(self.read(record))])
            assert ids_of(self.store.oldest_ready()) == [record.id]
            assert ids_of(self.claim(10)) == [record.id]

    def test_what_has_been_kept_long_enough_is_pruned(self) -> None:
        old = self._finished(prune_at=NOW)
        young = self._finished(prune_at=NOW + 1)
        self.store.apply([failed(self.insert_and_claim())._replace(prune_at=NOW - 1)])
        assert self.store.prune(NOW, 100) == 2
        assert self.store.get([old.id, young.id]) == [young]
        assert self.store.prune(NOW, 100) == 0

    def test_pruning_stays_within_its_limit(self) -> None:
        for _ in range(5):
            self._finished(prune_at=NOW)
        assert [self.store.prune(NOW, 2) for _ in range(4)] == [2, 2, 1, 0]

    def test_what_has_not_finished_is_never_pruned(self) -> None:
        self.insert(expires_at=NOW, **unique("a"))
        self.insert(**deferred(1))
        self.insert_and_claim()
        assert self.store.prune(after(NOW, 10 * 365 * 86_400), 100) == 0

    def _finished(self, **values: Any) -> Record:
        claim = self.insert_and_claim()
        self.store.apply([succeeded(claim)._replace(**values)])
        return self.read(claim)

    def _pages(self, query: Query, *, limit: int) -> list[list[Record]]:
        pages = [self.store.find(query, limit=limit)]
        while (after_id := pages[-1].next_after) is not None:
            pages.append(self.store.find(query, after=after_id, limit=limit))
        return [page.records for page in pages]
