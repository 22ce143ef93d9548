"""What goes in comes out as it was."""

from backroom.clock import SECOND
from backroom.testing.stores.case import NOW, StoreCase, ids_of, new_record


class Inserting(StoreCase):
    """Insert."""

    def test_a_record_comes_back_as_it_was_inserted(self) -> None:
        record = new_record(
            queue_name="mail",
            priority=-100,
            task_path="shop.tasks.send",
            payload='{"args":[1],"kwargs":{"a":null}}',
            overrides='{"max_attempts": 5}',
            metadata='{"trace":"abc"}',
            state="deferred",
            run_after=NOW + 5 * SECOND,
            due_at=NOW + 5 * SECOND,
            expires_at=NOW + 9 * SECOND,
            unique_key="k" * 64,
            unique_scope="window",
            unique_until=NOW + 99 * SECOND,
        )
        assert self.store.insert([record]) == {}
        assert self.store.get([record.id]) == [record]

    def test_records_inserted_together_come_back_as_they_were_inserted(self) -> None:
        records = [
            new_record(priority=priority, queue_name=f"queue {priority}", expires_at=NOW if priority else None)
            for priority in (-100, 0, 100)
        ]
        assert self.store.insert(records) == {}
        assert self.store.get(ids_of(records)) == records

    def test_moments_keep_their_microseconds(self) -> None:
        moment = 253_402_300_799_999_999
        many = [new_record(enqueued_at=moment - index) for index in range(3)]
        self.store.insert(many)
        assert [record.enqueued_at for record in self.store.get(ids_of(many))] == [moment, moment - 1, moment - 2]

    def test_inserting_nothing_does_nothing(self) -> None:
        assert self.store.insert([]) == {}
        assert self.store.counts() == {}

    def test_thousands_go_in_at_once(self) -> None:
        records = self.insert(6_001)
        assert self.store.counts() == {("default", "ready"): 6_001}
        assert self.store.get([records[0].id, records[-1].id]) == [records[0], records[-1]]

    def test_text_of_any_script_is_kept(self) -> None:
        text = "naïve 日本語 🦊 \\u0000 'quoted' \"twice\" %s %(name)s \\ {braces} $1"
        record = new_record(queue_name=text, task_path=text, payload=text, metadata=text, overrides=text)
        self.store.insert([record])
        also = [record._replace(id=f"{record.id}-{index}") for index in range(2)]
        self.store.insert(also)
        assert self.store.get(ids_of([record, *also])) == [record, *also]
        assert len(self.claim(9, queues=[text, "other"])) == 3

    def test_a_payload_of_a_megabyte_is_kept(self) -> None:
        (record,) = self.insert(payload='{"args":["' + "x" * 1_048_576 + '"],"kwargs":{}}')
        (claim,) = self.claim()
        assert claim.payload == record.payload
