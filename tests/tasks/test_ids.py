import uuid
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

from backroom.tasks import ids
from backroom.tasks.ids import new_id, new_ids


def test_an_id_is_a_uuid_of_version_7_and_fits_64_characters():
    parsed = uuid.UUID(new_id())
    assert parsed.version == 7
    assert parsed.variant == uuid.RFC_4122
    assert len(new_id()) == 32


def test_each_id_is_greater_than_the_one_before():
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_threads_share_one_order():
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda _: [new_id() for _ in range(2_000)], range(8)))
    assert all(batch == sorted(batch) for batch in batches)
    assert len({id_ for batch in batches for id_ in batch}) == 16_000


def test_ids_of_different_times_sort_by_time():
    with mock.patch.object(ids, "_last", 0), mock.patch("time.time_ns") as time_ns:
        made = []
        for time_ns.return_value in (10**18, 10**18 + 300, 10**18 + 1_000_000, 2 * 10**18):
            made.append(new_id())
    assert made == sorted(made)


def test_a_clock_that_goes_back_does_not_turn_the_order_round():
    with mock.patch.object(ids, "_last", 0), mock.patch("time.time_ns") as time_ns:
        made = []
        for time_ns.return_value in (10**18, 10**18 - 10**12, 10**18 - 1):
            made.append(new_id())
    assert made == sorted(made)


def test_an_id_says_when_it_was_made():
    with mock.patch.object(ids, "_last", 0), mock.patch("time.time_ns", return_value=1_900_000_000_123_456_789):
        assert int(new_id()[:12], 16) == 1_900_000_000_123


def test_many_ids_are_like_single_ones():
    before, many, after = new_id(), new_ids(5_000), new_id()
    assert [before, *many, after] == sorted({before, *many, after})
    parsed = [uuid.UUID(id_) for id_ in many]
    assert {each.version for each in parsed} == {7}
    assert {each.variant for each in parsed} == {uuid.RFC_4122}
    assert len({id_[16:] for id_ in many}) == 5_000
    assert {id_[16] for id_ in many} == set("89ab")


def test_no_ids_are_none():
    assert new_ids(0) == []


def test_threads_share_one_order_of_many():
    with ThreadPoolExecutor(8) as pool:
        batches = list(pool.map(lambda number: [*new_ids(100 + number), new_id()], range(200)))
    made = [id_ for batch in batches for id_ in batch]
    assert len({id_[:16] for id_ in made}) == len(made)
    assert all(batch == sorted(batch) for batch in batches)
