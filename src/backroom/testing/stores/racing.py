"""Several at once: no record is had by two, no key is held by two, and nobody waits for long."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from django.db import connections

from backroom.testing.stores.case import StoreCase, failed, ids_of, new_record, released, request, succeeded, unique

PATIENCE: Final = 60
"""Seconds after which a race that does not end has failed."""


class Racing(StoreCase):
    """Threads that do the same thing at the same time."""

    def test_no_record_is_claimed_by_two(self) -> None:
        records = self.insert(400)

        def drain(number: int) -> list[str]:
            claimed: list[str] = []
            while claims := self.store.claim(request(7, worker_id=f"worker-{number}")):
                claimed += ids_of(claims)
            return claimed

        claimed = [id_ for ids in race(drain, 8) for id_ in ids]
        # A worker that skips what others have locked may stop early; what is left is ready.
        claimed += ids_of(self.claim(400))
        assert sorted(claimed) == ids_of(records)
        assert {record.attempts for record in self.store.get(claimed)} == {1}

    def test_finishing_and_claiming_at_once_loses_nothing(self) -> None:
        records = self.insert(300)

        def work(number: int) -> list[str]:
            done: list[str] = []
            exchange = self.store.exchange([], request(5, worker_id=f"worker-{number}"))
            while exchange.claims:
                finished = [succeeded(claim) for claim in exchange.claims]
                exchange = self.store.exchange(finished, request(5, worker_id=f"worker-{number}"))
                done += exchange.applied
            return done

        done = [id_ for ids in race(work, 6) for id_ in ids]
        while claims := self.claim(50):
            done += self.store.apply([succeeded(claim) for claim in claims])
        assert sorted(done) == ids_of(records)
        assert self.store.counts() == {("default", "successful"): 300}

    def test_of_fifty_with_one_key_one_goes_in(self) -> None:
        records = [new_record(**unique("the key")) for _ in range(50)]
        collisions = race(lambda number: self.store.insert([records[number]]), 50)
        (holder,) = self.store.get(ids_of(records))
        assert {} in collisions
        assert {id_: by for each in collisions for id_, by in each.items()} == {
            record.id: holder.id for record in records if record.id != holder.id
        }

    def test_batches_with_the_same_keys_in_another_order_do_not_block_each_other(self) -> None:
        keys = [f"key {index}" for index in range(200)]

        def insert(number: int) -> int:
            ordered = keys if number % 2 else keys[::-1]
            batch = [new_record(**unique(key)) for key in ordered]
            return len(batch) - len(self.store.insert(batch))

        for _ in range(5):
            assert sum(race(insert, 4)) == len(keys)
            while claims := self.claim(len(keys)):
                self.store.apply([succeeded(claim) for claim in claims])

    def test_of_several_changes_to_one_claim_one_applies(self) -> None:
        claim = self.insert_and_claim()
        changes = [succeeded(claim), failed(claim), released(claim)] * 4
        applied = race(lambda number: self.store.apply([changes[number]]), len(changes))
        assert sorted(map(len, applied)) == [0] * 11 + [1]
        assert self.read(claim).fence == claim.fence + 1

    def test_batches_with_the_same_changes_in_another_order_do_not_block_each_other(self) -> None:
        self.insert(200)
        claims = self.claim(200)
        changes = [released(claim) for claim in claims]
        applied = race(lambda number: self.store.apply(changes if number % 2 else changes[::-1]), 6)
        assert sorted(id_ for ids in applied for id_ in ids) == ids_of(claims)

    def test_pruning_at_once_deletes_each_record_once(self) -> None:
        self.insert(200)
        self.store.apply([succeeded(claim)._replace(prune_at=1) for claim in self.claim(200)])

        def prune(_number: int) -> int:
            total = 0
            while pruned := self.store.prune(1, 9):
                total += pruned
            return total

        assert sum(race(prune, 4)) + self.store.prune(1, 200) == 200


def race[T](work: Callable[[int], T], count: int) -> list[T]:
    """Call `work` with 0, 1, 2… in so many threads, which all start together; return what they returned, in order."""
    line = threading.Barrier(count)

    def run(number: int) -> T:
        try:
            line.wait(PATIENCE)
            return work(number)
        finally:
            close_connections()

    with ThreadPoolExecutor(count) as pool:
        futures: list[Any] = [pool.submit(run, number) for number in range(count)]
        return [future.result(PATIENCE) for future in futures]


def close_connections() -> None:
    """Close the database connections of this thread, which ends."""
    for connection in connections.all(initialized_only=True):
        connection.close()
